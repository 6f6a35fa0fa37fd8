package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/op"
	"writ/projections"
)

// maxEvents bounds the events that are shown of one op, the newest ones.
const maxEvents = 500

type nonceInput struct {
	Nonce string `path:"nonce" maxLength:"128" doc:"The nonce, whole: 32 to 128 lower-case hex digits."`
}

func parseNonce(s string) (op.Nonce, *Problem) {
	n, err := op.ParseNonce(s)
	if err != nil {
		return "", invalid("path.nonce", err)
	}
	return n, nil
}

// An Op is one op as its stream tells it.
type Op struct {
	NonceShort string    `json:"nonce_short" doc:"The beginning of the nonce."`
	State      string    `json:"state" enum:"absent,started,launching,task-running,succeeded,failed,voided" doc:"How the op stands; if corrupt is given, how it stood before."`
	Applied    bool      `json:"applied" doc:"It has taken effect and is on record as done."`
	Spent      bool      `json:"spent" doc:"The nonce can never run again."`
	OpID       string    `json:"op_id,omitempty" doc:"The newest attempt."`
	Attempt    int       `json:"attempt" doc:"The number of attempts."`
	Since      time.Time `json:"since,omitzero" doc:"When the op came into its state."`
	Class      string    `json:"class,omitempty"`
	Target     *Target   `json:"target,omitempty"`
	Keyless    bool      `json:"keyless,omitzero" doc:"It is benign, and ran without a signature. Its nonce is no key: it is never applied."`
	UPID       string    `json:"upid,omitempty" doc:"The host's task, once there is one."`
	Detail     string    `json:"detail" doc:"How it stands, for people."`
	Effect     string    `json:"effect,omitempty" enum:"none,done,partial,unknown" doc:"What a failed attempt did to the host."`
	Corrupt    string    `json:"corrupt,omitempty" doc:"Why the stream can't be what writ wrote. Such an op is never run."`
	Events     []Event   `json:"events" doc:"What happened, in order." nullable:"false"`
	Omitted    int       `json:"events_omitted,omitzero" doc:"How many older events are not shown."`
}

// A Target is what an op acts on.
type Target struct {
	Node   string     `json:"node"`
	Guest  *guestBody `json:"guest,omitempty"`
	Volume string     `json:"volume,omitempty"`
	Pool   *poolBody  `json:"pool,omitempty"`
	Disk   string     `json:"disk,omitempty"`
}

// An Event is one event of an op's stream.
type Event struct {
	Revision uint64          `json:"revision" doc:"Its number in the stream, from 0."`
	Type     string          `json:"type" example:"OpStarted"`
	ID       string          `json:"id"`
	At       time.Time       `json:"at" doc:"When it happened, as the event says; when the store took it if it can't be read."`
	Data     json.RawMessage `json:"data,omitempty" doc:"The event as recorded, but for the writ's envelope, which is never shown here. Left out if it can't be read."`
}

// Applied says whether a nonce has run.
type Applied struct {
	NonceShort string    `json:"nonce_short"`
	Applied    bool      `json:"applied" doc:"The op has taken effect and is on record as done."`
	Spent      bool      `json:"spent" doc:"The nonce can never run again: applied, voided, or failed with an effect."`
	State      string    `json:"state" enum:"absent,started,launching,task-running,succeeded,failed,voided"`
	OpID       string    `json:"op_id,omitempty"`
	Since      time.Time `json:"since,omitzero" doc:"When the op came into its state."`
}

type (
	opOutput      struct{ Body Op }
	appliedOutput struct{ Body Applied }
)

func (a *API) registerOps() {
	reads := huma.Middlewares{a.requires(Read)}
	security := []map[string][]string{{bearer: {string(Read)}}}
	huma.Register(a.huma, huma.Operation{
		OperationID: "get-op", Method: http.MethodGet, Path: "/v1/ops/{nonce}", Summary: "Show one op with its events", Security: security, Middlewares: reads,
		Description: "Folded from the op's own stream, so it is how the op stands on record now.",
		Responses:   a.responses(Op{}, map[int]string{200: "The op."}, forCallers(map[int]string{404: "Nothing is on record for the nonce."})),
	}, a.getOp)
	huma.Register(a.huma, huma.Operation{
		OperationID: "get-applied", Method: http.MethodGet, Path: "/v1/applied/{nonce}", Summary: "Tell whether a nonce has run", Security: security, Middlewares: reads,
		Description: "From the op's own stream, never from a view. A nonce of which nothing is on record is not applied.",
		Responses:   a.responses(Applied{}, map[int]string{200: "Whether it is applied, and since when."}, forCallers(nil)),
	}, a.getApplied)
}

// asOf is the cursor of how far a view is.
func (a *API) asOf(lag projections.Lag) string {
	if _, ok := lag.Applied.Position(); ok {
		return a.cursorText(lag.Applied)
	}
	return ""
}

