package audit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"writ/domain/eventstore"
	"writ/domain/gate"
	"writ/domain/op"
)

// Prefixes of the streams that are not an op's.
const (
	gatePrefix  = "gate-"
	agentPrefix = "agent-"
	alivePrefix = "alive-"
	upidPrefix  = "upid-"
)

// An auditor is one run of Verify. The goroutine that reads the source checks
// what all others depend on, the policies and the take-overs, and hands every
// other event to the worker that has its stream, together with how the world
// was at that place of the ledger.
type auditor struct {
	ledger  string
	limit   int
	today   *gate.Policy
	known   []op.Digest
	seen    *memory
	main    *tally // of the reading goroutine
	workers []*worker

	policies  chain
	self      chain // of the ledger about itself
	agents    map[string]*chain
	world     *world
	rollbacks []Rollback
	types     map[string]uint64
	last      uint64 // position
	cut       bool   // the source said that it is not whole

	mu       sync.Mutex // guards adopted, which workers look at
	adopted  map[string]*adoption
	oddities map[string]int // streams of no kind that an audit knows, by the beginning of their name
}

// An item is an event on its way to a worker.
type item struct {
	event eventstore.Recorded
	world *world
}

// Bounds of a batch for a worker: events, and bytes of their data.
const (
	batchEvents = 64
	batchBytes  = 1 << 20
)

// dispatch reads the source to its end.
func (a *auditor) dispatch(ctx context.Context, src Source, progress func(Progress)) error {
	a.world = &world{audience: a.ledger}
	a.agents = make(map[string]*chain)
	a.adopted = make(map[string]*adoption)
	a.types = make(map[string]uint64)
	a.oddities = make(map[string]int)
	if m, ok := src.(interface{ measure() }); ok && progress != nil {
		m.measure()
	}
	batches := make([][]item, len(a.workers))
	sizes := make([]int, len(a.workers))
	flush := func(i int) {
		if len(batches[i]) > 0 {
			a.workers[i].queue <- batches[i]
			batches[i], sizes[i] = nil, 0
		}
	}
	defer func() {
		for i := range batches {
			flush(i)
		}
	}()
	tell := func() {
		if progress != nil {
			done, total := src.Progress()
			progress(Progress{Events: a.main.counts.Events, Done: done, Total: total})
		}
	}
	defer tell()
	for e, err := range src.Events(ctx, eventstore.Filter{}) {
		if err != nil {
			if !a.damaged(err) {
				return err
			}
			continue
		}
		a.arrived(&e)
		if i := a.route(&e); i >= 0 {
			if batches[i] == nil {
				batches[i] = make([]item, 0, batchEvents)
			}
			batches[i] = append(batches[i], item{event: e, world: a.world})
			if sizes[i] += len(e.Data) + len(e.Metadata); len(batches[i]) == batchEvents || sizes[i] >= batchBytes {
				flush(i)
			}
		}
		if a.main.counts.Events%progressEvery == 0 {
			tell()
		}
	}
	return ctx.Err()
}

// damaged notes an error that stands in the place of an event; false if it is
// another error.
func (a *auditor) damaged(err error) bool {
	var unreadable *UnreadableError
	var incomplete *IncompleteError
	switch {
	case errors.As(err, &unreadable):
		a.main.find(Unreadable, &eventstore.Recorded{Position: unreadable.Position}, "", "an event that can be read", unreadable.Error())
	case errors.As(err, &incomplete):
		a.cut = true
		a.main.find(Incomplete, &eventstore.Recorded{Position: eventstore.Position(a.last)}, "", incomplete.Expected, incomplete.Found)
	default:
		return false
	}
	return true
}

// maxTypes bounds the event types that are counted by name.
const maxTypes = 64

func (a *auditor) arrived(e *eventstore.Recorded) {
	a.main.counts.Events++
	name := e.Type
	if _, known := a.types[name]; !known {
		if name = shorten(name); len(a.types) >= maxTypes {
			name = "others"
		}
	}
	a.types[name]++
	if at := uint64(e.Position); at <= a.last && a.main.counts.Events > 1 {
		a.main.find(OutOfOrder, e, "", fmt.Sprintf("a position beyond %d", a.last), fmt.Sprintf("position %d", at))
	} else {
		a.last = at
	}
}

// route checks what is checked here, and gives the worker of any other event;
// -1 if there is none.
func (a *auditor) route(e *eventstore.Recorded) int {
	stream := string(e.Stream)
	switch {
	case strings.HasPrefix(stream, op.StreamPrefix), strings.HasPrefix(stream, gatePrefix), strings.HasPrefix(stream, alivePrefix):
		return int(a.seen.key(stream) % uint64(len(a.workers)))
	case stream == gate.PolicyStream:
		a.policyEvent(e)
	case stream == op.LedgerStream:
		a.ledgerEvent(e)
	case strings.HasPrefix(stream, agentPrefix):
		a.agentEvent(e)
	case strings.HasPrefix(stream, upidPrefix):
		a.upidEvent(e)
	default:
		name, _, _ := strings.Cut(stream, "-")
		if name = shorten(name); len(a.oddities) >= maxTypes && a.oddities[name] == 0 {
			name = "others"
		}
		a.oddities[name]++
		a.main.counts.Unchecked++
	}
	return -1
}

func recordOf(e *eventstore.Recorded) op.Record {
	return op.Record{Revision: uint64(e.Revision), ID: op.ID(e.ID), Type: e.Type, Data: e.Data, Metadata: e.Metadata}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
