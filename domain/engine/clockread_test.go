package engine_test

import (
	"bytes"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"writ/domain/engine"
	"writ/domain/signedop"
)

// A heldUpClock tells the right time to a caller that is then held up, as a
// machine that has too much to do, or is suspended, holds it up.
type heldUpClock struct {
	systemClock
	mu   sync.Mutex
	then func() // what happens meanwhile, once
}

func (c *heldUpClock) Now() time.Time {
	now := c.systemClock.Now()
	c.mu.Lock()
	then := c.then
	c.then = nil
	c.mu.Unlock()
	if then != nil {
		then()
	}
	return now
}

// Who reads the clock and is held up before it compares the time with the newest
// event, which others have recorded meanwhile, has no clock that was set back.
func TestAHeldUpReaderIsNoClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new(heldUpClock)
		w := newWorld(t, func(cfg *engine.Config) { cfg.Clock = c })
		other := web3()
		other.VMID, other.SMBIOSUUID = 106, "6d7f0f0e-7a3b-4d1c-9e2f-0a1b2c3d4e5f"
		w.host.add(other)
		first, second := signed(t, order(web3(), func(d *signedop.Document) { d.Nonce = nonce("held up") })), signed(t, order(other))
		c.mu.Lock()
		c.then = func() {
			pass(10 * time.Second)
			w.wantOutcome(w.runToEnd(second), engine.Succeeded)
		}
		c.mu.Unlock()
		w.wantOutcome(w.runToEnd(first), engine.Succeeded)
		w.logMu.Lock()
		defer w.logMu.Unlock()
		if bytes.Contains(w.log.Bytes(), []byte("ALARM")) {
			t.Errorf("logged: got\n%swant no alarm", w.log)
		}
	})
}
