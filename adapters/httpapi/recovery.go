package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"writ/domain/engine"
	"writ/domain/op"
	"writ/projections/recoveryqueue"
)

// Recovery is the recovery queue: what is in flight, and what keeps it there.
type Recovery struct {
	AsOf     string `json:"as_of" doc:"How far the ledger was in the view that named the ops: ledger id, store and position. Empty at the beginning. How each op stands is from its own stream."`
	CaughtUp bool   `json:"caught_up" doc:"False while the view lags behind the ledger: ops may be missing."`
	Surveyed bool   `json:"surveyed" doc:"False until all that was in flight when the service started is taken up. Nothing is launched before."`
	Halted   string `json:"halted,omitempty" doc:"ALARM: why nothing is launched any more. A person must look, and start the service again."`

	Ops []RecoveryItem `json:"ops" nullable:"false" doc:"The oldest first."`
}

// A RecoveryItem is one op in flight, with all that is needed to settle it.
type RecoveryItem struct {
	Nonce    string    `json:"nonce,omitempty" doc:"The nonce, whole; with it the op can be asked for and settled."`
	OpID     string    `json:"op_id,omitempty"`
	Class    string    `json:"class,omitempty"`
	Target   Target    `json:"target"`
	Attempt  int       `json:"attempt" doc:"The attempt that is in flight. A resolution names it."`
	Revision *uint64   `json:"revision,omitempty" doc:"That of the newest event of the op's stream. A resolution names it, and holds only as long as it is the newest. Left out if the stream is corrupt."`
	State    string    `json:"state,omitempty" enum:"absent,started,launching,task-running,succeeded,failed,voided" doc:"How the op stands on record; if corrupt is given, how it stood before."`
	Since    time.Time `json:"since" doc:"When it came into its state."`
	UPID     string    `json:"upid,omitempty" doc:"The host's task, once there is one."`

	Indeterminate bool     `json:"indeterminate" doc:"The evidence did not decide it when it was last asked for. Recovery asks again by itself; if the host can't tell any more, a person must settle it."`
	WaitsFor      string   `json:"waits_for" doc:"What it waits for."`
	Detail        string   `json:"detail,omitempty" doc:"What is known, and what is missing, as recovery found it last."`
	Look          []string `json:"look" nullable:"false" doc:"What a person should look at before settling it."`
	Corrupt       string   `json:"corrupt,omitempty" doc:"Why the stream can't be what writ wrote. Such an op is never run, and can't be settled."`
}

type recoveryOutput struct{ Body Recovery }

func (a *API) registerRecovery() {
	huma.Register(a.huma, huma.Operation{
		OperationID: "list-recovery", Method: http.MethodGet, Path: "/v1/recovery", Summary: "Show the recovery queue",
		Security: []map[string][]string{{bearer: {string(Read)}}}, Middlewares: huma.Middlewares{a.requires(Read)},
		Description: "Every op that is in flight, with what it waits for. An op that is indeterminate takes effect at most once like any other; " +
			"whether it did is not known. It ends by evidence, or by a signed resolution.",
		Responses: a.responses(Recovery{}, map[int]string{200: "The queue."}, forCallers(nil)),
	}, a.listRecovery)
}

func (a *API) listRecovery(ctx context.Context, _ *struct{}) (*recoveryOutput, error) {
	// Asked before the list is read: the list is at least that far. And what
	// the engine had to leave before that is on record as in flight since.
	lag := a.cfg.QueueLag()
	left, waiting := a.left(), a.cfg.Engine.Waiting()
	items, err := a.cfg.Queue.List(ctx)
	if err != nil {
		return nil, a.fault(ctx, "list the recovery queue", err)
	}
	out := &recoveryOutput{Body: Recovery{
		AsOf: a.asOf(lag), CaughtUp: lag.CaughtUp, Surveyed: ended(a.cfg.Engine.Surveyed()), Ops: []RecoveryItem{},
	}}
	if err := a.cfg.Engine.Halted(); err != nil {
		out.Body.Halted = err.Error()
	}
	// The view may not have those yet that the engine left just now.
	for _, ans := range left {
		if !slices.ContainsFunc(items, func(it recoveryqueue.Item) bool { return it.Nonce == ans.Nonce }) {
			items = append(items, recoveryqueue.Item{Nonce: ans.Nonce})
		}
	}
	for _, it := range items {
		item, show, err := a.recoveryItem(ctx, it, left[it.Nonce])
		if what, ok := waiting[it.Nonce]; ok && item.Corrupt == "" {
			item.WaitsFor = what
		}
		if err != nil {
			return nil, a.fault(ctx, "read an op in flight", err)
		}
		if show {
			out.Body.Ops = append(out.Body.Ops, item)
		}
	}
	slices.SortStableFunc(out.Body.Ops, func(a, b RecoveryItem) int { return a.Since.Compare(b.Since) })
	return out, nil
}

