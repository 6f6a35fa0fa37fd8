package pvesim

import (
	"container/heap"
	"sync"
	"time"
)

// ManualClock is a clock that moves only when told to, for simulations that
// must replay exactly: timers fire one after another on the goroutine that
// moves it, in the order of their times and, within one time, of their making.
type ManualClock struct {
	mu    sync.Mutex // guards the fields below; never held while a timer's function runs
	now   time.Time
	seq   uint64
	queue timerHeap
}

// NewManualClock returns a clock that shows start.
func NewManualClock(start time.Time) *ManualClock { return &ManualClock{now: start} }

// Now returns the time shown.
func (c *ManualClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// AfterFunc arranges for f to run when the clock has been moved on by d.
func (c *ManualClock) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	t := &manualTimer{at: c.now.Add(d), seq: c.seq, f: f}
	heap.Push(&c.queue, t)
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		pending := t.f != nil
		t.f = nil
		return pending
	}
}

// Advance moves the clock by d and fires what falls due on the way, timers made
// by fired timers too.
func (c *ManualClock) Advance(d time.Duration) {
	c.mu.Lock()
	end := c.now.Add(d)
	c.mu.Unlock()
	for c.fire(end) {
	}
	c.mu.Lock()
	c.now = end
	c.mu.Unlock()
}

// Step moves the clock to its next timer and fires it. It reports whether there
// was one.
func (c *ManualClock) Step() bool { return c.fire(time.Time{}) }

// fire runs the next timer, if it is due by end (or at any time, if end is zero).
func (c *ManualClock) fire(end time.Time) bool {
	c.mu.Lock()
	for len(c.queue) > 0 && c.queue[0].f == nil {
		heap.Pop(&c.queue)
	}
	if len(c.queue) == 0 || !end.IsZero() && c.queue[0].at.After(end) {
		c.mu.Unlock()
		return false
	}
	t, _ := heap.Pop(&c.queue).(*manualTimer)
	if t.at.After(c.now) {
		c.now = t.at
	}
	f := t.f
	t.f = nil
	c.mu.Unlock()
	f()
	return true
}

type manualTimer struct {
	at  time.Time
	seq uint64
	f   func() // nil once fired or stopped
}

type timerHeap []*manualTimer

func (h timerHeap) Len() int { return len(h) }
func (h timerHeap) Less(i, j int) bool {
	return h[i].at.Before(h[j].at) || h[i].at.Equal(h[j].at) && h[i].seq < h[j].seq
}
func (h timerHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push and Pop are for container/heap.
func (h *timerHeap) Push(x any) {
	if t, ok := x.(*manualTimer); ok {
		*h = append(*h, t)
	}
}

func (h *timerHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
