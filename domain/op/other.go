package op

import "time"

// Types of the events that are about ops but stand in other streams.
const (
	TypeRefused         = "OpRefused"
	TypeRefusalsCounted = "OpRefusalsCounted"
	TypeContested       = "OpContested"
	TypeUPIDAdopted     = "UpidAdopted"
)

// GateStream is where an instance records what its gate refused: never in an
// op's own stream, which an unauthenticated blob must not be able to touch.
func GateStream(instance string) string { return "gate-" + instance }

// Refused records one refusal. Nothing in it was verified unless the reason
// says so; the envelope is kept as a digest only.
type Refused struct {
	Agent      string    `json:"agent"`
	Instance   string    `json:"instance"`
	At         time.Time `json:"at"`
	Reason     string    `json:"reason"`
	Detail     string    `json:"detail"`
	NonceShort string    `json:"nonce_short,omitempty"`
	// EnvelopeSHA256 is the digest of the bytes received.
	EnvelopeSHA256 Digest `json:"envelope_sha256"`
	Intent         Intent `json:"intent"`
	SubmittedBy    string `json:"submitted_by,omitempty"`
	PolicySerial   uint64 `json:"policy_serial"`
}

// RefusalsCounted folds refusals that came too fast to be recorded one by one.
type RefusalsCounted struct {
	Agent    string         `json:"agent"`
	Instance string         `json:"instance"`
	From     time.Time      `json:"from"`
	To       time.Time      `json:"to"`
	ByReason map[string]int `json:"by_reason"`
}

// Contested records, in the gate's stream, that the host started a task for an
// attempt which the ledger had already brought to another end. It must never
// happen; if it does, nobody may miss it.
type Contested struct {
	Agent      string    `json:"agent"`
	Instance   string    `json:"instance"`
	At         time.Time `json:"at"`
	NonceShort string    `json:"nonce_short"`
	OpID       string    `json:"op_id"`
	Attempt    int       `json:"attempt"`
	UPID       string    `json:"upid"`
	State      string    `json:"state"` // of the op on record
}

// UPIDStream is where the op that adopts a task says so, at no stream: of all
// who try, one has it.
func UPIDStream(upid string) string { return "upid-" + DigestOf([]byte(upid)).String() }

// UPIDAdopted gives a task to one attempt for ever.
type UPIDAdopted struct {
	UPID     string    `json:"upid"`
	OpID     string    `json:"op_id"`
	Agent    string    `json:"agent"`
	Instance string    `json:"instance"`
	At       time.Time `json:"at"`
}

// TypeTookOver is the type of the events of an agent's stream.
const TypeTookOver = "AgentTookOver"

// AgentStream is where the instances of an agent say which of them launches:
// whoever wrote the newest event does.
func AgentStream(agent string) string { return "agent-" + agent }

// TookOver makes an instance the one that launches. Its epoch is its place in
// the stream, so it only ever grows.
type TookOver struct {
	Agent    string    `json:"agent"`
	Instance string    `json:"instance"`
	Epoch    uint64    `json:"epoch"`
	At       time.Time `json:"at"`
}
