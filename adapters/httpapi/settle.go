package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"writ/domain/engine"
	"writ/domain/op"
	"writ/domain/signedop"
)

// settleTime bounds the way of a resolution or a void to the record: the host
// may have to be asked, and a fence be raised.
const settleTime = 2 * time.Minute

type resolveInput struct {
	Nonce string `path:"nonce" maxLength:"128" doc:"The nonce, whole: 32 to 128 lower-case hex digits."`
	Body  struct {
		Envelope string `json:"envelope" minLength:"1" maxLength:"87384" doc:"The signed resolution: the bytes of the DSSE envelope exactly as they are in its file, in standard base64 with padding."`
	}
}

type voidInput struct {
	Nonce string `path:"nonce" maxLength:"128" doc:"The nonce, whole: 32 to 128 lower-case hex digits."`
	Body  struct {
		Reason string `json:"reason" minLength:"1" maxLength:"1024" doc:"Why the writ is taken back. People and auditors will read it."`
	}
}

// Settled says how an op stands that was settled by a resolution or voided.
type Settled struct {
	NonceShort string    `json:"nonce_short" doc:"The beginning of the nonce."`
	OpID       string    `json:"op_id,omitempty" doc:"The attempt; none if the writ never ran."`
	Attempt    int       `json:"attempt" doc:"The number of attempts."`
	State      string    `json:"state" enum:"succeeded,failed,voided" doc:"How the op stands on record."`
	Effect     string    `json:"effect,omitempty" enum:"none,done,partial,unknown" doc:"What the attempt did to the host, on the word of those who signed."`
	Spent      bool      `json:"spent" doc:"The nonce can never run again. If not, the same writ may be submitted once more while it is valid."`
	Detail     string    `json:"detail" doc:"What is on record, for people."`
	Since      time.Time `json:"since" doc:"When the op came into its state."`
}

type settledOutput struct{ Body Settled }

func (a *API) registerSettle() {
	settles := func(id, path, summary, text string, scope Scope, bad map[int]string) huma.Operation {
		all := map[int]string{
			400: "The body is not JSON.", 408: "The body did not arrive in time.", 413: "The body is too large.",
			415: "The body is not application/json.",
		}
		for status, t := range forCallers(bad) {
			all[status] = t
		}
		return huma.Operation{
			OperationID: id, Method: http.MethodPost, Path: path, Summary: summary, Description: text,
			Security:    []map[string][]string{{bearer: {string(scope)}}},
			Middlewares: huma.Middlewares{a.requires(scope), a.takeBody}, MaxBodyBytes: MaxBodyBytes + 1,
			BodyReadTimeout: -1, // as for a submission: whoever waits here must not seem to have gone
			Responses:       a.responses(Settled{}, map[int]string{200: "It is on record."}, all),
		}
	}
	huma.Register(a.huma, settles("resolve", "/v1/recovery/{nonce}/resolve", "Settle an indeterminate op",
		"Hands in a signed resolution: people who hold a role that may resolve vouch for what became of one attempt. "+
			"It is kept whole on record. Handing the same one in again is safe.",
		Resolve, map[int]string{
			403: "The gate refused it, with the reason; or the caller lacks the scope.",
			409: "It does not fit how the op stands: another op, another attempt, an older state; the op has ended; or it is being worked on (reason held: hand it in again a little later); or it says that there was no effect while there may still be one. Nothing was changed.",
			422: "The resolution is malformed, or the request is.",
			503: "Ledger or host can't be reached, or the service is stopping. The resolution is possibly on record: hand it in again to learn.",
		}), a.resolve)
	huma.Register(a.huma, settles("void", "/v1/ops/{nonce}/void", "Take a writ back before it runs",
		"From then on the nonce can never run, whoever holds the writ. A nonce may be voided that was never seen here. Voiding again is safe.",
		Void, map[int]string{
			409: "Too late: the op is in flight, or its nonce is spent already. Nothing was changed.",
			503: "The ledger can't be reached, or the service is stopping. It is possibly voided: void it again to be certain.",
		}), a.void)
}

func (a *API) resolve(ctx context.Context, in *resolveInput) (*settledOutput, error) {
	n, p := parseNonce(in.Nonce)
	if p != nil {
		return nil, p
	}
	raw, err := parseEnvelope(in.Body.Envelope)
	if err != nil {
		return nil, invalid("body.envelope", err)
	}
	// What is no resolution at all is the gate's to refuse, on record. One of
	// another op is a mistake of the caller's, who meant to settle this one.
	if u, err := signedop.ParseResolution(raw); err == nil && u.Nonce() != n {
		p := problem(http.StatusConflict, reasonConflict, "nonce: the resolution is about op "+u.Nonce().Short()+", not about "+n.Short()+"; nothing was changed")
		p.NonceShort = n.Short()
		return nil, p
	}
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	ans := a.cfg.Engine.Resolve(ctx, raw, callerOf(ctx))
	if ans.Outcome != engine.Succeeded && ans.Outcome != engine.Failed {
		p := refusal(ans)
		if p.Reason == reasonHeld {
			p.retryAfter = retryAfterSeconds
		}
		return nil, p
	}
	return &settledOutput{Body: settled(ans)}, nil
}

func (a *API) void(ctx context.Context, in *voidInput) (*settledOutput, error) {
	n, p := parseNonce(in.Nonce)
	if p != nil {
		return nil, p
	}
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	ans := a.cfg.Engine.Void(ctx, n, callerOf(ctx), in.Body.Reason)
	if ans.Outcome != engine.Voided {
		return nil, tooLate(ans)
	}
	return &settledOutput{Body: settled(ans)}, nil
}

// tooLate is the problem for an op that could not be voided.
func tooLate(a engine.Answer) *Problem {
	p := refusal(a)
	switch a.Outcome { //nolint:exhaustive // all others are what they are
	case engine.InFlight, engine.Indeterminate:
		p = problem(http.StatusConflict, reasonInFlight, "too late to take it back: it is "+a.State.String()+" and may take effect. It is left as it is")
	case engine.Succeeded, engine.AlreadyApplied, engine.Failed:
		p = problem(http.StatusConflict, "nonce-spent", "it has ended, and its nonce can never run again: "+clip(a.Detail)+". It is left as it is")
	}
	p.OpID, p.Attempt, p.State, p.NonceShort = a.OpID, a.Attempt, stateName(a.State), a.Nonce.Short()
	if a.Failure != nil {
		p.Effect = string(a.Failure.Effect)
	}
	return p
}

func settled(a engine.Answer) Settled {
	s := Settled{
		NonceShort: a.Nonce.Short(), OpID: a.OpID, Attempt: a.Attempt, State: stateName(a.State),
		Spent: a.State != op.StateFailedClean, Detail: a.Detail, Since: a.Since.UTC(),
	}
	switch {
	case a.Failure != nil:
		s.Effect = string(a.Failure.Effect)
	case a.State == op.StateSucceeded:
		s.Effect = string(op.EffectDone)
	}
	return s
}
