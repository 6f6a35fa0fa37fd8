package engine

import (
	"context"
	"errors"
	"fmt"

	"writ/domain/eventstore"
	"writ/domain/op"
)

func (e *Engine) findTasks(ctx context.Context, c FindTasks) TasksFound {
	x := e.cfg.Executors[c.Announced.Class]
	if x == nil {
		return TasksFound{Err: errNoExecutor}
	}
	s, err := x.FindTasks(ctx, c.Announced)
	return TasksFound{Search: s, Err: err}
}

func (e *Engine) raiseFence(ctx context.Context, c RaiseFence) Fenced {
	x := e.cfg.Executors[c.Announced.Class]
	if x == nil {
		return Fenced{Err: errNoExecutor}
	}
	f, err := x.Fence(ctx, c.Announced)
	return Fenced{Fence: f, Err: err}
}

var errNoExecutor = errors.New("this service has no executor for the class")

// takeTask puts on record, at no stream, that a task is this attempt's. If the
// append's outcome is unknown, asking again tells.
func (e *Engine) takeTask(ctx context.Context, c TakeTask) TaskTaken {
	if other, err := e.hasTask(ctx, c); other || err != nil {
		return TaskTaken{Err: err}
	}
	stream := op.UPIDStream(c.UPID)
	data, err := op.Marshal(op.UPIDAdopted{
		UPID: c.UPID, OpID: c.OpID, Agent: e.cfg.Identity.Site.Agent, Instance: e.cfg.Identity.Instance, At: e.cfg.Clock.Now().UTC(),
	})
	if err != nil {
		return TaskTaken{Err: err}
	}
	rec, _, err := op.Tail{}.Seal(string(e.cfg.Store.LedgerID()), stream, c.OpID, op.TypeUPIDAdopted, data)
	if err != nil {
		return TaskTaken{Err: err}
	}
	switch done := AppendRecord(ctx, e.cfg.Store, stream, rec); done.Outcome {
	case AppendOK:
		return TaskTaken{Ours: true}
	case AppendRefused, AppendUnknown:
		return TaskTaken{Err: done.Err}
	case AppendLost:
	}
	// Somebody has it: perhaps this very attempt, before a crash.
	head, err := e.cfg.Store.Head(ctx, eventstore.StreamID(stream))
	if err != nil {
		return TaskTaken{Err: err}
	}
	var taken op.UPIDAdopted
	if err := op.Unmarshal(head.Data, &taken); err != nil {
		return TaskTaken{Err: fmt.Errorf("stream %s: %w", stream, err)}
	}
	return TaskTaken{Ours: taken.OpID == c.OpID}
}

// hasTask tells whether a task is on record as that of another attempt, by its
// own launch, or can be that of one that people settled before its task was
// known. On one target attempts follow one another closely, by less than clocks
// can be trusted, and a late request starts its task late: that of one before
// can look like this one's. The whole ledger is read; that takes its time, but
// is needed rarely.
func (e *Engine) hasTask(ctx context.Context, c TakeTask) (bool, error) {
	known := make(map[string]bool) // ids of attempts whose task is on record
	for rec, err := range e.cfg.Store.ReadAll(ctx, eventstore.Cursor{}, eventstore.Filter{StreamPrefixes: []string{op.StreamPrefix}}) {
		if err != nil {
			return false, err
		}
		if rec.Type == op.TypeStarted || rec.Type == op.TypeLaunching || rec.Type == op.TypeVoided {
			continue
		}
		ev, err := op.Decode(rec.Type, rec.Data)
		if err != nil {
			continue // a corrupt stream stops its own op only
		}
		h := op.HeaderOf(ev)
		settled := false
		switch ev := ev.(type) {
		case *op.TaskRunning:
			if ev.UPID == c.UPID && h.OpID != c.OpID {
				return true, nil
			}
			known[h.OpID] = ev.UPID != ""
		case *op.Failed:
			settled = ev.Resolution != nil
		case *op.Succeeded:
			settled = ev.Resolution != nil
		}
		if settled && !known[h.OpID] && h.Target.Key() == c.Target.Key() {
			return true, nil
		}
	}
	return false, nil
}

func (e *Engine) recordContested(c op.Contested) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.running), e.cfg.AppendTimeout)
	defer cancel()
	e.cfg.Log.Error("ALARM: the host started a task for an op that has ended", "op_id", c.OpID, "nonce", c.NonceShort, "upid", c.UPID, "state", c.State)
	_, err := e.refusals.journal.append(ctx, c.NonceShort, op.TypeContested, func(uint64) ([]byte, error) { return op.Marshal(c) })
	if err != nil {
		e.cfg.Log.Error("ALARM: the contested task could not be recorded", "op_id", c.OpID, "err", err)
	}
	return err
}
