package httpapi

import (
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"
)

const problemType = "application/problem+json"

// Reasons beside those of the gate and the kinds of failure.
const (
	reasonBadRequest    = "bad-request"      // the request is out of form
	reasonUnauthorized  = "unauthorized"     // no token, or an unknown one
	reasonScope         = "scope-missing"    // the token may not do this
	reasonNotFound      = "not-found"        // no such op, or no such path
	reasonMethod        = "wrong-method"     // the path knows other methods
	reasonMediaType     = "wrong-media-type" // the body is not application/json
	reasonTooLarge      = "too-large"        // the body is larger than allowed
	reasonSlow          = "too-slow"         // the body did not arrive in time
	reasonWrongHost     = "wrong-host"       // addressed to another host
	reasonBusy          = "busy"             // too many requests under way
	reasonStopping      = "stopping"         // the service is being stopped
	reasonQueueFull     = "queue-full"       // too many ops under way
	reasonRate          = "rate-limited"     // too many requests of one caller
	reasonForeignCursor = "foreign-cursor"   // of another ledger or store
	reasonCursorAhead   = "cursor-ahead"     // beyond the ledger's end
	reasonConflict      = "conflict"         // does not fit how the op stands
	reasonInFlight      = "in-flight"        // too late: the op is under way
	reasonHeld          = "held"             // recovery is at work on the op right now
	reasonUnavailable   = "unavailable"      // ledger or host can't be asked
	reasonCorrupt       = "corrupt"          // the op's stream is damaged
	reasonInternal      = "internal"         // the service is at fault
	maxProblemErrors    = 20
	maxProblemText      = 300
	retryAfterSeconds   = 2
	contentTypeHeader   = "Content-Type"
	retryAfterHeader    = "Retry-After"
	authenticateHeader  = "WWW-Authenticate"
)

// A Problem is the body of every answer that is not a success (RFC 9457).
type Problem struct {
	Title  string `json:"title" doc:"The status in words."`
	Status int    `json:"status" doc:"The HTTP status."`
	// Reason is for programs: one of the gate's reasons, of the kinds of
	// failure, or of those of this package.
	Reason string `json:"reason" doc:"What went wrong, for programs: a reason of the gate (such as quorum-not-met), a kind of failure (such as precondition), or one of the interface itself (such as queue-full)."`
	Detail string `json:"detail" doc:"What went wrong and what to do, for people."`

	OpID       string `json:"op_id,omitempty" doc:"The attempt, if there is one."`
	NonceShort string `json:"nonce_short,omitempty" doc:"The beginning of the nonce."`
	Nonce      string `json:"nonce,omitempty" doc:"The nonce, whole, of an op that was asked for without a writ, once it is on record."`
	Attempt    int    `json:"attempt,omitzero" doc:"The number of the attempt, from 1."`
	State      string `json:"state,omitempty" doc:"How the op stands on record." enum:"absent,started,launching,task-running,succeeded,failed,voided"`
	Effect     string `json:"effect,omitempty" doc:"What a failed attempt did to the host. Only after none may the same writ run again." enum:"none,done,partial,unknown"`

	Errors []FieldError `json:"errors,omitempty" nullable:"false" doc:"What is out of form in the request."`

	retryAfter int // seconds; 0 for none
}

// A FieldError says what is out of form in a request.
type FieldError struct {
	Location string `json:"location" doc:"Such as body.intent.target.guest.vmid."`
	Message  string `json:"message"`
}

// Error implements error.
func (p *Problem) Error() string { return p.Reason + ": " + p.Detail }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders implements huma.HeadersError.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.retryAfter > 0 {
		h.Set(retryAfterHeader, strconv.Itoa(p.retryAfter))
	}
	return h
}

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return problemType }

func problem(status int, reason, detail string) *Problem {
	p := &Problem{Title: http.StatusText(status), Status: status, Reason: reason, Detail: detail}
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		p.retryAfter = retryAfterSeconds
	}
	return p
}

// asProblem puts what the library says of a request that is out of form into
// our form. What was received is not quoted: it may hold an envelope.
func asProblem(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := problem(m.Status, reasonBadRequest, "the request is out of form; see errors")
	if m.Status >= http.StatusInternalServerError {
		p.Reason, p.Detail = reasonInternal, "the service is at fault; see its log"
		return p, nil
	}
	if len(m.Errors) == 0 {
		p.Detail = clip(m.Detail)
	}
	for i, e := range m.Errors {
		if i == maxProblemErrors {
			break
		}
		p.Errors = append(p.Errors, FieldError{Location: clip(e.Location), Message: clip(e.Message)})
	}
	return p, nil
}

func clip(s string) string {
	if len(s) <= maxProblemText {
		return s
	}
	return strings.ToValidUTF8(s[:maxProblemText], "") + "…"
}

// send writes a problem where the library is not in charge.
func send(w http.ResponseWriter, p *Problem, log *slog.Logger) {
	body, err := json.Marshal(p, json.Deterministic(true))
	if err != nil { // only strings and numbers: can't be
		log.Error("a problem could not be encoded", "err", err)
	}
	for name, values := range p.GetHeaders() {
		w.Header()[name] = values
	}
	w.Header().Set(contentTypeHeader, problemType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // if the caller has gone, nobody is left to tell
}
