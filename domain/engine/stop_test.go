package engine_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/gate"
	"writ/domain/op"
)

// From the moment the engine is stopped nothing is launched, however far the
// op is.
func TestNoLaunchOnceStopped(t *testing.T) {
	stopAt := map[string]func(w *world, stop func()){
		"reading facts": func(w *world, stop func()) { w.host.onFacts = stop },
		"looking":       func(w *world, stop func()) { w.host.onObserve = stop },
		"claiming": func(w *world, stop func()) {
			w.store.Before = func(c storetest.AppendCall) {
				if c.Events[0].Type == op.TypeStarted {
					stop()
				}
			}
		},
		"announcing": func(w *world, stop func()) {
			w.store.Before = func(c storetest.AppendCall) {
				if c.Events[0].Type == op.TypeLaunching {
					stop()
				}
			}
		},
	}
	for name, at := range stopAt {
		t.Run(name, func(t *testing.T) {
			for range 20 { // select is fair, so one round proves little
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					var once sync.Once
					at(w, func() {
						once.Do(func() {
							go w.stop()
							pass(time.Millisecond)
						})
					})
					d := order(web3())
					w.engine.RunSignedJob(context.Background(), signed(t, d))
					w.stop()
					if w.host.launched() != 0 {
						t.Fatalf("launches after the stop: got %d, want 0", w.host.launched())
					}
					if o := w.op(d.Nonce); o.State != op.Absent && o.State != op.StateFailedClean {
						t.Errorf("state: got %s, want absent or failed, effect none", o.State)
					}
				})
			}
		})
	}
}

// A host that does not answer must not hold up the end of the service beyond
// the time it was given.
func TestStopDoesNotWaitForAQuestionBeforeTheClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hang := hangingHost{w.host}
		w.stop()
		w.start(func(c *engine.Config) { c.Host = hang })
		go w.engine.RunSignedJob(context.Background(), signed(t, order(web3())))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		began := time.Now()
		_ = w.engine.Stop(ctx)
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("stop took %s, it was given 1s", took)
		}
	})
}

// A hangingHost answers no question about facts before it has to.
type hangingHost struct{ engine.Host }

func (hangingHost) Facts(ctx context.Context, _ op.Target) (op.Facts, error) {
	select {
	case <-ctx.Done():
		return op.Facts{}, ctx.Err()
	case <-time.After(time.Hour):
		return op.Facts{}, errors.New("timeout")
	}
}

// Refusals that are counted while the engine stops are on record too.
func TestRefusalsCountedWhileStoppingAreRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		const knocks = 400
		open := make(chan struct{})
		w.host.onFacts = func() { <-open }
		outOfScope := web3()
		outOfScope.VMID = 300
		d := order(outOfScope)
		var wg sync.WaitGroup
		for range knocks {
			wg.Go(func() { w.engine.RunSignedJob(context.Background(), signed(t, d)) })
		}
		synctest.Wait()
		go w.stop()
		synctest.Wait()
		close(open)
		wg.Wait()
		w.stop()
		got := len(w.refusals()) + w.counted(gate.OutOfScope)
		if got != knocks {
			t.Errorf("refusals on record: got %d, want %d", got, knocks)
		}
	})
}

func (w *world) counted(reason gate.Reason) int {
	w.t.Helper()
	var n int
	for e, err := range w.memory.ReadStream(context.Background(), eventstore.StreamID(op.GateStream(w.who.Instance)), 0) {
		if err != nil {
			break
		}
		var c op.RefusalsCounted
		if e.Type == op.TypeRefusalsCounted {
			if err := op.Unmarshal(e.Data, &c); err != nil {
				w.t.Fatalf("counts: %v", err)
			}
			n += c.ByReason[string(reason)]
		}
	}
	return n
}

// A recovery whose host does not answer holds nobody up: it can be asked again
// at the next start.
func TestStopDoesNotWaitForARecovery(t *testing.T) {
	for name, meet := range map[string]func(w *world, hang chan struct{}){
		"that pauses":            func(w *world, _ chan struct{}) { w.host.failures["FindTasks"] = 1 << 30 },
		"that waits for a reply": func(w *world, hang chan struct{}) { w.host.hang = hang },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				leftLaunching(w)
				hang := make(chan struct{})
				defer close(hang)
				meet(w, hang)
				w.start(recovering(w))
				<-w.engine.Surveyed()
				pass(20 * time.Second)
				began := time.Now()
				w.stop()
				if took := time.Since(began); took > time.Second {
					t.Errorf("the stop took %s, want no time", took)
				}
			})
		})
	}
}
