package crashmatrix_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"writ/domain/engine"
	"writ/domain/engine/enginetest"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/gate"
	"writ/domain/op"
)

const ledger = eventstore.LedgerID(enginetest.Ledger)

// now is the time of everything: no check of an age or of an expiry can hide
// what would go wrong without it.
var now = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

// pace gives up early: a repetition more shows nothing that one does not.
var pace = engine.Pace{
	AppendRetry: time.Millisecond, AppendRetryMax: time.Millisecond, HostRetry: time.Millisecond, HostRetryMax: time.Millisecond,
	FindTries: 2, LookTries: 2, Poll: time.Millisecond, PollMax: time.Millisecond, StaleLook: time.Second,
}

// A writ is what all histories of a class are about: an order, signed or, of a
// benign class, not.
type writ struct {
	policy *gate.Policy
	order  enginetest.Order
	class  enginetest.Class

	begun     engine.Job // a job for it that has begun
	first     engine.Command
	drawing   *life            // whose claims are drawn
	folded    map[string]op.Op // by the ids of a stream's records: they decide its bytes
	read      map[string]fact  // what the checker has read, by the bytes
	hollow    bool             // wrong on purpose: the fence does nothing
	credulous bool             // wrong on purpose: the probe takes what others did for the attempt\'s doing
	telling   bool             // what happens is written down, for people
}

func newWrit(tb testing.TB, c enginetest.Class) *writ {
	tb.Helper()
	w := &writ{
		policy: enginetest.Policy(tb), order: enginetest.NewOrder(tb, c, now), class: c,
		folded: make(map[string]op.Op), read: make(map[string]fact),
	}
	sub := engine.Submission{Intent: w.order.Intent, Envelope: w.order.Envelope, SubmittedBy: w.order.Caller}
	j := engine.NewJob(identity(0), pace, func() op.Claim { return w.drawing.draw() }, sub)
	w.first = j.Begin(now)
	w.begun = *j
	return w
}

func identity(epoch int) engine.Identity {
	return engine.Identity{Site: enginetest.Site(), Instance: "node-a", Epoch: uint64(epoch)}
}

// A life is one history: a ledger, a host, and the processes that come and go.
type life struct {
	*writ
	memory *storetest.Memory
	host   *host
	epoch  int // of the process at work
	drawn  byte
	steps  int
	ending bool // the service is about to stop

	moments   []int // for what is late, in its order: before which command it comes
	late      int   // how much was late so far
	followers []*follower
	inTime    []bool // of what was late: it came before all was over

	ops   []*onRecord // of the order: of a benign class each delivery is an op of its own
	log   []string    // what happened, for people
	wrong string      // the first thing that the checker found
}

func newLife(w *writ, end exit, shared bool) *life {
	l := &life{writ: w, memory: storetest.NewMemory(ledger), epoch: 1}
	l.host = &host{
		class: w.class, state: enginetest.Untouched, end: end, shared: shared, hollow: w.hollow, credulous: w.credulous, tokens: make(map[tokenName]bool),
	}
	if n := w.order.Nonce; n != "" {
		l.ops = []*onRecord{{nonce: n}}
	}
	return l
}

func (l *life) draw() op.Claim {
	l.drawn++
	return op.Claim{l.drawn}
}

// load folds an op's stream. Streams come up again and again, and are folded once.
func (l *life) load(n op.Nonce) op.Op {
	var key strings.Builder
	for e, err := range l.memory.ReadStream(context.Background(), eventstore.StreamID(n.Stream()), 0) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			break
		}
		key.WriteString(string(e.ID[:]))
	}
	key.WriteString(string(n))
	if o, ok := l.folded[key.String()]; ok {
		return o
	}
	o, err := engine.LoadOp(context.Background(), l.memory, ledger, n)
	if err != nil {
		panic("crashmatrix: the stream that the engine has written: " + err.Error())
	}
	l.folded[key.String()] = o
	return o
}
