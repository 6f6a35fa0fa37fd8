package simulation_test

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"time"

	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/op"
)

// A copyOf is one copy of the ledger, and what the simulation notes about it.
type copyOf struct {
	sim     *sim
	number  int
	memory  *storetest.Memory
	steps   map[eventstore.Position]int // when an event became durable
	last    map[op.Nonce]string         // the newest event of each op
	nonces  []op.Nonce                  // in the order of their first event
	marks   map[string]*witness         // outside the store: of each instance
	records int
	terms   []int // at which record each epoch began
	// accepted: people took it for the one that counts, whatever it does not know.
	accepted bool
}

func newCopy(s *sim, number int) *copyOf {
	return &copyOf{
		sim: s, number: number, memory: storetest.NewMemory(ledger), steps: make(map[eventstore.Position]int),
		last: make(map[op.Nonce]string), marks: make(map[string]*witness),
	}
}

// branch gives another copy that has the first of the events of this one.
func (c *copyOf) branch(number, records int) *copyOf {
	o := newCopy(c.sim, number)
	ctx := context.Background()
	for r, err := range c.memory.ReadAll(ctx, eventstore.Cursor{}, eventstore.Filter{}) {
		if err != nil {
			panic(err)
		}
		if o.records == records {
			break
		}
		expected := eventstore.NoStream()
		if r.Revision > 0 {
			expected = eventstore.At(r.Revision - 1)
		}
		done, err := o.append(r.Stream, expected, eventstore.Proposed{ID: r.ID, Type: r.Type, Data: r.Data, Metadata: r.Metadata})
		if err != nil || done.Position != r.Position {
			panic(fmt.Sprint("the copy differs from its original: ", err))
		}
		o.steps[r.Position] = c.steps[r.Position]
	}
	for name, w := range c.marks {
		o.marks[name] = &witness{sim: c.sim, mark: w.mark, kept: w.kept}
	}
	return o
}

func (c *copyOf) append(stream eventstore.StreamID, expected eventstore.Expected, events ...eventstore.Proposed) (eventstore.Appended, error) {
	done, err := c.memory.Append(context.Background(), stream, expected, events...)
	if err != nil {
		return done, err
	}
	if _, known := c.steps[done.Position]; known {
		return done, nil // a repetition
	}
	c.steps[done.Position] = c.sim.step
	c.records += len(events)
	if stream == eventstore.StreamID(op.AgentStream(agent)) {
		c.terms = append(c.terms, c.records)
	}
	if n, ok := op.NonceOfStream(string(stream)); ok {
		if _, known := c.last[n]; !known {
			c.nonces = append(c.nonces, n)
		}
		c.last[n] = events[len(events)-1].Type
		switch c.last[n] {
		case op.TypeStarted:
			c.sim.claimed(n, events[len(events)-1].Data)
		case op.TypeLaunching:
			c.sim.announced(c, n, events[len(events)-1].Data)
		case op.TypeSucceeded:
			c.sim.succeeded(n, events[len(events)-1].Data)
		case op.TypeFailed:
			c.sim.failed(c, n, events[len(events)-1].Data)
		}
	}
	return done, nil
}

// tookOver gives at which record an epoch began, 0 if it has not.
func (c *copyOf) tookOver(epoch uint64) int {
	if epoch == 0 || epoch > uint64(len(c.terms)) {
		return 0
	}
	return c.terms[epoch-1]
}

// inFlight are the ops whose newest event does not end them.
func (c *copyOf) inFlight() []op.Nonce {
	var found []op.Nonce
	for _, n := range c.nonces {
		switch c.last[n] {
		case op.TypeStarted, op.TypeLaunching, op.TypeTaskRunning:
			found = append(found, n)
		}
	}
	return found
}

// A store is a copy of the ledger as one process reaches it.
type store struct {
	*copyOf

	by *process
}

func (s store) LedgerID() eventstore.LedgerID { return s.memory.LedgerID() }

// storePatience is for how long a process waits for a read at most.
const storePatience = time.Minute

func (s store) Append(ctx context.Context, stream eventstore.StreamID, expected eventstore.Expected, events ...eventstore.Proposed) (got eventstore.Appended, err error) {
	if s.aside(stream) {
		if err := s.atOnce(); err != nil {
			return eventstore.Appended{}, err
		}
		return s.append(stream, expected, events...)
	}
	answer := s.by.sim.park(&call{
		key: s.by.name + " append " + short(stream) + " at " + expected.String() + " " + events[len(events)-1].Type, by: s.by, ctx: ctx, kind: writes,
		act: func() {
			got, err = s.append(stream, expected, events...)
			s.note(got, events, err)
		},
		late: func() {
			got, err := s.append(stream, expected, events...)
			s.note(got, events, err)
		},
	})
	if answer != nil {
		return eventstore.Appended{}, fmt.Errorf("append %s: %w", stream, answer)
	}
	return got, err
}

