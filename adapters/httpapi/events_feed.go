package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"writ/domain/eventstore"
	"writ/domain/op"
)

const (
	// heartbeat is how often a subscriber hears something though there is
	// nothing to tell: it shows to both sides that the connection lives.
	heartbeat = 15 * time.Second
	// slowAfter is for how long a subscriber may take nothing. What it has not
	// taken waits in the kernel's buffers and in the ledger, never here.
	slowAfter = 10 * time.Second
	// readAhead bounds the events that are read before the one being sent.
	readAhead = 16
)

// Why a subscriber left.
const (
	leftGone         = "gone"         // it hung up
	leftSlow         = "slow"         // it took nothing for too long
	leftStopping     = "stopping"     // the service stops
	leftUnauthorized = "unauthorized" // it may not read any more
	leftUnavailable  = "unavailable"  // the ledger can't be read
)

// A feed sends the ledger to one subscriber.
type feed struct {
	subscription

	api *API
	w   http.ResponseWriter
	rc  *http.ResponseController
	r   *http.Request

	buf  bytes.Buffer
	at   eventstore.Cursor // the subscriber knows of all up to here, once it was sent
	told eventstore.Cursor // the newest id that was sent
	sent int               // events

	spent map[op.Nonce]bool // what is known of some ops; see mayStillRun
}

// A told is an element of a subscription.
type told struct {
	eventstore.Notice
	err error
}

var errEnded = errors.New("the subscription ended")

// run sends until one side ends it, and says which and why.
func (f *feed) run(ctx context.Context) (why string) {
	// The server's deadline for reading the request would end the context when
	// it passes: net/http reads on to see whether the caller hangs up.
	if err := f.rc.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return leftGone
	}
	ctx, cancel := context.WithCancel(ctx)
	notices := make(chan told, readAhead)
	var reading sync.WaitGroup
	reading.Go(func() { f.read(ctx, notices) })
	defer reading.Wait()
	defer cancel()

	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	// The subscriber hears at once that it is one.
	f.buf.WriteString(": writ\n\n")
	if why := f.flush(); why != "" {
		return why
	}
	for {
		select {
		case n := <-notices:
			if n.err != nil {
				return f.failed(ctx, n.err)
			}
			if err := f.tell(ctx, n.Notice); err != nil {
				return f.failed(ctx, err)
			}
			if len(notices) > 0 && f.buf.Len() < 64<<10 {
				continue // more is there already: it goes out together
			}
		case <-beat.C:
			// A token that was revoked while its holder listened.
			if _, p := f.api.authorize(f.r, Read); p != nil {
				return f.end(p, leftUnauthorized)
			}
			f.buf.WriteString(": heartbeat\n")
			if before := f.told; f.place(ctx) != before {
				fmt.Fprintf(&f.buf, "id: %s\n", f.api.cursorText(f.told))
			}
			f.buf.WriteByte('\n')
		case <-f.api.draining.Done():
			return f.end(problem(http.StatusServiceUnavailable, reasonStopping, "the service is stopping: go on from the last id"), leftStopping)
		case <-ctx.Done():
			return leftGone
		}
		if why := f.flush(); why != "" {
			return why
		}
	}
}

// read takes the ledger's notices as fast as they are sent on, and no faster.
func (f *feed) read(ctx context.Context, notices chan<- told) {
	hand := func(n told) bool {
		select {
		case notices <- n:
			return true
		case <-ctx.Done():
			return false
		}
	}
	for n, err := range f.api.cfg.Ledger.Subscribe(ctx, f.after, f.filter) {
		if !hand(told{n, err}) || err != nil {
			return
		}
	}
	hand(told{err: errEnded})
}