// left gives by nonce what the engine knows of the ops that it had to leave.
func (a *API) left() map[op.Nonce]engine.Answer {
	left := make(map[op.Nonce]engine.Answer)
	for _, ans := range a.cfg.Engine.Left() {
		left[ans.Nonce] = ans
	}
	return left
}

// recoveryItem shows an op as its stream tells it; not one that has ended
// since the view saw it.
func (a *API) recoveryItem(ctx context.Context, it recoveryqueue.Item, left engine.Answer) (item RecoveryItem, show bool, err error) {
	if it.Corrupt != "" || it.Nonce == "" {
		return corruptItem(it, it.Corrupt), true, nil
	}
	o, err := engine.LoadOp(ctx, a.cfg.Ledger, a.cfg.Ledger.LedgerID(), it.Nonce)
	switch why := corruption(err); {
	case why != "":
		return corruptItem(it, why), true, nil
	case err != nil:
		return RecoveryItem{}, false, err
	case !o.State.InFlight():
		return RecoveryItem{}, false, nil
	}
	newest := o.Tail.Next - 1
	item = RecoveryItem{
		Nonce: string(o.Nonce), OpID: o.OpID, Class: string(o.Started.Class), Target: viewOf(o.Started.Target),
		Attempt: o.Attempt, Revision: &newest, State: stateName(o.State), Since: o.Since.UTC(),
		WaitsFor: waitsFor(&o), Look: look(&o),
	}
	if o.Running != nil {
		item.UPID = o.Running.UPID
	}
	if left.OpID == o.OpID && left.State == o.State && left.Outcome == engine.Indeterminate {
		item.Indeterminate, item.Detail = true, left.Detail
		item.WaitsFor = "evidence that decides it, which recovery goes on asking for; or a signed resolution"
	}
	return item, true, nil
}

// corruptItem shows what the view knows of an op whose stream can't be so.
func corruptItem(it recoveryqueue.Item, why string) RecoveryItem {
	return RecoveryItem{
		Nonce: string(it.Nonce), OpID: it.OpID, Class: string(it.Class), Target: viewOf(it.Target), Attempt: it.Attempt,
		State: stateName(it.State), Since: it.Since.UTC(), UPID: it.UPID, Corrupt: why,
		WaitsFor: "a person: nothing is done with it, and no resolution can be put on record",
		Look:     []string{"the ledger: compare its stream with a backup or another replica"},
	}
}

// waitsFor says what an op waits for that the engine has not given up on.
func waitsFor(o *op.Op) string {
	switch {
	case o.State == op.StateStarted:
		return "its turn; nothing was sent to the host yet"
	case o.State == op.StateLaunching:
		return "the host's answer, or its task to be found"
	case o.Running.UPID == "":
		return "its effect to be verified; the host carried it out at once"
	}
	return "the end of its task"
}

// look says what a person should look at before they vouch for what became of
// an attempt.
func look(o *op.Op) []string {
	if o.State == op.StateStarted {
		return []string{"nothing: nothing was sent to the host, and it ends by itself"}
	}
	l := o.Launching
	var steps []string
	if o.State == op.StateTaskRunning && o.Running.UPID != "" {
		steps = append(steps, fmt.Sprintf("on node %s, the task %s: has it ended, how, and what does its log say was removed?", l.Node, o.Running.UPID))
	} else {
		steps = append(steps, fmt.Sprintf("on node %s, the list of tasks from %s on: did %s start one, for %s %s?",
			l.Node, l.At.UTC().Format(time.RFC3339), l.Credential, l.Request.Method, l.Request.Path))
	}
	steps = append(steps, fmt.Sprintf("%s: is it still there, untouched, and the one that was signed for (%s)?", l.Target, identity(l.Observed)))
	if len(l.Observed.Volumes) > 0 {
		steps = append(steps, "its volumes: does each still exist? "+strings.Join(l.Observed.Volumes, ", "))
	}
	if o.State == op.StateLaunching {
		steps = append(steps, fmt.Sprintf("whether the request can still be on its way inside of node %s: as long as it can, the effect is unknown", l.Node),
			"its protection: recovery sets it (protection=1), so that a late request does nothing. writ never lifts it; whoever settles the op does, afterwards")
	}
	return steps
}

// identity names what a guest is known by.
func identity(seen op.Observed) string {
	var parts []string
	for _, p := range []struct{ name, value string }{
		{"name", seen.Name}, {"SMBIOS UUID", seen.SMBIOSUUID}, {"generation id", seen.VMGenID}, {"config digest", seen.Digest},
	} {
		if p.value != "" {
			parts = append(parts, p.name+" "+p.value)
		}
	}
	if len(parts) == 0 {
		return "nothing is known of it"
	}
	return strings.Join(parts, ", ")
}
