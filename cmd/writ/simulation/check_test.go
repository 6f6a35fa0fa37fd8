package simulation_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"writ/domain/eventstore"
	"writ/domain/op"
)

// What follows reads the stored bytes by itself, and shares no code with what
// wrote them.

// A record is what the checks want to know of an event.
type record struct {
	OpID       string    `json:"op_id"`
	Nonce      op.Nonce  `json:"nonce"`
	Attempt    int       `json:"attempt"`
	Epoch      uint64    `json:"epoch"`
	At         time.Time `json:"at"`
	Kind       string    `json:"kind"`
	Effect     string    `json:"effect"`
	Message    string    `json:"message"`
	ExitStatus string    `json:"exit_status"`
	UPID       string    `json:"upid"`
	Envelope   []byte    `json:"envelope"`
	Resolution *struct{} `json:"resolution"`
	Adopted    bool      `json:"adopted"`
	Keyless    bool      `json:"keyless"`
	Class      op.Class  `json:"class"`
	Intent     op.Intent `json:"intent"`

	typ  string
	step int
}

// wrong notes that something must never be, and is.
func (s *sim) wrong(format string, args ...any) {
	if len(s.failures) < 20 {
		s.failures = append(s.failures, fmt.Sprintf(format, args...))
	}
	s.tell("WRONG:", fmt.Sprintf(format, args...))
}

// failed is told of each end without success as it becomes durable: that it had
// no effect must be true then, and stay so.
func (s *sim) failed(c *copyOf, n op.Nonce, data []byte) {
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		s.wrong("an end of op %s can't be read: %v", n.Short(), err)
		return
	}
	s.figures.Failed[r.Kind+"/"+r.Effect]++
	if s.world != nil {
		s.world.failed(r)
		return
	}
	if r.Effect != "none" || s.excused(c) {
		return
	}
	for _, q := range s.host.requests {
		if q.l.OpID == r.OpID && s.host.mayAct(q) {
			if s.host.besideAnother(q) {
				s.figures.Events["ended without effect beside a second delivery"]++
				continue
			}
			if end := s.host.ends[q.sent.uuid]; end != nil && s.host.byStrangers(q) && s.host.whole[r.OpID] > 0 && end.step >= s.host.whole[r.OpID] {
				// It was there and fenced when it was looked at for the last
				// time: strangers took it away while that was put on record.
				s.figures.Events["ended without effect while the target was taken away"]++
				continue
			}
			s.figures.False++
			s.wrong("op %s is on record as %s without effect (%s), while its request may act (stage %d)", r.OpID, r.Kind, r.Message, q.stage)
		}
	}
}

// excused tells whether a copy of the ledger can't know what other copies did.
func (s *sim) excused(c *copyOf) bool { return s.cloned || c.accepted }

// check looks at the end of a history whether all that must never be is not.
func (s *sim) check() {
	for _, c := range s.copies {
		s.checkCopy(c)
	}
	s.count()
}

// count gathers what kind of history it was.
func (s *sim) count() {
	f := &s.figures
	f.Seeds, f.Steps, f.Hours = 1, s.step, s.now().Sub(s.start).Hours()
	ops, terms := 0, 0
	for _, c := range s.copies {
		ops += len(c.nonces)
		terms += len(c.terms)
	}
	f.Events["ops"] += ops
	launches, effects := len(*s.launches()), s.effects()
	if s.world != nil {
		s.world.count(f)
	}
	f.Events["launches"] += launches
	f.Events["effects"] += effects
	f.Events["take-overs"] += terms
	f.Events["processes"] += s.processes
	f.spread("effects", effects)
	f.spread("launches", launches)
	f.spread("take-overs", terms)
	f.spread("ops", ops)
	f.Kinds[s.kind()]++
	for k, n := range s.faults {
		if k > 0 && n > 0 {
			f.Faults[faultNames[k]] += n
		}
	}
}

// effects is how many ops had one.
func (s *sim) effects() int {
	if s.world == nil {
		return len(s.host.effects)
	}
	ops := make(map[string]bool)
	for _, d := range s.world.deeds {
		ops[d.opID] = true
	}
	return len(ops)
}

