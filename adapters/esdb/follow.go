package esdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"
	"unicode/utf8"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"

	"writ/domain/eventstore"
)

// searched is the number of events that don't pass a filter after which the
// server says how far it got.
const searched = 256

// notOurs lets everything pass but the streams of the database itself.
const notOurs = `^[^\$]`

// ReadAll implements [eventstore.Reader]. The call itself asks where the ledger
// ends, and so may take as long as any other. It is a subscription that ends where
// the ledger ended at the call, because only a subscription says how far the
// server has searched when nothing passes.
func (s *Store) ReadAll(ctx context.Context, after eventstore.Cursor, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	var end eventstore.Cursor
	failed := s.repeat(ctx, func(ctx context.Context, l *link) (err error) {
		end, err = s.client.endOver(ctx, l)
		return err
	})
	return func(yield func(eventstore.Recorded, error) bool) {
		err := failed
		if err == nil {
			f := &follower{
				store: s, filter: filter, at: after, until: end, finite: true,
				tell: func(n eventstore.Notice) bool { return n.Kind != eventstore.NewEvent || yield(n.Event, nil) },
			}
			err = f.run(ctx)
		}
		if err != nil {
			yield(eventstore.Recorded{}, fmt.Errorf("read the ledger: %w", err))
		}
	}
}

// Subscribe implements [eventstore.Subscriber]. It goes on through outages; it
// ends with another error than the context's only if the first attempt is
// refused for good, the store is closed, or the ledger turns out to be another
// one than was read so far.
func (s *Store) Subscribe(ctx context.Context, after eventstore.Cursor, filter eventstore.Filter) iter.Seq2[eventstore.Notice, error] {
	return func(yield func(eventstore.Notice, error) bool) {
		f := &follower{store: s, filter: filter, at: after, tell: func(n eventstore.Notice) bool { return yield(n, nil) }}
		if err := f.run(ctx); err != nil {
			yield(eventstore.Notice{}, fmt.Errorf("follow the ledger: %w", err))
		}
	}
}

// A follower gives one reader the ledger from a cursor on, over as many calls
// as it takes.
type follower struct {
	store  *Store
	filter eventstore.Filter
	tell   func(eventstore.Notice) bool // false: the reader has had enough

	finite bool
	until  eventstore.Cursor // if finite: where to end

	at       eventstore.Cursor   // everything up to here was told
	last     eventstore.Recorded // the newest event that was told, without its bytes; if there was one
	caughtUp bool                // and that was told
	worked   bool                // at least one call was confirmed
	moved    bool                // f.at was, in the present call
	since    time.Time           // when the present call was confirmed; zero: it was not
}

// errEnough says that the reader needs no more.
var errEnough = errors.New("enough")

// run returns nil when the reader has had enough or the end was reached.
func (f *follower) run(ctx context.Context) error {
	if err := f.check(); err != nil {
		return err
	}
	failingSince := time.Time{}
	for failures := 0; ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if f.finite && !before(f.at, f.until) {
			return nil
		}
		f.moved, f.since = false, time.Time{}
		err := f.once(ctx)
		switch {
		case errors.Is(err, errEnough):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case f.hopeless(err):
			return err
		}
		lasted := !f.since.IsZero() && time.Since(f.since) > 2*maxPause
		if failures == 0 || f.moved || lasted {
			failures, failingSince = 0, time.Now()
		}
		if f.finite && time.Since(failingSince) > f.store.client.target.callTimeout {
			return err
		}
		if failures++; failures == 1 {
			f.store.log.WarnContext(ctx, "eventstoredb: subscription interrupted, resuming", "err", err)
		}
		if err := f.store.client.wait(ctx, pauseAfter(failures)); err != nil {
			return err
		}
	}
}

// check refuses cursors and filters that have no form on the wire.
func (f *follower) check() error {
	if p, ok := f.at.Position(); ok && p > maxNumber {
		return fmt.Errorf("no event has position %d", p)
	}
	for _, p := range f.filter.StreamPrefixes {
		if !utf8.ValidString(p) {
			return fmt.Errorf("the prefix %.60q is not UTF-8, as every stream's name is", p)
		}
	}
	return nil
}

// hopeless tells whether the follower must end. An account that was refused
// before is told at once; one that is refused after an outage may be known
// again when the server has come up.
func (f *follower) hopeless(err error) bool {
	var corrupt *eventstore.CorruptError
	var odd *replyError
	var call *callError
	switch {
	case errors.As(err, &corrupt), errors.As(err, &odd), errors.Is(err, eventstore.ErrClosed):
		return true
	case errors.As(err, &call):
		return !f.worked && lasting(err)
	}
	return false
}

// once makes one subscription, and tells what comes until it ends.
func (f *follower) once(ctx context.Context) error {
	c := f.store.client
	if err := f.stillThere(ctx); err != nil {
		return err
	}
	limited, done := c.call(ctx)
	l, err := c.acquire(limited)
	done()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(demandLeader(ctx))
	defer cancel(nil) // frees the call
	// While it catches up, the server has something to say all the time.
	// Afterwards silence is normal, and keepalive finds a dead connection.
	silence := time.AfterFunc(c.target.callTimeout, func() { cancel(errLate) })
	defer silence.Stop()
	began := l.now()
	call, err := l.streams.Read(ctx, &streams.ReadReq{Options: f.options()})
	if err != nil {
		return c.failed(ctx, l, began, err, nil)
	}
	for live := false; ; {
		if !live {
			silence.Reset(c.target.callTimeout)
		}
		reply, err := call.Recv()
		silence.Stop() // what the reader takes its time for is no silence
		if errors.Is(err, io.EOF) {
			return &callError{why: "the server ended the subscription"}
		}
		if err != nil {
			return c.failed(ctx, l, began, err, call.Trailer())
		}
		l.hear()
		if _, ok := reply.GetContent().(*streams.ReadResp_CaughtUp_); ok {
			live = true
		}
		if err := f.take(ctx, reply); err != nil {
			return err
		}
	}
}

