package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"writ/domain/eventstore"
	"writ/domain/op"
	"writ/projections"
	"writ/projections/status"
)

// Status answers which ops there are; a *status.Ops does.
type Status interface {
	List(ctx context.Context, q status.Query) (status.Page, error)
	WaitFor(ctx context.Context, p eventstore.Position) error
	Lag() projections.Lag
}

const (
	// stateInFlight asks for each of the states of an op that has not ended.
	stateInFlight = "in-flight"
	// stateFailed asks for both states of failure.
	stateFailed = "failed"

	reasonBehind = "view-behind" // the view did not come as far as at_least in time
	// behindTime bounds how long a list is waited for with at_least.
	behindTime = 10 * time.Second
	// lookAhead bounds the events read at a time to see what a view lacks.
	lookAhead = 1000
)

type opsInput struct {
	State  []string `query:"state" nullable:"false" maxItems:"16" enum:"in-flight,started,launching,task-running,succeeded,failed,failed-clean,voided,corrupt" doc:"Only ops in one of these states, separated by commas. in-flight: begun and not ended. failed: with an effect or without. failed-clean: without an effect, so the same writ may run again. corrupt: the stream can't be what writ wrote."`
	Class  string   `query:"class" maxLength:"64" doc:"Only ops of this class." example:"guest-destroy"`
	VMID   int      `query:"vmid" minimum:"1" maximum:"999999999" doc:"Only ops on the guest of this number, whatever guest that was at the time."`
	Node   string   `query:"node" maxLength:"64" doc:"Only ops that name this node, or whose request went to it."`
	Signer string   `query:"signer" maxLength:"255" doc:"Only ops that this person signed, by the name in the policy."`
	OpID   string   `query:"op_id" maxLength:"64" doc:"Only the op with this attempt, which need not be its newest."`
	From   string   `query:"from" format:"date-time" maxLength:"40" doc:"Only ops that began at this time or later."`
	Until  string   `query:"until" format:"date-time" maxLength:"40" doc:"Only ops that began before this time."`

	Limit   int    `query:"limit" minimum:"1" maximum:"500" default:"100" doc:"The most ops in the answer."`
	Cursor  string `query:"cursor" maxLength:"160" doc:"The next of the answer before. It may be used with other filters, too."`
	AtLeast string `query:"at_least" maxLength:"160" doc:"A cursor of the ledger, as events and as_of have it: the answer waits until the list is at least that far, up to 10 s."`
}

// OpList is one page of ops.
type OpList struct {
	AsOf     string   `json:"as_of" doc:"The list is at least that far: ledger id, store and position. Empty at the beginning."`
	CaughtUp bool     `json:"caught_up" doc:"False while the list lags behind the ledger."`
	Ops      []OpItem `json:"ops" nullable:"false" doc:"The one that began last comes first."`
	Next     string   `json:"next,omitempty" doc:"The cursor for the page that follows; left out at the end. A page with a next may have few ops, even none."`
}

// An OpItem is how one op stands, as the view has it.
type OpItem struct {
	Nonce   string    `json:"nonce,omitempty" doc:"The nonce, whole; with it the op can be asked for. Left out if the stream's name holds none."`
	OpID    string    `json:"op_id,omitempty" doc:"The newest attempt."`
	State   string    `json:"state,omitempty" enum:"absent,started,launching,task-running,succeeded,failed,voided" doc:"How it stands; if corrupt is given, how it stood before."`
	Attempt int       `json:"attempt" doc:"The number of attempts."`
	Began   time.Time `json:"began" doc:"When it began, as its first event says; when the store took that if it can't be read."`
	Since   time.Time `json:"since,omitzero" doc:"When it came into its state."`
	Class   string    `json:"class,omitempty"`
	Target  Target    `json:"target"`
	Node    string    `json:"node,omitempty" doc:"The node that the request went to."`
	UPID    string    `json:"upid,omitempty" doc:"The host's task, once there is one."`
	Effect  string    `json:"effect,omitempty" enum:"none,done,partial,unknown" doc:"What the newest attempt did to the host, once it has ended."`
	Kind    string    `json:"kind,omitempty" doc:"How it failed, for programs."`
	Detail  string    `json:"detail,omitempty" doc:"Why it failed, was taken back, or what it waits for; cut off if long."`
	Signers []string  `json:"signers,omitempty" nullable:"false" doc:"Who signed it."`
	Role    string    `json:"role,omitempty"`
	Keyless bool      `json:"keyless,omitzero" doc:"It is benign, and ran without a signature."`
	Corrupt string    `json:"corrupt,omitempty" doc:"Why the stream can't be what writ wrote. Such an op is never run."`
}

