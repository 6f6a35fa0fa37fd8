package op

import "time"

// Types of the events of an op's stream, as stored.
const (
	TypeStarted     = "OpStarted"
	TypeLaunching   = "OpLaunching"
	TypeTaskRunning = "OpTaskRunning"
	TypeSucceeded   = "OpSucceeded"
	TypeFailed      = "OpFailed"
	TypeVoided      = "OpVoided"
)

// An Event is one fact in an op's life.
type Event interface {
	// Type is the event's type as stored.
	Type() string
	header() *Header
}

// Header is what every event of an op says.
type Header struct {
	OpID     string    `json:"op_id"` // of the attempt
	Nonce    Nonce     `json:"nonce"`
	Attempt  int       `json:"attempt"` // from 1
	Class    Class     `json:"class"`
	Target   Target    `json:"target"`
	Agent    string    `json:"agent"`
	Instance string    `json:"instance"` // the process that wrote the event
	Epoch    uint64    `json:"epoch"`    // of the launcher; 0 while there is no election
	At       time.Time `json:"at"`       // UTC, never earlier than the event before
}

func (h *Header) header() *Header { return h }

// HeaderOf gives what an event says as every event does.
func HeaderOf(e Event) Header { return *e.header() }

// Signer is one signature that counted.
type Signer struct {
	Person string `json:"person"`
	Key    string `json:"key"` // fingerprint, "SHA256:" and unpadded base64 as OpenSSH shows it
}

// Started claims the op for one attempt. It is on record before anything is
// sent to the host, and says everything an audit needs to decide again.
type Started struct {
	Header

	// Claim is 128 random bits, made anew by each claimant, so that no two
	// claimants ever share an event id.
	Claim Claim `json:"claim"`
	// Intent is what the caller asked for.
	Intent Intent `json:"intent"`
	// Envelope is the writ exactly as received; base64 in the stored JSON.
	// Empty for a keyless op.
	Envelope []byte `json:"envelope,omitempty"`
	// PayloadSHA256 is the digest of the signed document's bytes. The first
	// OpStarted of a stream pins it for ever.
	PayloadSHA256 Digest   `json:"payload_sha256"`
	Signers       []Signer `json:"signers"`
	Role          string   `json:"role,omitempty"`
	// PolicySerial is the policy that allowed it.
	PolicySerial uint64 `json:"policy_serial"`
	// Facts are those the gate used.
	Facts       Facts  `json:"facts"`
	SubmittedBy string `json:"submitted_by,omitempty"`
	// Keyless marks a benign op that ran without a signature.
	Keyless bool `json:"keyless,omitzero"`
}

// Launching announces the one request of the attempt. From here on the
// request may be on its way.
type Launching struct {
	Header

	Node       string   `json:"node"`
	Credential string   `json:"credential"` // the auth id that sends it
	Request    Request  `json:"request"`
	Observed   Observed `json:"observed"`

	// PolicySerial and Facts are what the gate decided by when it was asked
	// once more, right before.
	PolicySerial uint64 `json:"policy_serial"`
	Facts        Facts  `json:"facts"`
}

// TaskRunning says that the host has taken the request.
type TaskRunning struct {
	Header

	UPID    string `json:"upid"`    // empty if the op was synchronous
	Adopted bool   `json:"adopted"` // found by recovery, not answered to the request
}

// Succeeded ends the op: the effect is proven.
type Succeeded struct {
	Header

	ExitStatus string   `json:"exit_status"`
	Evidence   Evidence `json:"evidence"`
	// Residue are volumes that the host could not remove.
	Residue []string `json:"residue,omitempty"`
	// Resolution is the signed word of people on which the success rests; nil
	// if the host's state proved it.
	Resolution *Resolved `json:"resolution,omitempty"`
}

// Failed ends the attempt. Only effect none leaves the way open for another.
type Failed struct {
	Header

	Kind     FailureKind `json:"kind"`
	Effect   Effect      `json:"effect"`
	Message  string      `json:"message"`
	LogTail  []string    `json:"log_tail,omitempty"`
	Evidence *Evidence   `json:"evidence,omitempty"`
	// Reason is the gate's, if the kind is refused.
	Reason string `json:"reason,omitempty"`
	// Resolution is the signed one, if the kind is resolved.
	Resolution *Resolved `json:"resolution,omitempty"`
}

// Voided ends an op before it ran: the writ was taken back.
type Voided struct {
	Header

	Reason   string `json:"reason"`
	VoidedBy string `json:"voided_by"`
}

// Type implements Event.
func (*Started) Type() string { return TypeStarted }

// Type implements Event.
func (*Launching) Type() string { return TypeLaunching }

// Type implements Event.
func (*TaskRunning) Type() string { return TypeTaskRunning }

// Type implements Event.
func (*Succeeded) Type() string { return TypeSucceeded }

// Type implements Event.
func (*Failed) Type() string { return TypeFailed }

// Type implements Event.
func (*Voided) Type() string { return TypeVoided }