// kind says what kind of history it was.
func (s *sim) kind() string {
	kind := "liveness"
	if s.safety {
		kind = "safety"
	}
	if s.world != nil {
		kind = "carried, " + kind
	}
	if s.world != nil && s.world.shared || s.world == nil && s.host.shared {
		kind += ", shared credential"
	}
	kind += []string{"", ", old ledger put back", ", old ledger and marks put back", ", machines cloned"}[s.copying]
	if s.alone {
		return kind + ", one instance"
	}
	return kind
}

// checkCopy reads a whole copy of the ledger.
func (s *sim) checkCopy(c *copyOf) {
	type tail struct {
		next  uint64
		chain [sha256.Size]byte
		op    *story
	}
	streams := make(map[eventstore.StreamID]*tail)
	var epoch uint64
	for e, err := range c.memory.ReadAll(context.Background(), eventstore.Cursor{}, eventstore.Filter{}) {
		if err != nil {
			s.wrong("the ledger can't be read: %v", err)
			return
		}
		t := streams[e.Stream]
		if t == nil {
			t = new(tail)
			streams[e.Stream] = t
		}
		if uint64(e.Revision) != t.next {
			s.wrong("stream %s: revision %d where %d was expected", e.Stream, e.Revision, t.next)
		}
		t.next++
		var meta struct {
			Chain string `json:"chain"`
		}
		t.chain = chainOf(e, t.chain)
		if err := json.Unmarshal(e.Metadata, &meta); err != nil || meta.Chain != fmt.Sprintf("%x", t.chain) {
			s.wrong("stream %s at revision %d: the chain is broken (%v)", e.Stream, e.Revision, err)
		}
		if e.Type == op.TypeTookOver {
			var took record
			if err := json.Unmarshal(e.Data, &took); err != nil || took.Epoch != epoch+1 {
				s.wrong("epoch %d follows %d (%v)", took.Epoch, epoch, err)
			}
			epoch = took.Epoch
		}
		if e.Type == op.TypeContested {
			s.figures.Events["contested"]++
		}
		n, ok := op.NonceOfStream(string(e.Stream))
		if !ok {
			continue
		}
		var r record
		if err := json.Unmarshal(e.Data, &r); err != nil {
			s.wrong("stream %s at revision %d can't be read: %v", e.Stream, e.Revision, err)
			continue
		}
		r.typ, r.step = e.Type, c.steps[e.Position]
		if t.op == nil {
			t.op = &story{sim: s, copy: c, nonce: n}
		}
		t.op.tell(r)
	}
	for _, n := range c.nonces {
		if t := streams[eventstore.StreamID(n.Stream())]; t != nil && t.op != nil {
			t.op.end()
		}
	}
}

func chainOf(e eventstore.Recorded, before [sha256.Size]byte) [sha256.Size]byte {
	var b []byte
	field := func(f []byte) { b = append(binary.BigEndian.AppendUint64(b, uint64(len(f))), f...) }
	b = append(b, "writ-chain-v1"...)
	field([]byte(ledger))
	field([]byte(e.Stream))
	field(binary.BigEndian.AppendUint64(nil, uint64(e.Revision)))
	field([]byte(e.Type))
	field(e.Data)
	field(before[:])
	return sha256.Sum256(b)
}

// A story is what the ledger tells of one op.
type story struct {
	sim     *sim
	copy    *copyOf
	nonce   op.Nonce
	state   string // the type of the newest event
	opID    string
	attempt int
	clean   bool // it may be attempted again
	at      time.Time
}

// follows tells which events may come after which.
var follows = map[string][]string{
	"":                 {op.TypeStarted, op.TypeVoided},
	op.TypeStarted:     {op.TypeLaunching, op.TypeFailed},
	op.TypeLaunching:   {op.TypeTaskRunning, op.TypeFailed},
	op.TypeTaskRunning: {op.TypeSucceeded, op.TypeFailed},
	op.TypeFailed:      {op.TypeStarted, op.TypeVoided},
}