// stillThere looks, before a subscription is resumed, whether the last event
// told is where it was. If it is not, the database was put back to an earlier
// state, and what comes behind that position is not what comes next.
func (f *follower) stillThere(ctx context.Context) error {
	if f.last.ID == (eventstore.EventID{}) {
		return nil
	}
	gone := &eventstore.CorruptError{
		Stream: f.last.Stream,
		Why:    fmt.Sprintf("revision %d at position %d was read and is there no more: the database is an older copy", f.last.Revision, f.last.Position),
	}
	var corrupt *eventstore.CorruptError
	p, err := f.store.page(ctx, f.last.Stream, f.last.Revision, 1)
	switch {
	case errors.Is(err, eventstore.ErrStreamNotFound):
		return gone
	case errors.As(err, &corrupt):
		// One stream's damage must not stop the others.
		f.store.log.WarnContext(ctx, "eventstoredb: the last event that was read can't be looked at again", "err", err)
		return nil
	case err != nil:
		return err
	case len(p.events) == 0 || p.events[0].ID != f.last.ID || p.events[0].Position != f.last.Position:
		return gone
	}
	return nil
}

// options asks for everything behind the cursor that passes.
func (f *follower) options() *streams.ReadReq_Options {
	o := readOptions()
	o.ReadDirection = streams.ReadReq_Options_Forwards
	o.CountOption = &streams.ReadReq_Options_Subscription{Subscription: &streams.ReadReq_Options_SubscriptionOptions{}}
	all := &streams.ReadReq_Options_AllOptions{AllOption: &streams.ReadReq_Options_AllOptions_Start{Start: &shared.Empty{}}}
	if p, ok := f.at.Position(); ok {
		all.AllOption = &streams.ReadReq_Options_AllOptions_Position{Position: &streams.ReadReq_Options_Position{
			CommitPosition: uint64(p), PreparePosition: uint64(p),
		}}
	}
	o.StreamOption = &streams.ReadReq_Options_All{All: all}
	names := &streams.ReadReq_Options_FilterOptions_Expression{Prefix: f.filter.StreamPrefixes}
	if everything(f.filter) {
		names = &streams.ReadReq_Options_FilterOptions_Expression{Regex: notOurs}
	}
	o.FilterOption = &streams.ReadReq_Options_Filter{Filter: &streams.ReadReq_Options_FilterOptions{
		Filter:                       &streams.ReadReq_Options_FilterOptions_StreamIdentifier{StreamIdentifier: names},
		Window:                       &streams.ReadReq_Options_FilterOptions_Max{Max: searched},
		CheckpointIntervalMultiplier: 1,
	}}
	return o
}

// take tells the reader what one message of the server says.
func (f *follower) take(ctx context.Context, reply *streams.ReadResp) error {
	switch r := reply.GetContent().(type) {
	case *streams.ReadResp_Confirmation:
		f.worked, f.since = true, time.Now()
	case *streams.ReadResp_Event:
		return f.event(ctx, r.Event)
	case *streams.ReadResp_Checkpoint_:
		p := r.Checkpoint.GetCommitPosition()
		if p > maxNumber {
			return nonsense("a checkpoint at %d", p)
		}
		at := eventstore.After(eventstore.Position(p))
		if !before(f.at, at) {
			return nil // nothing new
		}
		f.at, f.moved = at, true
		if f.finite && !before(f.at, f.until) {
			return errEnough
		}
		return f.say(ctx, eventstore.Notice{Kind: eventstore.Checkpoint, At: f.at})
	case *streams.ReadResp_CaughtUp_:
		if f.finite {
			// It was asked to begin after the end was known, so the end lies
			// behind it.
			return errEnough
		}
		if f.caughtUp {
			return nil // again, after an outage or after having fallen behind
		}
		f.caughtUp = true
		return f.say(ctx, eventstore.Notice{Kind: eventstore.CaughtUp, At: f.at})
	}
	return nil
}

func (f *follower) event(ctx context.Context, r *streams.ReadResp_ReadEvent) error {
	e, err := recorded(r)
	if err != nil {
		return err
	}
	at := eventstore.After(e.Position)
	if !before(f.at, at) {
		p, _ := f.at.Position()
		return nonsense("position %d after %d", e.Position, p)
	}
	if f.finite && before(f.until, at) {
		return errEnough
	}
	f.at, f.moved = at, true
	if passes(f.filter, e.Stream) {
		f.last = e
		f.last.Data, f.last.Metadata = nil, nil
		if err := f.say(ctx, eventstore.Notice{Kind: eventstore.NewEvent, Event: e, At: at}); err != nil {
			return err
		}
	}
	if f.finite && !before(f.at, f.until) {
		return errEnough
	}
	return nil
}

func (f *follower) say(ctx context.Context, n eventstore.Notice) error {
	if err := ctx.Err(); err != nil {
		return ended(ctx)
	}
	if !f.tell(n) {
		return errEnough
	}
	return nil
}

// before tells whether cursor a stands before b.
func before(a, b eventstore.Cursor) bool {
	pa, ok := a.Position()
	pb, okb := b.Position()
	return okb && (!ok || pa < pb)
}
