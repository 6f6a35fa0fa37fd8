package engine

import (
	"context"
	"time"

	"writ/domain/op"
)

// How long a person who settles an op waits for the recovery that is at work on
// it, and how often that is looked at.
const (
	yieldPatience = 10 * time.Second
	yieldLooks    = 20 * time.Millisecond
)

// A wanted op is one that people are about to settle: recovery lets go of it
// between two questions, and does not take it up meanwhile. A host that does
// not answer would else keep it from them most of the time.

// holdAlone holds an op, once no job of this process does. It is false if one
// does not let go of it in time.
func (e *Engine) holdAlone(ctx context.Context, n op.Nonce) bool {
	e.want(n)
	defer e.unwant(n)
	for waited := time.Duration(0); ; waited += yieldLooks {
		e.mu.Lock()
		free := e.held[n] == 0
		if free {
			e.held[n]++
		}
		e.mu.Unlock()
		if free || waited >= yieldPatience || e.cfg.Clock.Wait(ctx, yieldLooks) != nil {
			return free
		}
	}
}

func (e *Engine) want(n op.Nonce) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.wanted[n]++
	if yield := e.yields[n]; yield != nil {
		yield()
	}
}

func (e *Engine) unwant(n op.Nonce) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.wanted[n]--; e.wanted[n] <= 0 {
		delete(e.wanted, n)
	}
}

// yieldable makes a recovery one that people can ask to let go. The function
// given is to be called when it is over.
func (e *Engine) yieldable(l *liveJob, n op.Nonce) (over func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var yield context.CancelFunc
	l.wanted, yield = context.WithCancel(e.stopping)
	e.yields[n] = yield
	if e.wanted[n] > 0 {
		yield()
	}
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.yields, n)
		yield()
	}
}

// pause lets time pass. A person who wants to settle the op, and the end of the
// service, cut that of a recovery short.
func (e *Engine) pause(ctx context.Context, l *liveJob, c Pause) (Result, bool) {
	yields := l.wanted != nil && l.job.mayYield()
	if yields {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(l.wanted, cancel)() //nolint:contextcheck // beside the caller's
	}
	if e.cfg.Clock.Wait(ctx, c.For) != nil && e.running.Err() != nil {
		return nil, true
	}
	switch {
	case yields && e.stopping.Err() != nil:
		return Paused{LetGo: "the service is stopping"}, false
	case yields && l.wanted.Err() != nil:
		return Paused{LetGo: "a person is settling it"}, false
	}
	return Paused{}, false
}

// patience is for how long a question of a job is waited for: that of a recovery
// until the service is to end, or people want to settle the op, as it can be
// asked again.
func (e *Engine) patience(l *liveJob, cmd Command) context.Context {
	if l.wanted != nil {
		switch cmd.(type) {
		case AskTask, ProbeHost, FindTasks, TakeTask, RaiseFence:
			return l.wanted
		}
	}
	return e.running
}

// asking bounds how many recoveries ask the host at a time: after a crash there
// can be thousands. The function given ends it.
func (e *Engine) asking(l *liveJob) (done func()) {
	if !l.job.recovering {
		return func() {}
	}
	select {
	case e.askers <- struct{}{}:
		return func() { <-e.askers }
	case <-l.wanted.Done():
		return func() {} // nothing is asked for long any more
	}
}
