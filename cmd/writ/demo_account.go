package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"writ/adapters/pvesim"
	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/op"
	"writ/domain/signedop"
)

// The two witnesses of the demo: the simulated host's account of what was
// asked of it and what happened to its guests, and the ledger. Neither goes
// through the service.

// requests gives the requests of this scene that would change something on the
// host.
func (w *demoWorld) requests() []pvesim.RequestRecord { return w.sim.Requests()[w.seenRequests:] }

// effects gives what really happened to guests in this scene.
func (w *demoWorld) effects() []pvesim.Effect { return w.sim.Effects()[w.seenEffects:] }

// destroyed counts how often this very machine was destroyed since the demo
// began.
func (w *demoWorld) destroyed(g pvesim.Guest) int {
	n := 0
	for _, e := range w.sim.Effects() {
		if e.Kind == pvesim.GuestDestroyed && e.Instance == g.Instance {
			n++
		}
	}
	return n
}

// touched counts the effects of any kind on this very machine.
func (w *demoWorld) touched(g pvesim.Guest) int {
	n := 0
	for _, e := range w.sim.Effects() {
		if e.Instance == g.Instance {
			n++
		}
	}
	return n
}

// alive tells whether this very machine is there, all disks included.
func (w *demoWorld) alive(g pvesim.Guest) bool {
	now, ok := w.sim.Guest(g.VMID)
	return ok && now.Instance == g.Instance && slices.Equal(now.Disks, g.Disks) && w.touched(g) == 0
}

// claimAlive claims that a machine is there as it was.
func (w *demoWorld) claimAlive(text string, g pvesim.Guest) claim {
	if w.alive(g) {
		return claim{Text: text, Holds: true}
	}
	return claim{Text: text, Found: fmt.Sprintf("%d effects on it in the host's account", w.touched(g))}
}

// claimUntouched claims that the host was asked for no change in this scene.
func (w *demoWorld) claimUntouched() claim {
	c := claim{Text: "the host was not asked to change anything", Holds: len(w.requests()) == 0 && len(w.effects()) == 0}
	if !c.Holds {
		c.Found = fmt.Sprintf("%d requests, %d effects", len(w.requests()), len(w.effects()))
	}
	return c
}

// deletes counts the requests to destroy the guest of a VMID in this scene.
func (w *demoWorld) deletes(vmid int) int {
	n := 0
	for _, r := range w.requests() {
		if r.Method == http.MethodDelete && strings.HasSuffix(r.Path, fmt.Sprintf("/%d", vmid)) {
			n++
		}
	}
	return n
}

// doneWords tells what happened on the host in this scene.
func (w *demoWorld) doneWords() string {
	var words []string
	for _, e := range w.effects() {
		if e.Kind == pvesim.GuestDestroyed {
			words = append(words, fmt.Sprintf("VM %d %q destroyed", e.VMID, e.Name))
		}
	}
	if len(words) == 0 {
		return "nothing"
	}
	return strings.Join(words, ", ")
}

// onRecord folds an op from its stream in the ledger, which checks every
// transition and the chain.
func (w *demoWorld) onRecord(ctx context.Context, n op.Nonce) (op.Op, error) {
	return engine.LoadOp(ctx, w.ledger, eventstore.LedgerID(w.site.Ledger), n)
}

// events gives the events of an op's stream, by type.
func (w *demoWorld) events(ctx context.Context, n op.Nonce) ([]string, error) {
	var types []string
	for e, err := range w.ledger.ReadStream(ctx, eventstore.StreamID(n.Stream()), 0) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		types = append(types, e.Type)
	}
	return types, nil
}

// opsOnRecord gives every op that the ledger holds.
func (w *demoWorld) opsOnRecord(ctx context.Context) ([]op.Op, error) {
	var nonces []op.Nonce
	for e, err := range w.ledger.ReadAll(ctx, eventstore.Cursor{}, eventstore.Filter{StreamPrefixes: []string{op.StreamPrefix}}) {
		if err != nil {
			return nil, err
		}
		if n, ok := op.NonceOfStream(string(e.Stream)); ok && e.Revision == 0 {
			nonces = append(nonces, n)
		}
	}
	ops := make([]op.Op, 0, len(nonces))
	for _, n := range nonces {
		o, err := w.onRecord(ctx, n)
		if err != nil {
			return nil, err
		}
		ops = append(ops, o)
	}
	return ops, nil
}

// refusals gives the reasons of the refusals on record, oldest first.
func (w *demoWorld) refusals(ctx context.Context) ([]string, error) {
	var reasons []string
	for e, err := range w.ledger.ReadStream(ctx, eventstore.StreamID(op.GateStream(w.instance)), 0) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if e.Type != op.TypeRefused {
			continue
		}
		var r op.Refused
		if err := op.Unmarshal(e.Data, &r); err != nil {
			return nil, err
		}
		reasons = append(reasons, r.Reason)
	}
	return reasons, nil
}

// signersOnRecord verifies the writ that the ledger holds of an op, anew and
// with nothing but the people's public keys, and names who signed it.
func (w *demoWorld) signersOnRecord(o op.Op) (string, error) {
	if o.Started == nil {
		return "nobody: no such op", nil
	}
	u, err := signedop.Parse(o.Started.Envelope)
	if err != nil {
		return "", err
	}
	var keys []signedop.Key
	for _, p := range w.people {
		keys = append(keys, p.signer.Key())
	}
	verified, _ := u.Verify(keys)
	if verified == nil || u.Digest() != o.Started.PayloadSHA256 {
		return "nobody: no signature is good", nil
	}
	var names []string
	for _, k := range verified.Keys() {
		for _, p := range w.people {
			if p.signer.Key().Fingerprint == k.Fingerprint {
				names = append(names, p.name)
			}
		}
	}
	return strings.Join(names, " and "), nil
}

// tamper changes what a writ orders and leaves its signatures as they are.
func tamper(raw []byte, was, becomes string) ([]byte, error) {
	var env struct {
		Payload     []byte           `json:"payload"`
		PayloadType string           `json:"payloadType"`
		Signatures  []map[string]any `json:"signatures"`
	}
	if err := op.Unmarshal(raw, &env); err != nil {
		return nil, err
	}
	changed := bytes.ReplaceAll(env.Payload, []byte(was), []byte(becomes))
	if bytes.Equal(changed, env.Payload) {
		return nil, fmt.Errorf("tamper: the document does not hold %s", was)
	}
	env.Payload = changed
	return op.Marshal(env)
}

// A demoLedger is the ledger as the demo's witness reads it.
type demoLedger interface {
	eventstore.Reader
	eventstore.Subscriber
}
