package httpapi

import (
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"
)

// A limiter bounds how often each caller may ask: on average so many times a
// second, and at once as often as in two seconds.
//
// It knows one bucket for each name that was ever let in, and names come from
// the configuration and the tokens alone: strangers make it hold nothing.
type limiter struct {
	perSecond float64 // 0: no bound

	mu      sync.Mutex // guards what follows
	buckets map[string]*bucket
}

type bucket struct {
	left float64 // requests
	at   time.Time
}

func newLimiter(perSecond float64) *limiter {
	return &limiter{perSecond: perSecond, buckets: make(map[string]*bucket)}
}

// take counts one request of a caller. If there are too many, it counts none,
// and says when the next one will be taken.
func (l *limiter) take(caller string, now time.Time) (wait time.Duration) {
	if l.perSecond <= 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	most := max(1, 2*l.perSecond)
	b := l.buckets[caller]
	if b == nil {
		b = &bucket{left: most, at: now}
		l.buckets[caller] = b
	}
	// A clock that was set back takes nothing away.
	b.left = min(most, b.left+max(0, now.Sub(b.at).Seconds())*l.perSecond)
	b.at = now
	if b.left < 1 {
		return time.Duration((1 - b.left) / l.perSecond * float64(time.Second))
	}
	b.left--
	return 0
}

// limit turns away a caller who asks too often. Those of this machine, who
// have no name of their own, are not bounded.
func (a *API) limit(caller string) *Problem {
	if !a.cfg.identified() {
		return nil
	}
	wait := a.limiter.take(caller, a.cfg.Now())
	if wait == 0 {
		return nil
	}
	p := problem(http.StatusTooManyRequests, reasonRate,
		fmt.Sprintf("%s sends more than %g requests a second; nothing was done, send it again later", caller, a.cfg.RequestsPerSecond))
	p.retryAfter = max(1, int(math.Ceil(wait.Seconds())))
	return p
}
