package status_test

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/op"
	"writ/projections"
	"writ/projections/status"
	"writ/projections/viewtest"
)

// A past is a ledger of random ops.
type past struct {
	store   *storetest.Memory
	stories []*viewtest.Story
	rand    *rand.Rand
	last    eventstore.Recorded
}

func newPast(t testing.TB, seed uint64) *past {
	t.Helper()
	return &past{store: storetest.NewMemory(ledger), rand: rand.New(rand.NewPCG(seed, 1))}
}

// grow lets n things happen, to any op.
func (p *past) grow(t testing.TB, n int) {
	t.Helper()
	for range n {
		if len(p.stories) == 0 || p.rand.IntN(3) == 0 {
			// Times are not in the order of the ledger, and some are the same.
			at := viewtest.Start.Add(time.Duration(p.rand.IntN(50)) * time.Second)
			p.stories = append(p.stories, viewtest.NewStory(t, p.store, viewtest.Nonce(uint64(len(p.stories)))).At(at).On(100+p.rand.IntN(4)))
		}
		p.step(p.stories[p.rand.IntN(len(p.stories))])
	}
}

// step gives an op any event that may follow, or one that must not.
func (p *past) step(s *viewtest.Story) {
	if p.rand.IntN(40) == 0 {
		p.last = s.Write("OpPaused", []byte("{}"))
		return
	}
	switch s.Op.State {
	case op.Absent, op.StateFailedClean:
		if p.rand.IntN(8) == 0 {
			p.last = s.Voided()
			return
		}
		p.started(s)
	case op.StateStarted:
		if p.rand.IntN(3) == 0 {
			p.last = s.Failed(op.KindPrecondition, op.EffectNone)
			return
		}
		p.last = s.Launching()
	case op.StateLaunching:
		if p.rand.IntN(4) == 0 {
			p.last = s.Failed(op.KindRejected, op.EffectNone)
			return
		}
		p.last = s.Running("UPID:x")
	case op.StateTaskRunning:
		if p.rand.IntN(3) == 0 {
			p.last = s.Failed(op.KindTaskFailed, op.EffectPartial)
			return
		}
		p.last = s.Succeeded()
	case op.StateSucceeded, op.StateFailed, op.StateVoided:
	}
}

// started claims an op that anybody may have signed.
func (p *past) started(s *viewtest.Story) {
	h := s.Header()
	h.Attempt++
	var claim op.Claim
	claim[0] = byte(h.Attempt)
	h.OpID = op.OpID(h.Nonce, h.Attempt, claim)
	e := &op.Started{Header: h, Intent: op.Intent{Class: h.Class, Target: h.Target}, Role: "operator", Claim: claim}
	for _, name := range []string{"alice", "bob", "carol"} {
		if p.rand.IntN(2) == 0 {
			e.Signers = append(e.Signers, op.Signer{Person: name, Key: "SHA256:x"})
		}
	}
	p.last = s.Append(e)
}

// twin answers from the whole ledger, every time anew.
func twin(t testing.TB, store eventstore.Store, q status.Query) []op.Nonce {
	t.Helper()
	type life struct {
		nonce   op.Nonce
		began   time.Time
		first   eventstore.Position
		track   projections.Track
		node    string
		vmid    int
		signers []string
		ids     []string
	}
	lives := make(map[eventstore.StreamID]*life)
	for rec, err := range store.ReadAll(t.Context(), eventstore.Cursor{}, projections.OpStreams()) {
		if err != nil {
			t.Fatal(err)
		}
		l := lives[rec.Stream]
		if l == nil {
			n, _ := op.NonceOfStream(string(rec.Stream))
			l = &life{nonce: n, began: rec.RecordedAt, first: rec.Position}
			lives[rec.Stream] = l
		}
		var e op.Event
		if l.track, e = l.track.Follow(rec); e == nil {
			continue
		}
		h := op.HeaderOf(e)
		if rec.Revision == 0 {
			l.began = h.At
		}
		l.vmid = h.Target.Guest.VMID
		switch e := e.(type) {
		case *op.Started:
			l.node, l.signers, l.ids = "", nil, append(l.ids, h.OpID)
			for _, s := range e.Signers {
				l.signers = append(l.signers, s.Person)
			}
		case *op.Launching:
			l.node = e.Node
		}
	}
	var fit []*life
	for _, l := range lives {
		state := map[op.State]status.State{
			op.StateStarted: status.Started, op.StateLaunching: status.Launching, op.StateTaskRunning: status.TaskRunning,
			op.StateSucceeded: status.Succeeded, op.StateFailedClean: status.FailedClean, op.StateFailed: status.Failed, op.StateVoided: status.Voided,
		}[l.track.State]
		if l.track.Corrupt != "" {
			state = status.Corrupt
		}
		understood := l.track.Next > 0
		switch {
		case len(q.States) > 0 && !slices.Contains(q.States, state),
			q.Class != "" && (!understood || q.Class != op.GuestDestroy),
			q.VMID != 0 && l.vmid != q.VMID,
			q.Node != "" && (!understood || q.Node != "pve1" && q.Node != l.node),
			q.Signer != "" && !slices.Contains(l.signers, q.Signer),
			q.OpID != "" && !slices.Contains(l.ids, q.OpID),
			!q.From.IsZero() && l.began.Before(q.From),
			!q.Until.IsZero() && !l.began.Before(q.Until):
		default:
			fit = append(fit, l)
		}
	}
	slices.SortFunc(fit, func(a, b *life) int {
		if c := b.began.Compare(a.began); c != 0 {
			return c
		}
		return int(b.first) - int(a.first)
	})
	nonces := make([]op.Nonce, len(fit))
	for i, l := range fit {
		nonces[i] = l.nonce
	}
	return nonces
}