func (t *story) tell(r record) {
	s := t.sim
	may := false
	for _, typ := range follows[t.state] {
		may = may || typ == r.typ
	}
	if !may || t.state == op.TypeFailed && !t.clean {
		s.wrong("op %s: %s after %s (%t)", t.nonce.Short(), r.typ, t.state, t.clean)
	}
	if r.Nonce != t.nonce || r.At.Before(t.at) {
		s.wrong("op %s: nonce %s, at %s after %s", t.nonce.Short(), r.Nonce.Short(), r.At, t.at)
	}
	if t.state == op.TypeFailed && r.typ == op.TypeStarted {
		s.figures.Events["further attempts"]++
	}
	t.state, t.at = r.typ, r.At
	switch r.typ {
	case op.TypeStarted:
		t.attempt++
		t.opID = r.OpID
		t.started(r)
	case op.TypeTaskRunning:
		if r.Adopted && r.UPID != "" {
			s.figures.Events["tasks adopted"]++
		}
	case op.TypeSucceeded:
		t.succeeded(r)
	case op.TypeFailed:
		t.clean = r.Effect == "none"
		if t.clean {
			t.without(r)
		}
	}
	if r.typ != op.TypeVoided && (r.Attempt != t.attempt || r.OpID != t.opID) {
		s.wrong("op %s: attempt %d of op id %s, it is at attempt %d of %s", t.nonce.Short(), r.Attempt, r.OpID, t.attempt, t.opID)
	}
}

// started: only what somebody who may has signed is ever claimed.
func (t *story) started(r record) {
	if r.Keyless && t.sim.world != nil {
		t.sim.world.claimed(t.nonce, r)
		return
	}
	o := t.sim.orders[t.nonce]
	if o == nil || o.hostile || !bytes.Equal(r.Envelope, o.envelope) {
		t.sim.wrong("op %s was claimed by what nobody who may has signed", t.nonce.Short())
	}
}

// succeeded: the host's own account agrees.
func (t *story) succeeded(r record) {
	s := t.sim
	s.figures.Events["ops succeeded"]++
	if s.world != nil {
		return // that was looked at when it became durable
	}
	if o := s.orders[t.nonce]; o != nil {
		if e := s.host.ends[o.uuid]; e == nil || e.step > r.step {
			s.figures.False++
			s.wrong("op %s is on record as succeeded, its guest %s is not gone by the host's account", r.OpID, o.uuid)
		}
	}
}

// without: no effect was had by the attempt, nor ever will be.
func (t *story) without(r record) {
	s := t.sim
	if s.world != nil || s.excused(t.copy) {
		return // in a world each effect is held against it as it comes
	}
	for _, e := range s.host.effects {
		if r.Resolution != nil && e.of.opID == r.OpID && e.step < r.step {
			// What people say of what was they answer for.
			s.figures.Events["effects that people denied"]++
			continue
		}
		if gone := s.host.ends[e.of.uuid]; e.of.opID == r.OpID && e.next && gone.step > r.step {
			// The fence stood on the guest that was signed for until strangers
			// took that away, and hit the next one by it.
			s.figures.Events["ended without effect, then let on to the next guest"]++
			continue
		}
		if e.of.opID == r.OpID && !e.second {
			s.figures.False++
			s.wrong("op %s is on record as %s without effect (%s), by the host's account it had one", r.OpID, r.Kind, r.Message)
		}
	}
}

// end counts what came of the op.
func (t *story) end() {
	if t.state == op.TypeVoided && t.attempt == 0 {
		t.sim.figures.Events["ops voided before they ran"]++
	}
}

// attempt gives the number of an op's attempt, by what was stored last.
func (s *sim) attempt(c *copyOf, n op.Nonce) int {
	head, err := c.memory.Head(context.Background(), eventstore.StreamID(n.Stream()))
	if err != nil {
		return 0
	}
	var r record
	if err := json.Unmarshal(head.Data, &r); err != nil {
		return 0
	}
	return r.Attempt
}

// contested tells whether a task turned up for an op that had ended.
func (s *sim) contested(c *copyOf) bool {
	for _, i := range s.instances {
		for e, err := range c.memory.ReadStream(context.Background(), eventstore.StreamID(op.GateStream(i.name)), 0) {
			if err == nil && e.Type == op.TypeContested {
				return true
			}
		}
	}
	return false
}