type opListOutput struct{ Body OpList }

func (a *API) registerOpsList() {
	if a.cfg.Status == nil {
		return
	}
	huma.Register(a.huma, huma.Operation{
		OperationID: "list-ops", Method: http.MethodGet, Path: "/v1/ops", Summary: "List ops, the newest first",
		Security: []map[string][]string{{bearer: {string(Read)}}}, Middlewares: huma.Middlewares{a.requires(Read)},
		Description: "From a view of the ledger, which may lag behind it; as_of says how far it is. An op must fit every filter that is given. " +
			"An op never changes its place in the list. Whoever follows next to the end gets every op that fitted all the time exactly once, and none twice; " +
			"one that begins meanwhile is not in it, one that changes meanwhile is there as it stood when its page was made, if it fitted then.",
		Responses: a.responses(OpList{}, map[int]string{200: "A page of ops."}, forCallers(map[int]string{
			412: "The cursor is of another ledger or store, of another format of the view, or from beyond this ledger's end.",
			503: "The service is stopping, can't reach its ledger, or the list is not as far as at_least yet.",
		})),
	}, a.listOps)
}

func (a *API) listOps(ctx context.Context, in *opsInput) (*opListOutput, error) {
	q, p := a.opsQuery(in)
	if p != nil {
		return nil, p
	}
	if in.AtLeast != "" {
		if p := a.awaitList(ctx, in.AtLeast); p != nil {
			return nil, p
		}
	}
	page, err := a.cfg.Status.List(ctx, q)
	var foreign *status.ForeignCursorError
	switch {
	case errors.As(err, &foreign):
		return nil, problem(http.StatusPreconditionFailed, reasonForeignCursor, err.Error())
	case err != nil:
		return nil, a.fault(ctx, "list ops", err)
	}
	out := &opListOutput{Body: OpList{AsOf: a.asOf(page.Lag), CaughtUp: page.Lag.CaughtUp, Ops: make([]OpItem, 0, len(page.Ops))}}
	for i := range page.Ops {
		out.Body.Ops = append(out.Body.Ops, itemOf(&page.Ops[i]))
	}
	if page.Next != nil {
		out.Body.Next = a.pagePrefix() + page.Next.String()
	}
	return out, nil
}

// pagePrefix is what a cursor of a page begins with here. A page's cursor can't
// be taken for one of the ledger, nor the other way round.
func (a *API) pagePrefix() string {
	return fmt.Sprintf("%s:%s:ops-", a.cfg.Ledger.LedgerID(), a.cfg.StoreName)
}

