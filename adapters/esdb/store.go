package esdb

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"slices"

	"writ/domain/eventstore"
)

// A Store is a ledger in an EventStoreDB. It implements [eventstore.Store].
type Store struct {
	client *client
	id     identity
	log    *slog.Logger
}

// Open connects to a database and checks that it holds a ledger that this
// program may write to. It makes one attempt, bounded by ctx and the call's
// time: an operator should hear of a wrong name or password at once. Once
// open, the store outlives any outage.
func Open(ctx context.Context, o Options) (*Store, error) {
	t, err := parse(o)
	if err != nil {
		return nil, err
	}
	s := &Store{client: newClient(t, o.Logger)}
	s.log = s.client.log
	c := s.client
	c.accept = func(ctx context.Context, l *link) error {
		if err := c.checkVersion(demandLeader(ctx), l); err != nil {
			return err
		}
		id, err := c.readIdentity(ctx, l)
		switch {
		case err != nil:
			return err
		case s.id == identity{}:
			s.id = id // of the first link; nobody has the store yet
		case s.id != id:
			return fmt.Errorf("it holds ledger %s in store %s; this is ledger %s in store %s", id.Ledger, id.Store, s.id.Ledger, s.id.Store)
		}
		return nil
	}
	// The accepting function may still run when the caller has left.
	if _, err := c.acquire(ctx); err != nil {
		c.close()
		return nil, fmt.Errorf("open the ledger at %s: %w", t, err)
	}
	return s, nil
}

// Close ends all calls: the outcome of appends under way is unknown. The store
// can't be used afterwards.
func (s *Store) Close() error {
	s.client.close()
	return nil
}

// LedgerID implements [eventstore.Store].
func (s *Store) LedgerID() eventstore.LedgerID { return eventstore.LedgerID(s.id.Ledger) }

// Name is the store's part of a cursor. It is another one for every database,
// because positions mean nothing in another one, even in a copy.
func (s *Store) Name() string { return "esdb-" + s.id.Store }

// Health gives nil if the leader answers and holds this ledger. It waits for
// the call's time at most.
func (s *Store) Health(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.client.target.callTimeout, errLate)
	defer cancel()
	l, err := s.client.acquire(ctx)
	if err != nil {
		return fmt.Errorf("eventstoredb: %w", err)
	}
	id, err := s.client.readIdentity(ctx, l)
	if err == nil && id != s.id {
		err = fmt.Errorf("the node holds ledger %s in store %s; this is ledger %s in store %s", id.Ledger, id.Store, s.id.Ledger, s.id.Store)
	}
	if err != nil {
		return fmt.Errorf("eventstoredb: %w", err)
	}
	return nil
}

// Append implements [eventstore.Appender]. After an outage the first error
// comes within the call's time, and the append is never repeated here.
func (s *Store) Append(ctx context.Context, stream eventstore.StreamID, expected eventstore.Expected, events ...eventstore.Proposed) (eventstore.Appended, error) {
	if err := checkAppend(stream, expected, events); err != nil {
		return eventstore.Appended{}, err
	}
	if err := ctx.Err(); err != nil {
		return eventstore.Appended{}, fmt.Errorf("append %s at %s: %w", stream, expected, err)
	}
	return s.client.append(ctx, stream, expected, events)
}

// checkAppend refuses what breaks the form, and what would mean something else
// on the wire: the protocol's revision is signed, and the values behind its
// largest one stand for 'no stream', 'any' and 'exists'.
func checkAppend(stream eventstore.StreamID, expected eventstore.Expected, events []eventstore.Proposed) error {
	if err := eventstore.CheckAppend(stream, expected, events); err != nil {
		return err
	}
	if stream == LedgerStream {
		return &eventstore.InvalidError{Stream: stream, Why: "the stream belongs to the store"}
	}
	if r, ok := expected.Revision(); ok && r > maxNumber-eventstore.MaxAppendEvents {
		return &eventstore.InvalidError{Stream: stream, Why: fmt.Sprintf("no stream has a revision %d", r)}
	}
	return nil
}

// maxNumber is the largest revision and position of the protocol.
const maxNumber = math.MaxInt64

// ReadStream implements [eventstore.Reader]. What a connection that ends cuts
// off is asked for again, for as long as a call may take.
func (s *Store) ReadStream(ctx context.Context, stream eventstore.StreamID, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		fail := func(err error) { yield(eventstore.Recorded{}, fmt.Errorf("read %s: %w", stream, err)) }
		for at := from; ; {
			p, err := s.page(ctx, stream, at, pageEvents)
			if err != nil {
				fail(err)
				return
			}
			for _, e := range p.events {
				if err := ctx.Err(); err != nil {
					fail(err)
					return
				}
				if !yield(e, nil) {
					return
				}
				at = e.Revision + 1
			}
			if p.last {
				return
			}
		}
	}
}

// page reads the next n events of a stream, or fewer.
func (s *Store) page(ctx context.Context, stream eventstore.StreamID, from eventstore.Revision, n int) (p page, err error) {
	if hidden(stream) {
		return page{}, eventstore.ErrStreamNotFound
	}
	err = s.repeat(ctx, func(ctx context.Context, l *link) error {
		p, err = s.client.pageOver(ctx, l, stream, from, n)
		return err
	})
	return p, err
}

// Head implements [eventstore.Reader].
func (s *Store) Head(ctx context.Context, stream eventstore.StreamID) (e eventstore.Recorded, err error) {
	if hidden(stream) {
		err = eventstore.ErrStreamNotFound
	} else {
		err = s.repeat(ctx, func(ctx context.Context, l *link) error {
			e, err = s.client.headOver(ctx, l, stream)
			return err
		})
	}
	if err != nil {
		return eventstore.Recorded{}, fmt.Errorf("read the head of %s: %w", stream, err)
	}
	return e, nil
}

// repeat makes a call that changes nothing until it is answered, within the
// time of one call.
func (s *Store) repeat(ctx context.Context, do func(context.Context, *link) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := s.client.call(ctx)
	defer cancel()
	for failures := 1; ; failures++ {
		l, err := s.client.acquire(ctx)
		if err == nil {
			err = do(ctx, l)
		}
		if err == nil || lasting(err) {
			return err
		}
		if s.client.wait(ctx, pauseAfter(failures)) != nil {
			if e := ended(ctx); e != nil && !errors.Is(e, errLate) {
				return e
			}
			return err // it says more than that the time is over
		}
	}
}

// hidden tells whether a stream is the store's own.
func hidden(stream eventstore.StreamID) bool {
	return stream == "" || stream[0] == '$' || stream == LedgerStream
}

// passes tells whether a reader is given the events of a stream.
func passes(f eventstore.Filter, stream eventstore.StreamID) bool {
	return !hidden(stream) && f.Passes(stream)
}

// everything tells whether a filter lets all streams pass.
func everything(f eventstore.Filter) bool {
	return len(f.StreamPrefixes) == 0 || slices.Contains(f.StreamPrefixes, "")
}