// tell puts a notice into the buffer.
func (f *feed) tell(ctx context.Context, n eventstore.Notice) error {
	f.at = n.At
	switch n.Kind {
	case eventstore.NewEvent:
		if !f.passes(n.Event.Type) {
			return nil
		}
		cursor := f.api.cursorText(n.At)
		body, err := f.ledgerEvent(ctx, cursor, n.Event)
		if err != nil {
			return err
		}
		f.told = n.At
		f.sent++
		fmt.Fprintf(&f.buf, "id: %s\ndata: %s\n\n", cursor, body)
	case eventstore.CaughtUp:
		cursor := f.api.cursorText(f.place(ctx))
		body, err := json.Marshal(Place{Cursor: cursor})
		if err != nil {
			return err
		}
		fmt.Fprintf(&f.buf, "event: caught-up\nid: %s\ndata: %s\n\n", cursor, body)
	case eventstore.Checkpoint:
		// The next heartbeat tells of it.
	default:
		return fmt.Errorf("a notice of unknown kind %d", n.Kind)
	}
	return nil
}

// place gives where the subscriber could go on, for an id that comes without an
// event: the place that was searched last, if a subscriber who came with it
// would be believed; else the one it knows.
func (f *feed) place(ctx context.Context) eventstore.Cursor {
	if f.at != f.told {
		if known, err := f.api.reaches(ctx, f.at); known && err == nil {
			f.told = f.at
		}
	}
	return f.told
}

// flush sends what is in the buffer; the result says why that ended it.
func (f *feed) flush() (why string) {
	if f.buf.Len() == 0 {
		return ""
	}
	// Each time anew: a subscriber may stay for as long as it goes on taking.
	deadline := time.Now().Add(slowAfter)
	err := f.rc.SetWriteDeadline(deadline)
	if err == nil || errors.Is(err, http.ErrNotSupported) {
		_, err = f.w.Write(f.buf.Bytes())
	}
	if err == nil {
		err = f.rc.Flush()
	}
	if err == nil {
		// HTTP/2 would end the stream when the deadline passes, although there
		// is nothing to write.
		_ = f.rc.SetWriteDeadline(time.Time{})
	}
	f.buf.Reset()
	switch {
	case err == nil:
		return ""
	case errors.Is(err, os.ErrDeadlineExceeded) || !time.Now().Before(deadline): // HTTP/2 has its own words for it
		// The connection is of no use any more, part of an event may be out.
		// The last id that arrived whole is where to go on.
		return leftSlow
	}
	return leftGone
}

// failed ends a feed whose ledger can't be read on.
func (f *feed) failed(ctx context.Context, err error) string {
	if ctx.Err() != nil {
		return leftGone
	}
	return f.end(f.api.fault(ctx, "follow the ledger", err), leftUnavailable)
}

// end tells the subscriber why the service ends it.
func (f *feed) end(p *Problem, why string) string {
	body, err := json.Marshal(p, json.Deterministic(true))
	if err != nil { // only strings and numbers: can't be
		return why
	}
	fmt.Fprintf(&f.buf, "event: end\ndata: %s\n\n", body)
	if failed := f.flush(); failed != "" {
		return failed
	}
	return why
}

// subscribers bounds and counts those who follow the ledger.
type subscribers struct {
	most     int
	observer Observer

	mu sync.Mutex // guards what follows
	n  int
	of map[string]int // by caller
}

// join takes one more in, if there is room. leave must be called once if there
// was.
func (s *subscribers) join(caller string, identified bool) (leave func(why string), p *Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.n >= s.most:
		return nil, problem(http.StatusServiceUnavailable, reasonBusy, "too many follow the ledger; connect again later")
	case identified && s.of[caller] >= max(1, s.most/4):
		return nil, problem(http.StatusTooManyRequests, reasonRate, caller+" follows the ledger too many times at once; end one of them")
	}
	s.n++
	s.of[caller]++
	s.observer.Subscribers(s.n)
	return func(why string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.n--
		if s.of[caller]--; s.of[caller] == 0 {
			delete(s.of, caller)
		}
		s.observer.Subscribers(s.n)
		s.observer.SubscriberLeft(why)
	}, nil
}

// unobserved is the Observer of an API that nobody observes.
type unobserved struct{}

func (unobserved) Request(string, int, time.Duration) {}
func (unobserved) Subscribers(int)                    {}
func (unobserved) SubscriberLeft(string)              {}
