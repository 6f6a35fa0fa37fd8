package audit

import (
	"fmt"
	"time"

	"writ/domain/op"
)

// leadDelay is how long an instance may go on claiming before it finds out that
// another one has taken over.
const leadDelay = time.Minute

// What is noted and is no finding.
const (
	notedLateWriter = "events by an instance that had been superseded, about its own attempts"
	notedVoid       = "writs taken back at an instance that did not lead"
)

// checkEpoch tells whether the writer of an event was the one that launches, as
// far as there is an election on record.
//
// An instance that is superseded may not know it for a moment, and the attempts
// that it has launched go on: what it tells of them is no offence, as each of
// its appends must still find the stream as it knows it. What it must not do is
// go on claiming, and launch: whoever has announced a request looks once more
// who leads before sending it.
func (w *worker) checkEpoch(it *item, s *opState, h op.Header) {
	newest := it.world.leads[h.Agent]
	found, next := newest.of(h.Epoch)
	typ := it.event.Type
	current := newest == nil && h.Epoch == 0 || newest != nil && found == newest
	late := !current && next != nil && (found != nil || h.Epoch == 0)
	switch {
	case current && (found == nil || found.instance == h.Instance):
	case typ == op.TypeVoided && h.Epoch == 0:
		w.notes[notedVoid]++ // any instance may take a writ back
	case found != nil && found.instance != h.Instance:
		w.find(WrongEpoch, &it.event, h.OpID, fmt.Sprintf("epoch %d of instance %s", found.epoch, found.instance), fmt.Sprintf("epoch %d of instance %s", h.Epoch, h.Instance))
	case !late:
		w.find(WrongEpoch, &it.event, h.OpID, "an epoch of agent "+h.Agent+" that is on record before", fmt.Sprintf("epoch %d of instance %s", h.Epoch, h.Instance))
	case claims(typ) && h.At.After(next.at.Add(leadDelay)), typ == op.TypeTaskRunning && s.late && !s.op.Running.Adopted:
		w.find(WrongEpoch, &it.event, h.OpID, fmt.Sprintf("nothing claimed or launched by epoch %d, superseded by instance %s at %s", h.Epoch, next.instance, stamp(next.at)),
			fmt.Sprintf("%s by instance %s at %s", typ, h.Instance, stamp(h.At)))
	default:
		w.notes[notedLateWriter]++
	}
	switch typ {
	case op.TypeStarted:
		s.late = false
	case op.TypeLaunching:
		s.late = late
	}
}

func claims(typ string) bool { return typ == op.TypeStarted || typ == op.TypeLaunching }

// aliveEvent checks a sign of life.
func (w *worker) aliveEvent(it *item) {
	e := &it.event
	if !w.follow(e) {
		return
	}
	var a op.Alive
	err := op.Unmarshal(e.Data, &a)
	found, _ := it.world.leads[a.Agent].of(a.Epoch)
	switch {
	case e.Type != op.TypeAlive:
		w.find(UnknownEvent, e, "", op.TypeAlive, e.Type)
	case err != nil:
		w.find(BadEvent, e, "", "a sign of life in the form of "+op.TypeAlive, err.Error())
	case op.AliveStream(a.Agent) != string(e.Stream):
		w.find(Contradiction, e, "", "a sign of life of the agent whose stream it is", "one of "+a.Agent)
	case found == nil || found.instance != a.Instance:
		w.find(WrongEpoch, e, "", "an epoch that instance "+a.Instance+" has taken before", fmt.Sprintf("epoch %d", a.Epoch))
	default:
		w.counts.Alive++
	}
}
