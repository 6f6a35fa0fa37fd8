package simulation_test

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing/synctest"
	"time"
)

// A call is something that a process asks of the world. Its goroutine is parked
// until the scheduler has carried it out, which it does itself: so everything
// that happens to the world is done by one goroutine, in an order that follows
// from the seed.
type call struct {
	key  string // what it is, and whose; the same in each run of a seed
	by   *process
	ctx  context.Context // of the call that is parked
	kind callKind
	act  func() // what it does; nil for one that only lets time pass
	late func() // the same, for when nobody waits for it any more

	due    time.Time // not carried out before
	until  time.Time // nobody waits for it longer; zero: for as long as it takes
	fault  fault
	linger time.Duration // between what it does and its answer
	acted  bool
	begun  bool // it is with the host, which has not answered
	err    error
	done   chan struct{}
}

type callKind uint8

const (
	waits  callKind = iota + 1 // lets time pass
	writes                     // to the store
	reads                      // from the store
	asks                       // of the host
	moves                      // of the host, something that changes it
)

// A fault is how a call goes wrong.
type fault uint8

const (
	noFault   fault = iota
	lost            // it never gets there
	replyLost       // it is carried out, and nobody hears of it
	delayed         // it is carried out when nobody waits any more
	hangs           // it never gets there, and no error tells
	twice           // it gets there two times
	faultsEnd       // how many there are
)

var faultNames = [...]string{"", "lost", "reply lost", "delayed", "hangs", "twice"}

var (
	errDead     = errors.New("the process is dead")
	errLost     = errors.New("connection refused")
	errNoAnswer = errors.New("connection reset")
	errTimeout  = errors.New("no answer in time")
)

// An event is something that the world does by itself.
type event struct {
	at  time.Time
	seq int
	do  func()
}

type agenda []event

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at.Before(a[j].at) || a[i].at.Equal(a[j].at) && a[i].seq < a[j].seq
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(event)) }
func (a *agenda) Pop() any {
	old := *a
	last := old[len(old)-1]
	*a = old[:len(old)-1]
	return last
}

// A scheduler takes turns between the parked calls and the world's own events.
type scheduler struct {
	seed   uint64
	rng    dice
	start  time.Time
	step   int // of the history; what happens has the number of its step
	asked  map[string]uint64
	parked []*call
	agenda agenda
	seq    int
	calm   bool   // nothing goes wrong any more
	each   func() // after each step
	log    []byte
	faults [faultsEnd]int

	// bell wakes whoever lets time pass, when a call comes meanwhile: nil where
	// all that waits for a time is parked.
	bell chan struct{}

	mu      sync.Mutex // guards what follows
	arrived []*call
}

// after lets the world do something later.
func (s *scheduler) after(d time.Duration, do func()) {
	s.seq++
	heap.Push(&s.agenda, event{time.Now().Add(d), s.seq, do})
}

// callerKey is under what the number of a caller's call is in its context: of
// two that come to ask the same at the same time it would be open whose comes
// first.
type callerKey struct{}

// caller gives a context that tells one caller's call from all others.
func (s *sim) caller() context.Context {
	s.callers++
	return context.WithValue(context.Background(), callerKey{}, " for call "+strconv.Itoa(s.callers))
}

// park hands a call to the scheduler and waits for its answer.
func (s *scheduler) park(c *call) error {
	c.done = make(chan struct{})
	if of, ok := c.ctx.Value(callerKey{}).(string); ok {
		c.key += of
	}
	s.mu.Lock()
	dead := c.by.dead
	if !dead {
		s.arrived = append(s.arrived, c)
	}
	s.mu.Unlock()
	if dead {
		return errDead
	}
	select {
	case s.bell <- struct{}{}:
	default:
	}
	<-c.done
	return c.err
}

// admit takes up the calls that were made since the last step. They are put in
// the order of their keys: which goroutine came first does not matter.
func (s *scheduler) admit() {
	s.mu.Lock()
	fresh := s.arrived
	s.arrived = nil
	s.mu.Unlock()
	if len(fresh) > 1 {
		slices.SortStableFunc(fresh, func(a, b *call) int { return cmp.Compare(a.key, b.key) })
	}
	now := s.now()
	for _, c := range fresh {
		n := s.asked[c.key] + 1
		s.asked[c.key] = n
		d := diceFor(s.seed, c.key, n)
		c.plan(&d, now, s.calm)
		s.parked = append(s.parked, c)
	}
}

func (s *scheduler) now() time.Time { return time.Now() }

// plan decides how a call goes.
func (c *call) plan(d *dice, now time.Time, calm bool) {
	if c.kind == waits {
		c.due = c.due.Add(d.within(10 * time.Millisecond))
		return
	}
	c.due = now
	if !d.per1000(500) {
		c.due = now.Add(d.within(40 * time.Millisecond))
	}
	if calm {
		return
	}
	if d.per1000(25) {
		c.due = now.Add(d.within(6 * time.Second))
	}
	if d.per1000(40) {
		c.linger = d.within(5 * time.Second)
	}
	often := c.by.sim.faulty
	if c.kind == moves {
		often *= 2
	}
	if !d.per1000(often) {
		return
	}
	switch c.kind {
	case writes:
		c.fault = []fault{lost, replyLost, replyLost, delayed, hangs, twice}[d.upTo(6)]
	case moves:
		c.fault = []fault{lost, replyLost, replyLost, hangs}[d.upTo(4)]
		if c.late != nil && d.per1000(300) {
			c.fault = delayed
		}
	case reads, asks, waits:
		c.fault = []fault{lost, lost, hangs}[d.upTo(3)]
	}
}