// note puts the bytes that were appended into the history, by their digest.
func (s store) note(got eventstore.Appended, events []eventstore.Proposed, err error) {
	if err != nil {
		s.by.sim.tell("refused", err.Error())
		return
	}
	s.by.sim.tell("on record at", strconv.FormatUint(uint64(got.Position), 10), op.ID(events[len(events)-1].ID).String())
}

// aside tells whether a stream is that of an instance's own gate. What is
// written there nobody waits for, and writers stand in line with a lock held,
// which a call that is parked must not be.
func (s store) aside(stream eventstore.StreamID) bool {
	return len(stream) > 5 && stream[:5] == "gate-"
}

// atOnce is for what is not parked.
func (s store) atOnce() error {
	if s.by.dead {
		return errDead
	}
	return s.by.away(reads, s.by.sim.now())
}

// read carries out a read when its turn has come.
func (s store) read(ctx context.Context, what string, act func()) error {
	return s.by.sim.park(&call{
		key: s.by.name + " read " + what, by: s.by, ctx: ctx, kind: reads, act: act, until: s.by.sim.now().Add(storePatience),
	})
}

func (s store) ReadStream(ctx context.Context, stream eventstore.StreamID, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	return s.seq(ctx, short(stream), func() iter.Seq2[eventstore.Recorded, error] {
		return s.memory.ReadStream(context.Background(), stream, from)
	})
}

func (s store) ReadAll(ctx context.Context, after eventstore.Cursor, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return s.seq(ctx, "all", func() iter.Seq2[eventstore.Recorded, error] {
		return s.memory.ReadAll(context.Background(), after, filter)
	})
}

func (s store) seq(ctx context.Context, what string, open func() iter.Seq2[eventstore.Recorded, error]) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		var all []eventstore.Recorded
		var end error
		if err := s.read(ctx, what, func() {
			for e, err := range open() {
				if err != nil {
					end = err
					return
				}
				all = append(all, e)
			}
		}); err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		for _, e := range all {
			if !yield(e, nil) {
				return
			}
		}
		if end != nil {
			yield(eventstore.Recorded{}, end)
		}
	}
}

func (s store) Head(ctx context.Context, stream eventstore.StreamID) (head eventstore.Recorded, err error) {
	act := func() { head, err = s.memory.Head(context.Background(), stream) }
	if s.aside(stream) {
		if err := s.atOnce(); err != nil {
			return head, err
		}
		act()
		return head, err
	}
	if e := s.read(ctx, "head of "+short(stream), act); e != nil {
		return eventstore.Recorded{}, e
	}
	if err == nil && stream == eventstore.StreamID(op.AgentStream(agent)) {
		s.by.heard = max(s.by.heard, uint64(head.Revision)+1)
	}
	return head, err
}

// Subscribe gives what is new each time that the scheduler lets it look.
func (s store) Subscribe(ctx context.Context, after eventstore.Cursor, filter eventstore.Filter) iter.Seq2[eventstore.Notice, error] {
	return func(yield func(eventstore.Notice, error) bool) {
		for first := true; ; first = false {
			var fresh []eventstore.Recorded
			if err := s.read(ctx, "what is new", func() {
				for e, err := range s.memory.ReadAll(context.Background(), after, filter) {
					if err == nil {
						fresh = append(fresh, e)
					}
				}
			}); err != nil {
				yield(eventstore.Notice{}, err)
				return
			}
			for _, e := range fresh {
				after = eventstore.After(e.Position)
				if !yield(eventstore.Notice{Kind: eventstore.NewEvent, Event: e, At: after}, nil) {
					return
				}
			}
			if first && !yield(eventstore.Notice{Kind: eventstore.CaughtUp, At: after}, nil) {
				return
			}
			if err := s.by.Wait(ctx, 3*time.Second); err != nil {
				yield(eventstore.Notice{}, err)
				return
			}
		}
	}
}

func short(stream eventstore.StreamID) string {
	if n, ok := op.NonceOfStream(string(stream)); ok {
		return "op-" + n.Short()
	}
	return string(stream)
}