// ask makes any query; most of them have an answer.
func (p *past) ask() status.Query {
	q := status.Query{Limit: 1 + p.rand.IntN(9)}
	some := func() bool { return p.rand.IntN(3) == 0 }
	if some() {
		for range 1 + p.rand.IntN(3) {
			q.States = append(q.States, status.States()[p.rand.IntN(len(status.States()))])
		}
	}
	if some() {
		q.Class = []op.Class{op.GuestDestroy, op.GuestStop}[p.rand.IntN(8)/7]
	}
	if some() {
		q.VMID = 100 + p.rand.IntN(5)
	}
	if some() {
		q.Node = []string{"pve1", "pve2", "pve3"}[p.rand.IntN(3)]
	}
	if some() {
		q.Signer = []string{"alice", "bob", "carol", "dave"}[p.rand.IntN(4)]
	}
	if p.rand.IntN(9) == 0 && len(p.stories) > 0 {
		q.OpID = p.stories[p.rand.IntN(len(p.stories))].Op.OpID
	}
	if some() {
		q.From = viewtest.Start.Add(time.Duration(p.rand.IntN(60)) * time.Second)
	}
	if some() {
		q.Until = viewtest.Start.Add(time.Duration(p.rand.IntN(60)) * time.Second)
	}
	return q
}

// Whatever happened and whatever is asked, in pages of any size: the answer is
// that of a reader of the whole ledger.
func TestAnswersAreThoseOfTheLedger(t *testing.T) {
	seeds, asked := uint64(40), 60
	if testing.Short() {
		seeds = 5
	}
	for seed := range seeds {
		p := newPast(t, seed)
		s := open(t, p.store, memorySlots(), status.View{})
		for range 3 {
			p.grow(t, 40)
			s.reach(p.last)
			for range asked / 3 {
				q := p.ask()
				var got []op.Nonce
				for _, o := range s.all(q) {
					got = append(got, o.Nonce)
				}
				if want := twin(t, p.store, q); !slices.Equal(got, want) {
					t.Fatalf("seed %d, %+v: got %v, want %v", seed, q, got, want)
				}
			}
		}
	}
}

// Built at once, bit by bit, or again: the view is the same to the byte.
func TestRebuild(t *testing.T) {
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			p := newPast(t, seed)
			slots := memorySlots()
			s := open(t, p.store, slots, status.View{})
			for range 10 {
				p.grow(t, 20)
				s.reach(p.last)
			}
			synctest.Wait()
			bitByBit := viewtest.Dump(t, slots.A, "")
			atOnce := memorySlots()
			open(t, p.store, atOnce, status.View{})
			synctest.Wait()
			if got := viewtest.Dump(t, atOnce.A, ""); got != bitByBit {
				t.Fatalf("seed %d: built at once: got\n%swant\n%s", seed, got, bitByBit)
			}
			before := s.all(status.Query{})
			// Nothing of a state that an op has left stays behind.
			if got := strings.Count(viewtest.Dump(t, slots.A, "s"), "\n"); got != len(before) {
				t.Errorf("seed %d: got %d keys of states, want one for each of %d ops", seed, got, len(before))
			}
			s.shelf.Rebuild()
			synctest.Wait()
			if got, left := viewtest.Dump(t, slots.B, ""), viewtest.Dump(t, slots.A, ""); got != bitByBit || left != "" {
				t.Fatalf("seed %d: built again: got\n%swant\n%s", seed, got, bitByBit)
			}
			if after := s.all(status.Query{}); !reflect.DeepEqual(after, before) || len(after) < 20 {
				t.Errorf("seed %d: built again: got %+v, want %+v", seed, after, before)
			}
		})
	}
}