func (a *API) opsQuery(in *opsInput) (status.Query, *Problem) {
	q := status.Query{
		States: statesOf(in.State), Class: op.Class(in.Class), VMID: in.VMID, Node: in.Node, Signer: in.Signer, OpID: in.OpID, Limit: in.Limit,
	}
	for _, t := range []struct {
		name, text string
		to         *time.Time
	}{{"from", in.From, &q.From}, {"until", in.Until, &q.Until}} {
		if t.text == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, t.text)
		if err != nil {
			return q, invalid("query."+t.name, errors.New("not a time as RFC 3339 has it, such as 2026-11-23T09:00:00Z"))
		}
		*t.to = at
	}
	if in.Cursor == "" {
		return q, nil
	}
	text, ours := strings.CutPrefix(in.Cursor, a.pagePrefix())
	if !ours && strings.Count(in.Cursor, ":") == 2 && strings.Contains(in.Cursor, ":ops-") {
		return q, problem(http.StatusPreconditionFailed, reasonForeignCursor,
			"the cursor is of a list of another ledger or store, and means nothing here: begin with the first page")
	}
	after, err := status.ParseCursor(text)
	if !ours || err != nil {
		return q, invalid("query.cursor", errors.New("not a cursor of a list: take the next of the page before"))
	}
	q.After = &after
	return q, nil
}

func statesOf(asked []string) []status.State {
	var states []status.State
	for _, s := range asked {
		switch s {
		case stateInFlight:
			states = append(states, status.InFlight()...)
		case stateFailed:
			states = append(states, status.Failed, status.FailedClean)
		default: // the schema lets no other pass
			states = append(states, status.State(s))
		}
	}
	return states
}

// awaitList waits until the list holds all that is on record up to a cursor.
func (a *API) awaitList(ctx context.Context, text string) *Problem {
	c, p := a.readCursor(ctx, "query.at_least", text)
	if p != nil {
		return p
	}
	want, ok := c.Position()
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, behindTime)
	defer cancel()
	for {
		lacks, found, err := a.lacks(ctx, want)
		if err != nil {
			return a.fault(ctx, "look for what a list lacks", err)
		}
		if !found {
			return nil
		}
		if err := a.cfg.Status.WaitFor(ctx, lacks); err != nil {
			return problem(http.StatusServiceUnavailable, reasonBehind, fmt.Sprintf(
				"the list is not as far as position %d yet; ask again, or ask without at_least", want))
		}
	}
}

// lacks gives the position of an event that is not in the list yet and not
// behind want; false if there is none. How far the list is can't be compared
// with any position: it moves on with the events of ops alone.
func (a *API) lacks(ctx context.Context, want eventstore.Position) (last eventstore.Position, found bool, err error) {
	applied := a.cfg.Status.Lag().Applied
	if at, ok := applied.Position(); ok && at >= want {
		return 0, false, nil
	}
	n := 0
	for e, err := range a.cfg.Ledger.ReadAll(ctx, applied, projections.OpStreams()) {
		if err != nil {
			if corruption(err) != "" {
				return 0, false, nil // the view can't get over it either
			}
			return 0, false, err
		}
		if e.Position > want {
			break
		}
		last, found = e.Position, true
		if n++; n == lookAhead {
			break
		}
	}
	return last, found, nil
}

func itemOf(o *status.Op) OpItem {
	return OpItem{
		Nonce: string(o.Nonce), OpID: o.OpID, State: stateName(o.Last), Attempt: o.Attempt, Began: o.Began.UTC(), Since: o.Since.UTC(),
		Class: string(o.Class), Target: viewOf(o.Target), Node: o.Node, UPID: o.UPID, Effect: string(o.Effect), Kind: string(o.Kind),
		Detail: detailOf(o), Signers: slices.Clone(o.Signers), Role: o.Role, Keyless: o.Keyless, Corrupt: o.Corrupt,
	}
}

func detailOf(o *status.Op) string {
	switch o.State {
	case status.Started:
		return "claimed; nothing was sent to the host yet"
	case status.Launching:
		return "announced; the request may be on its way, and no task of it is on record"
	case status.TaskRunning:
		if o.UPID == "" {
			return "carried out by the host at once; the effect is not verified yet"
		}
		return "a task of the host carries it out; its end is not on record"
	case status.Corrupt:
		return "its stream is corrupt: nothing is done with it until a person has looked"
	case status.Succeeded, status.FailedClean, status.Failed, status.Voided:
	}
	return o.Message
}
