package audit

import (
	"fmt"
	"strings"
	"time"

	"writ/domain/eventstore"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

// A worker checks the ops and refusals whose streams are its own.
type worker struct {
	*auditor
	*tally

	queue   chan []item
	ops     map[string]*opState // in flight
	resting map[uint64]resting  // failed with effect none
	others  map[string]*chain   // of streams that are not an op's
}

// An opState is an op that is being followed.
type opState struct {
	op      op.Op
	writ    *signedop.Unverified // of the newest attempt; nil if it can't be parsed or there is none
	allowed *gate.Authenticated  // the newest claim, if it was allowed when decided again
	late    bool                 // the newest attempt was announced by an instance that did not lead any more
	last    eventstore.Position
}

// A resting op has failed with effect none: another attempt may come, at any
// time. It is what must be kept of it for that.
type resting struct {
	tail    op.Tail
	payload op.Digest
	attempt int
	since   time.Time
}

func (w *worker) run() {
	for batch := range w.queue {
		for i := range batch {
			switch it := &batch[i]; {
			case strings.HasPrefix(string(it.event.Stream), op.StreamPrefix):
				w.opEvent(it)
			case strings.HasPrefix(string(it.event.Stream), alivePrefix):
				w.aliveEvent(it)
			default:
				w.gateEvent(it)
			}
		}
	}
}

// opEvent checks one event of an op's stream.
func (w *worker) opEvent(it *item) {
	e := &it.event
	stream := string(e.Stream)
	key := w.seen.key(stream)
	if w.seen.damaged.has(key) {
		w.counts.Unchecked++
		return
	}
	s := w.state(it, stream, key)
	if s == nil {
		return
	}
	rec := recordOf(e)
	if err := s.op.Apply(rec); err != nil {
		d := diagnoseOp(&s.op, rec, err)
		w.damage(stream, key, e, s.op.OpID, d)
		return
	}
	s.last = e.Position
	w.happened(it, s)
	switch {
	case s.op.State.Final():
		w.counts.ended(s.op.State)
		delete(w.ops, stream)
		w.seen.ended.add(key)
	case s.op.State == op.StateFailedClean:
		delete(w.ops, stream)
		w.resting[key] = resting{tail: s.op.Tail, payload: s.op.Payload, attempt: s.op.Attempt, since: s.op.Since}
	default:
		w.ops[stream] = s
	}
}

// state finds the op of an event, or begins it; nil if there can be none.
func (w *worker) state(it *item, stream string, key uint64) *opState {
	if s := w.ops[stream]; s != nil {
		return s
	}
	n, ok := op.NonceOfStream(stream)
	if !ok {
		w.damage(stream, key, &it.event, "", diagnosis{BadStream, "op- and a nonce of 32 to 128 lower-case hex digits", stream})
		return nil
	}
	if w.seen.ended.has(key) {
		w.damageEnded(stream, key, &it.event)
		return nil
	}
	s := &opState{op: op.New(w.ledger, n)}
	if r, ok := w.resting[key]; ok {
		delete(w.resting, key)
		s.op.State, s.op.Tail, s.op.Payload, s.op.Pinned = op.StateFailedClean, r.tail, r.payload, true
		s.op.Attempt, s.op.Since = r.attempt, r.since
	}
	return s
}

// damage reports an op whose stream can't be followed any further. What comes
// after it in the stream is counted as unchecked.
func (w *worker) damage(stream string, key uint64, e *eventstore.Recorded, opID string, d diagnosis) {
	w.find(d.kind, e, opID, d.expected, d.found)
	w.counts.Ops.Damaged++
	w.counts.Unchecked++
	delete(w.ops, stream)
	delete(w.resting, key)
	w.seen.damaged.add(key)
}

// damageEnded reports an event after an op's end. The op stays counted by how
// it ended.
func (w *worker) damageEnded(stream string, key uint64, e *eventstore.Recorded) {
	w.damage(stream, key, e, "", diagnosis{EventAfterEnd, "no event after the op's end", fmt.Sprintf("%s at revision %d", e.Type, e.Revision)})
	w.counts.Ops.Damaged--
}

// happened checks what an event that fits its stream says.
func (w *worker) happened(it *item, s *opState) {
	var h op.Header
	switch it.event.Type {
	case op.TypeStarted:
		h = s.op.Started.Header
		w.counts.Attempts++
		w.checkClaim(it, s)
	case op.TypeLaunching:
		h = s.op.Launching.Header
		w.counts.Launches++
		w.checkLaunch(it, s)
	case op.TypeTaskRunning:
		h = s.op.Running.Header
		w.checkTask(it, s)
	case op.TypeSucceeded:
		h = s.op.Succeeded.Header
		w.checkResolution(it, s, s.op.Succeeded.Resolution, op.EffectDone)
	case op.TypeFailed:
		h = s.op.Failed.Header
		w.checkFailure(it, s)
	case op.TypeVoided:
		h = s.op.Voided.Header
	}
	w.checkEpoch(it, s, h)
}

// checkTask tells whether a task is this op's alone.
func (w *worker) checkTask(it *item, s *opState) {
	// Nothing more is decided about the claim: what is long is not kept.
	started := *s.op.Started
	started.Envelope = nil
	s.op.Started, s.writ, s.allowed = &started, nil, nil
	upid := s.op.Running.UPID
	if upid == "" {
		return
	}
	if !w.seen.tasks.add(w.seen.key(upid)) {
		w.find(TaskOfTwoOps, &it.event, s.op.OpID, "a task that no other event names", "it is on record already: "+upid)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if ad := w.adopted[upid]; ad != nil && ad.opID == s.op.OpID {
		ad.confirmed = true
	}
}

// follow tells whether an event is the one that comes next in a stream that is
// not an op's.
func (w *worker) follow(e *eventstore.Recorded) bool {
	c := w.others[string(e.Stream)]
	if c == nil {
		c = &chain{}
		w.others[string(e.Stream)] = c
	}
	return c.check(w.tally, e)
}