// given tells since when nobody waits for a call any more, if that is so.
func (c *call) given(now time.Time) bool {
	return !c.until.IsZero() && !now.Before(c.until) || c.ctx.Err() != nil
}

// ready tells whether a call can be carried out or answered now.
func (c *call) ready(now time.Time) bool {
	if c.by.paused(now) {
		return false
	}
	if c.given(now) {
		return true
	}
	return !c.begun && !now.Before(c.due) && (c.fault != hangs || c.acted)
}

// wake gives when a call has to be looked at again at the latest.
func (c *call) wake() (at time.Time, ok bool) {
	if !c.begun && (c.fault != hangs || c.acted) {
		at, ok = c.due, true
	}
	sooner := func(t time.Time) {
		if !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	if !c.until.IsZero() {
		sooner(c.until)
	}
	if end, has := c.ctx.Deadline(); has {
		sooner(end.Add(time.Nanosecond)) // the context ends first
	}
	if p := c.by.pausedUntil; ok && at.Before(p) {
		at = p
	}
	return at, ok
}

// begin starts a goroutine of a caller, and lets it come to its first call: of
// two that begin at once it would be open whose comes first.
func (s *sim) begin(f func()) {
	s.calls.Go(f)
	synctest.Wait()
	s.admit()
}

// run lets the world go on until a time, or until stop says so.
func (s *scheduler) run(end time.Time, stop func() bool) {
	var ready []*call
	for {
		synctest.Wait()
		s.admit()
		if stop != nil && stop() {
			return
		}
		now := s.now()
		ready = ready[:0]
		for _, c := range s.parked {
			if c.ready(now) {
				ready = append(ready, c)
			}
		}
		due := len(s.agenda) > 0 && !now.Before(s.agenda[0].at)
		n := len(ready)
		if due {
			n++
		}
		if n == 0 {
			if !s.pass(now, end) {
				return
			}
			continue
		}
		s.step++
		if i := s.rng.upTo(n); i < len(ready) {
			s.carryOut(ready[i], now)
		} else {
			e, _ := heap.Pop(&s.agenda).(event)
			e.do()
		}
		if s.each != nil {
			s.each()
		}
	}
}

// pass lets time pass until something is due; false at the end.
func (s *scheduler) pass(now, end time.Time) bool {
	if !now.Before(end) {
		return false
	}
	at := end
	for _, c := range s.parked {
		if w, ok := c.wake(); ok && w.Before(at) {
			at = w
		}
	}
	if len(s.agenda) > 0 && s.agenda[0].at.Before(at) {
		at = s.agenda[0].at
	}
	if s.bell == nil {
		time.Sleep(max(at.Sub(now), time.Nanosecond))
		return true
	}
	select { // what rang has been taken up
	case <-s.bell:
	default:
	}
	timer := time.NewTimer(max(at.Sub(now), time.Nanosecond))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.bell:
	}
	return true
}

// carryOut takes a call one step further: it is done, answered, or both.
func (s *scheduler) carryOut(c *call, now time.Time) {
	if c.given(now) {
		err := c.ctx.Err()
		if err == nil {
			err = errTimeout
		}
		s.faults[c.fault]++
		s.answer(c, err, "given up")
		return
	}
	if c.acted {
		s.answer(c, nil, "answered")
		return
	}
	f := c.fault
	if f != noFault {
		s.faults[f]++
	}
	if away := c.by.away(c.kind, now); away != nil {
		s.answer(c, away, "cut off")
		return
	}
	switch f {
	case lost:
		s.answer(c, errLost, "lost")
	case replyLost:
		c.act()
		s.answer(c, errNoAnswer, "reply lost")
	case delayed:
		d := diceFor(s.seed, c.key, s.asked[c.key]<<32)
		s.after(d.within(30*time.Second), func() {
			c.late()
			s.tell("late", c.key)
		})
		s.answer(c, errNoAnswer, "delayed")
	case noFault, hangs, twice, faultsEnd:
		if c.act != nil {
			c.act()
			if f == twice && c.late != nil {
				c.late()
			}
		}
		if c.begun {
			s.tell("under way", c.key)
			return
		}
		if c.linger > 0 {
			c.acted, c.due = true, now.Add(c.linger)
			s.tell("done, its answer under way", c.key)
			return
		}
		s.answer(c, nil, "")
	}
}

// answer lets the goroutine of a call go on.
func (s *scheduler) answer(c *call, err error, how string) {
	s.parked = slices.DeleteFunc(s.parked, func(o *call) bool { return o == c })
	c.err = err
	if c.kind != waits || how != "" {
		s.tell(how, c.key)
	}
	close(c.done)
}

// tell writes a line of the history.
func (s *scheduler) tell(what ...string) {
	s.log = strconv.AppendInt(s.log, int64(s.step), 10)
	s.log = append(s.log, " +"...)
	s.log = strconv.AppendFloat(s.log, s.now().Sub(s.start).Seconds(), 'f', 6, 64)
	for _, w := range what {
		if w != "" {
			s.log = append(append(s.log, ' '), w...)
		}
	}
	s.log = append(s.log, '\n')
}
