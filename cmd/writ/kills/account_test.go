package kills_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"time"

	"writ/adapters/pebblestore"
	"writ/adapters/pvesim"
	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/op"
)

// verifyAudit lets the program check the record as an auditor does.
func (s *site) verifyAudit(left map[string]bool, from ...string) {
	s.t.Helper()
	cmd := exec.Command(s.program, append([]string{"audit", "verify", "--json"}, from...)...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	var r struct {
		Sound, Complete bool
		Findings        []map[string]any
		InFlight        []struct{} `json:"in_flight"`
		Counts          struct {
			Events uint64
			Ops    map[string]uint64
		}
	}
	if err := json.Unmarshal(out, &r); err != nil {
		s.t.Fatalf("audit verify tells %.200q: %v", out, err)
	}
	if !r.Sound || !r.Complete || err != nil {
		s.t.Errorf("audit verify: got %v, complete %t, findings %v; want a sound record", err, r.Complete, r.Findings)
	}
	if left != nil && len(r.InFlight) > len(left) {
		s.t.Errorf("audit verify: got %d ops in flight, want no more than the %d of the recovery queue", len(r.InFlight), len(left))
	}
	s.t.Logf("audit verify: sound, %d events, ops %v", r.Counts.Events, r.Counts.Ops)
}

// An attempt is what the record tells of one.
type attempt struct {
	nonce     op.Nonce
	number    int
	announced time.Time
	node      string
	failed    *op.Failed
	succeeded bool
}

// A record is what the ledger tells, read event by event.
type record struct {
	ops        map[op.Nonce]op.Op
	credential map[string]*attempt // of those announced
	attempts   map[string]*attempt // by op id
	contested  int
	cuts       []cut
}

// A cut is what one process left behind for the next.
type cut map[op.State]int

// readRecord reads the ledger and checks every op's chain.
func (s *site) readRecord() *record {
	s.t.Helper()
	store, err := pebblestore.Open(s.events, pebblestore.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	defer store.Close()
	r := &record{ops: make(map[op.Nonce]op.Op), credential: make(map[string]*attempt), attempts: make(map[string]*attempt)}
	inFlight := make(map[op.Nonce]op.State)
	for e, err := range store.ReadAll(s.t.Context(), eventstore.Cursor{}, eventstore.Filter{}) {
		if err != nil {
			s.t.Fatal(err)
		}
		switch e.Type {
		case op.TypeContested:
			r.contested++
		case op.TypeTookOver:
			left := make(cut)
			for _, state := range inFlight {
				left[state]++
			}
			r.cuts = append(r.cuts, left)
		}
		n, ok := op.NonceOfStream(string(e.Stream))
		if !ok {
			continue
		}
		ev, err := op.Decode(e.Type, e.Data)
		if err != nil {
			s.t.Fatalf("position %d: %v", e.Position, err)
		}
		r.take(ev)
		o, known := r.ops[n]
		if !known {
			o = op.New(s.id, n)
		}
		if err := o.Apply(engine.RecordOf(e)); err != nil {
			s.t.Fatalf("position %d: %v", e.Position, err)
		}
		r.ops[n] = o
		if delete(inFlight, n); o.State.InFlight() {
			inFlight[n] = o.State
		}
	}
	return r
}

func (r *record) take(ev op.Event) {
	h := op.HeaderOf(ev)
	switch ev := ev.(type) {
	case *op.Started:
		r.attempts[h.OpID] = &attempt{nonce: h.Nonce, number: h.Attempt}
	case *op.Launching:
		a := r.attempts[h.OpID]
		a.announced, a.node = h.At, ev.Node
		r.credential[ev.Credential] = a
	case *op.Failed:
		r.attempts[h.OpID].failed = ev
	case *op.Succeeded:
		r.attempts[h.OpID].succeeded = true
	}
}

// account compares what was really done, what is on record, and what callers
// were told.
func (s *site) account(left map[string]bool) {
	s.t.Helper()
	r := s.readRecord()
	if r.contested > 0 {
		s.t.Errorf("contested: got %d tasks of ops that had ended, want none", r.contested)
	}
	s.checkTold(r, left)
	s.checkEffects(r, s.checkRequests(r))
	s.checkGuests()
	s.coverage(r)
}

// checkTold: whatever was acknowledged, or named, is on record, and has ended or
// stands in the recovery queue.
func (s *site) checkTold(r *record, left map[string]bool) {
	s.t.Helper()
	acked := 0
	for _, o := range s.load.orders {
		for _, why := range o.wrong {
			s.t.Errorf("guest %d, op %s: %s", o.guest.VMID, o.nonce.Short(), why)
		}
		is, known := r.ops[o.nonce]
		if o.isAcked() {
			acked++
		}
		switch {
		case o.isAcked() && !known:
			s.t.Errorf("op %s was acknowledged, and is not on record", o.nonce.Short())
		case left != nil && known && is.State.InFlight() && !left[string(o.nonce)]:
			s.t.Errorf("op %s is %s, and was not in the recovery queue", o.nonce.Short(), is.State)
		case o.done && !is.Applied():
			s.t.Errorf("op %s was told to have taken effect, and is %s", o.nonce.Short(), is.State)
		}
		for id, number := range o.attempts {
			if a := r.attempts[id]; a == nil || a.nonce != o.nonce || a.number != number {
				s.t.Errorf("op %s: attempt %s with the number %d was named, on record is %+v", o.nonce.Short(), id, number, a)
			}
		}
	}
	if acked == 0 {
		s.t.Error("nothing was acknowledged: the test shows nothing")
	}
	s.t.Logf("%d of %d writs acknowledged, all accounted for, %d of them in the recovery queue", acked, len(s.load.orders), len(left))
}

// checkEffects: at most one effect for each nonce, announced before, on the guest
// that was signed for; what is on record as done is, and what is on record as
// without effect had none. sent is how often each attempt's request arrived.
func (s *site) checkEffects(r *record, sent map[*attempt]int) {
	s.t.Helper()
	effects := s.cluster.effects()[s.cluster.seen:]
	orders := make(map[op.Nonce]*order)
	for _, o := range s.load.orders {
		orders[o.nonce] = o
	}
	tasks := make(map[*attempt][]string)
	by := make(map[op.Nonce][]int) // numbers of attempts with an effect
	destroyed := make(map[*attempt]int)
	for _, e := range effects {
		a := r.credential[e.Auth]
		if a == nil {
			s.t.Errorf("effect %d, %s on guest %d by %q: it was never announced", e.Seq, e.Kind, e.VMID, e.Auth)
			continue
		}
		o := orders[a.nonce]
		if o == nil || o.guest.Instance != e.Instance {
			s.t.Errorf("effect %d, %s: op %s hit %s (guest %d), which its writ does not name", e.Seq, e.Kind, a.nonce.Short(), e.Name, e.VMID)
		}
		if e.At.Before(a.announced) {
			s.t.Errorf("effect %d, %s: op %s acted at %s, and was announced at %s", e.Seq, e.Kind, a.nonce.Short(), e.At, a.announced)
		}
		if e.Kind == pvesim.GuestDestroyed {
			destroyed[a]++
		}
		if !slices.Contains(tasks[a], e.UPID) {
			tasks[a] = append(tasks[a], e.UPID)
		}
		if !slices.Contains(by[a.nonce], a.number) {
			by[a.nonce] = append(by[a.nonce], a.number)
		}
	}
	for n, numbers := range by {
		if len(numbers) > 1 {
			s.t.Errorf("op %s took effect %d times, by its attempts %v", n.Short(), len(numbers), numbers)
		}
	}
	for a, upids := range tasks {
		// What the cluster's proxies deliver twice is two tasks. If the first
		// died half-way, the second goes on with the same guest.
		if len(upids) > 1 && sent[a] < len(upids) || destroyed[a] > 1 {
			s.t.Errorf("op %s, sent %d times, destroyed %d guests by %d tasks: %q", a.nonce.Short(), sent[a], destroyed[a], len(upids), upids)
		}
	}
	for id, a := range r.attempts {
		switch {
		case a.succeeded && destroyed[a] != 1:
			s.t.Errorf("attempt %s of op %s succeeded on record, and destroyed %d guests", id, a.nonce.Short(), destroyed[a])
		case a.failed != nil && a.failed.Effect == op.EffectNone && len(tasks[a]) > 0:
			s.t.Errorf("attempt %s of op %s is on record as %s without effect, and had one", id, a.nonce.Short(), a.failed.Kind)
		case a.failed != nil && a.failed.Effect == op.EffectPartial && len(tasks[a]) == 0:
			s.t.Errorf("attempt %s of op %s is on record as %s with a part of its effect, and had none", id, a.nonce.Short(), a.failed.Kind)
		}
	}
	s.t.Logf("%d effects by %d attempts of %d, all announced before", len(effects), len(tasks), len(r.attempts))
}

// checkRequests: no order to destroy reached the cluster that was not announced,
// and none twice but by the cluster's own fault. It gives how often each did.
func (s *site) checkRequests(r *record) (sent map[*attempt]int) {
	s.t.Helper()
	var requests []pvesim.RequestRecord
	s.cluster.mustSim(http.MethodGet, "requests", nil, &requests)
	sent = make(map[*attempt]int)
	for _, q := range requests {
		if q.Method != http.MethodDelete || !strings.HasPrefix(q.Path, "/api2/json/nodes/") {
			continue
		}
		a := r.credential[q.Auth]
		if a == nil || q.At.Before(a.announced) {
			s.t.Errorf("request %d, %s %s by %q: it was not announced", q.Seq, q.Method, q.Path, q.Auth)
			continue
		}
		sent[a]++
	}
	twice := 0
	for _, n := range sent {
		twice += n - 1
	}
	repeats := 0
	for _, f := range faults {
		if f.fault["kind"] == string(pvesim.FaultRepeat) {
			repeats += s.cluster.injected[f.name] * f.fault["times"].(int)
		}
	}
	if twice > repeats {
		s.t.Errorf("requests that arrived once more: got %d, want at most the %d that the cluster itself repeated", twice, repeats)
	}
	return sent
}

// checkGuests: guests that no writ names are all still there.
func (s *site) checkGuests() {
	s.t.Helper()
	there := make(map[int]bool)
	for _, g := range s.cluster.guests() {
		there[g.Instance] = true
	}
	for _, g := range s.load.bystanders {
		if !there[g.Instance] {
			s.t.Errorf("guest %d, %s, is gone, and no writ names it", g.VMID, g.Name)
		}
	}
}

// coverage shows in which states the kills found ops, as the next process that
// came to lead found them.
func (s *site) coverage(r *record) {
	s.t.Helper()
	hit, ops := make(map[op.State]int), make(map[op.State]int)
	for _, c := range r.cuts {
		for state, n := range c {
			hit[state]++
			ops[state] += n
		}
	}
	var all []string
	for _, state := range []op.State{op.StateStarted, op.StateLaunching, op.StateTaskRunning} {
		all = append(all, fmt.Sprintf("%s: %d ops in %d kills", state, ops[state], hit[state]))
	}
	s.t.Logf("%d processes came to lead; what kills left behind: %s", len(r.cuts), strings.Join(all, ", "))
	ended := make(map[string]int)
	for _, a := range r.attempts {
		switch {
		case a.succeeded:
			ended["succeeded"]++
		case a.failed != nil:
			ended[fmt.Sprintf("failed: %s, effect %s", a.failed.Kind, a.failed.Effect)]++
		default:
			ended["in flight"]++
		}
	}
	s.t.Logf("attempts: %v", ended)
}