func viewOf(t op.Target) Target {
	v := Target{Node: t.Node, Volume: t.Volume, Disk: t.Disk}
	if t.Pool != nil {
		v.Pool = &poolBody{Kind: string(t.Pool.Kind), Name: t.Pool.Name, VolumeGroup: t.Pool.VolumeGroup}
	}
	if t.Guest != nil {
		v.Guest = &guestBody{Type: string(t.Guest.Type), VMID: t.Guest.VMID}
	}
	return v
}

func (a *API) getApplied(ctx context.Context, in *nonceInput) (*appliedOutput, error) {
	n, p := parseNonce(in.Nonce)
	if p != nil {
		return nil, p
	}
	o, err := engine.LoadOp(ctx, a.cfg.Ledger, a.cfg.Ledger.LedgerID(), n)
	if err != nil {
		return nil, a.fault(ctx, "read op", err)
	}
	return &appliedOutput{Body: Applied{
		NonceShort: n.Short(), Applied: o.Applied(), Spent: o.Spent(), State: stateName(o.State), OpID: o.OpID, Since: o.Since.UTC(),
	}}, nil
}

func (a *API) getOp(ctx context.Context, in *nonceInput) (*opOutput, error) {
	n, p := parseNonce(in.Nonce)
	if p != nil {
		return nil, p
	}
	o := op.New(string(a.cfg.Ledger.LedgerID()), n)
	body := Op{Events: []Event{}}
	for rec, err := range a.cfg.Ledger.ReadStream(ctx, eventstore.StreamID(n.Stream()), 0) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			return nil, problem(http.StatusNotFound, reasonNotFound, "nothing is on record for this nonce here: it was never claimed")
		}
		if corrupt := corruption(err); corrupt != "" && body.Corrupt == "" {
			body.Corrupt = corrupt
			break
		}
		if err != nil {
			return nil, a.fault(ctx, "read op", err)
		}
		// What comes after the first event that can't be so is shown, and
		// believed no more.
		if body.Corrupt == "" {
			if err := o.Apply(engine.RecordOf(rec)); err != nil {
				body.Corrupt = err.Error()
			}
		}
		if len(body.Events) == maxEvents {
			body.Events = body.Events[:copy(body.Events, body.Events[1:])]
			body.Omitted++
		}
		body.Events = append(body.Events, eventOf(rec))
	}
	body.describe(&o)
	return &opOutput{Body: body}, nil
}

// describe fills in what the fold tells.
func (b *Op) describe(o *op.Op) {
	ans := engine.AnswerFor(o)
	b.NonceShort, b.State, b.OpID, b.Attempt, b.Since = o.Nonce.Short(), stateName(o.State), o.OpID, o.Attempt, o.Since.UTC()
	b.Applied, b.Spent = o.Applied() && b.Corrupt == "", o.Spent() && b.Corrupt == ""
	b.UPID, b.Detail = ans.UPID, ans.Detail
	if b.Corrupt != "" {
		b.Detail = "the stream is corrupt, the op is not run: compare the ledger with a backup or another replica"
	}
	if o.Started != nil {
		b.Class = string(o.Started.Class)
		t := viewOf(o.Started.Target)
		b.Target = &t
		b.Keyless = o.Keyless()
	}
	if o.Failed != nil {
		b.Effect = string(o.Failed.Effect)
	}
}

// eventOf shows an event. Its data is decoded and encoded again to leave the
// envelope out: while the op may still run, who reads must not be able to
// submit. An event that can't be decoded is shown without its data, as nobody
// knows what is in it.
func eventOf(rec eventstore.Recorded) Event {
	out := Event{Revision: uint64(rec.Revision), Type: clip(rec.Type), ID: op.ID(rec.ID).String(), At: rec.RecordedAt.UTC()}
	e, err := op.Decode(rec.Type, rec.Data)
	if err != nil {
		return out
	}
	if s, ok := e.(*op.Started); ok {
		s.Envelope = nil
	}
	if out.Data, err = op.Encode(e); err != nil {
		out.Data = nil
	}
	out.At = op.HeaderOf(e).At.UTC()
	return out
}

// corruption says why stored bytes can't be what was written; empty if the
// error says nothing of the kind.
func corruption(err error) string {
	var stored *eventstore.CorruptError
	var folded *op.CorruptStreamError
	switch {
	case errors.As(err, &stored):
		return clip(stored.Why)
	case errors.As(err, &folded):
		return clip(folded.Error())
	}
	return ""
}

// fault is the answer to a question that could not be answered.
func (a *API) fault(ctx context.Context, what string, err error) *Problem {
	if why := corruption(err); why != "" {
		return problem(http.StatusInternalServerError, reasonCorrupt, why+". The op is not run; compare the ledger with a backup or another replica")
	}
	if ctx.Err() == nil {
		a.cfg.Log.Error("a question could not be answered", "what", what, "err", err)
	}
	return problem(http.StatusServiceUnavailable, reasonUnavailable, "the ledger or a view of it can't be read at the moment; ask again")
}
