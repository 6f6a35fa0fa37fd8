package engine_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

type appended = eventstore.Appended

func TestFiftyDeliveriesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		guardLaunch(w)
		d := order(web3())
		var wg sync.WaitGroup
		answers := make([]engine.Answer, 50)
		for i := range answers {
			wg.Go(func() { answers[i] = w.runToEnd(signed(t, d)) })
		}
		wg.Wait()
		for i, a := range answers {
			if a.Outcome != engine.Succeeded && a.Outcome != engine.AlreadyApplied {
				t.Errorf("delivery %d: got %s (%s)", i, a.Outcome, a.Detail)
			}
		}
		if w.host.launched() != 1 || w.host.effects[d.Nonce] != 1 {
			t.Errorf("got %d launches, %d effects; want one", w.host.launched(), w.host.effects[d.Nonce])
		}
	})
}

func TestOneOpAtATimePerTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var order2 []op.Nonce
		w.host.onLaunch = func(_ *fakeHost, l *op.Launching) (string, error) {
			order2 = append(order2, l.Nonce)
			pass(time.Second)
			return "", engine.Definite(errors.New("not now"))
		}
		var want []op.Nonce
		for _, name := range []string{"first", "second", "third"} {
			d := order(web3(), func(d *signedop.Document) { d.Nonce = nonce(name) })
			want = append(want, d.Nonce)
			w.wantOutcome(w.engine.RunSignedJob(context.Background(), signed(t, d)), engine.InFlight)
			synctest.Wait()
		}
		for _, n := range want {
			w.wantOutcome(w.engine.Wait(context.Background(), n), engine.Failed)
		}
		if w.host.overlap {
			t.Error("two requests for one guest were under way at once")
		}
		if !slices.Equal(order2, want) {
			t.Errorf("order of launches: got %v, want %v", order2, want)
		}
	})
}

func TestDifferentTargetsInParallelWithinTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *engine.Config) { c.Parallel = 4 })
		docs := manyOrders(t, w, 12)
		var mu sync.Mutex
		var now, most int
		w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			pass(time.Second)
			mu.Lock()
			now--
			mu.Unlock()
			return h.carryOut(l, "OK"), nil
		}
		var wg sync.WaitGroup
		for _, d := range docs {
			wg.Go(func() { w.wantOutcome(w.runToEnd(signed(t, d)), engine.Succeeded) })
		}
		wg.Wait()
		if most != 4 {
			t.Errorf("launches at a time: got %d, want 4", most)
		}
	})
}

func TestFullQueueIsRefusedBeforeTheClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *engine.Config) { c.Queue = 2 })
		hold := make(chan struct{})
		w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
			<-hold
			return h.carryOut(l, "OK"), nil
		}
		docs := manyOrders(t, w, 3)
		for _, d := range docs[:2] {
			w.wantOutcome(w.engine.RunSignedJob(context.Background(), signed(t, d)), engine.InFlight)
		}
		w.wantOutcome(w.engine.RunSignedJob(context.Background(), signed(t, docs[2])), engine.QueueFull)
		w.wantTypes(docs[2].Nonce)
		// What is already known is answered even so.
		w.wantOutcome(w.engine.RunSignedJob(context.Background(), signed(t, docs[0])), engine.InFlight)
		close(hold)
		synctest.Wait()
		w.wantOutcome(w.runToEnd(signed(t, docs[2])), engine.Succeeded)
	})
}

func TestCallerThatHangsUpChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hold := make(chan struct{})
		w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
			<-hold
			return h.carryOut(l, "OK"), nil
		}
		ctx, hangUp := context.WithCancel(context.Background())
		d := order(web3())
		w.wantOutcome(w.engine.RunSignedJob(ctx, signed(t, d)), engine.InFlight)
		hangUp()
		synctest.Wait()
		close(hold)
		w.wantOutcome(w.engine.Wait(context.Background(), d.Nonce), engine.Succeeded)
	})
}

func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hold := make(chan struct{})
		w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
			<-hold
			return h.carryOut(l, "OK"), nil
		}
		running := order(web3())
		waiting := order(web3(), func(d *signedop.Document) { d.Nonce = nonce("waiting") })
		for _, d := range []signedop.Document{running, waiting} {
			w.wantOutcome(w.engine.RunSignedJob(context.Background(), signed(t, d)), engine.InFlight)
			synctest.Wait()
		}
		stopped := make(chan struct{})
		go func() {
			w.stop()
			close(stopped)
		}()
		synctest.Wait()
		w.wantTypes(waiting.Nonce, op.TypeStarted, op.TypeFailed)
		if o := w.op(waiting.Nonce); o.Failed.Kind != op.KindInterrupted || o.State != op.StateFailedClean {
			t.Errorf("an op that waited for its turn: got %s, %s", o.Failed.Kind, o.State)
		}
		w.wantOutcome(w.engine.RunSignedJob(context.Background(), signed(t, waiting)), engine.Unavailable)
		close(hold)
		<-stopped
		if o := w.op(running.Nonce); o.State != op.StateSucceeded {
			t.Errorf("an op under way: got %s, want it to come to its end", o.State)
		}
	})
}

func TestRefusalsInAFloodAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		const knocks = 2000
		for range knocks {
			a := w.engine.RunSignedJob(context.Background(), engine.Submission{Intent: order(web3()).Intent()})
			w.wantOutcome(a, engine.RefusedByGate)
		}
		w.stop()
		var single, counted int
		for e, err := range w.memory.ReadStream(context.Background(), eventstore.StreamID(op.GateStream("node-a")), 0) {
			if err != nil {
				t.Fatalf("read: %v", err)
			}
			switch e.Type {
			case op.TypeRefused:
				single++
			case op.TypeRefusalsCounted:
				var c op.RefusalsCounted
				if err := op.Unmarshal(e.Data, &c); err != nil {
					t.Fatalf("decode: %v", err)
				}
				counted += c.ByReason[string(gate.Unsigned)]
			}
		}
		if single+counted != knocks || single > 250 {
			t.Errorf("got %d recorded one by one and %d counted, want %d in all and few single ones", single, counted, knocks)
		}
	})
}

func TestNothingLoggedCouldBeReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := order(web3())
		sub := signed(t, d)
		w.wantOutcome(w.runToEnd(sub), engine.Succeeded)
		bad := sub
		bad.Envelope = []byte(strings.Replace(string(sub.Envelope), "signatures", "signaturez", 1))
		w.runToEnd(bad)
		w.stop()
		w.logMu.Lock()
		defer w.logMu.Unlock()
		if w.log.Len() == 0 {
			t.Fatal("nothing was logged at all")
		}
		for name, secret := range map[string]string{"nonce": string(d.Nonce), "envelope": string(sub.Envelope[20:80])} {
			if strings.Contains(w.log.String(), secret) {
				t.Errorf("the %s stands whole in the log", name)
			}
		}
	})
}

func TestPolicyBook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx := context.Background()
		t.Log("the same policy again is not recorded again")
		if p, err := w.book.Enforce(ctx, policy(), op.Digest{}); err != nil || p.Serial() != 1 {
			t.Fatalf("got serial %v, %v; want 1", p, err)
		}
		changed := policy()
		changed.ClockSkew = "20s"
		t.Log("a policy that can't be recorded does not come into force")
		broken := engine.NewPolicyBook(closedStore{w.memory}, w.who, systemClock{})
		if _, err := broken.Enforce(ctx, changed, op.Digest{}); err == nil {
			t.Fatal("a policy came into force that could not be recorded")
		}
		if _, err := broken.Current(ctx); !errors.Is(err, engine.ErrNoPolicy) {
			t.Fatalf("got %v, want %v", err, engine.ErrNoPolicy)
		}
		t.Log("a policy that does not compile leaves the old one in force")
		bad := policy()
		bad.Roles["operator"] = gate.Role{}
		if _, err := w.book.Enforce(ctx, bad, op.Digest{}); err == nil {
			t.Fatal("an empty role was accepted")
		}
		if p, err := w.book.Current(ctx); err != nil || p.Serial() != 1 {
			t.Fatalf("got %v, %v; want serial 1 in force", p, err)
		}
		t.Log("another instance records a newer one: this one runs nothing until it has it")
		other := engine.NewPolicyBook(w.memory, w.who, systemClock{})
		if p, err := other.Enforce(ctx, changed, op.Digest{}); err != nil || p.Serial() != 2 {
			t.Fatalf("got %v, %v; want serial 2", p, err)
		}
		if _, err := w.book.Current(ctx); !errors.Is(err, engine.ErrStalePolicy) {
			t.Fatalf("got %v, want %v", err, engine.ErrStalePolicy)
		}
		w.wantOutcome(w.runToEnd(signed(t, order(web3()))), engine.Unavailable)
		if p, err := w.book.Enforce(ctx, changed, op.Digest{}); err != nil || p.Serial() != 2 {
			t.Fatalf("got %v, %v; want serial 2", p, err)
		}
		w.wantOutcome(w.runToEnd(signed(t, order(web3()))), engine.Succeeded)
		if got := w.types(gate.PolicyStream); !slices.Equal(got, []string{gate.TypeLoaded, gate.TypeLoaded}) {
			t.Errorf("stream policy: got %v", got)
		}
	})
}

type closedStore struct{ eventstore.Store }

func (closedStore) Append(context.Context, eventstore.StreamID, eventstore.Expected, ...eventstore.Proposed) (eventstore.Appended, error) {
	return eventstore.Appended{}, eventstore.ErrClosed
}
