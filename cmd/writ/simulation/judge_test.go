package simulation_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"writ/adapters/pvesim"
	"writ/domain/op"
)

// What the accounts of a carried history are for they find.
func TestAccountsFindWhatIsWrong(t *testing.T) {
	guest := op.Target{Node: "pve1", Guest: &op.Guest{Type: op.QEMU, VMID: 100}}
	const nonce, first, second = "6f1c9a0e5d7b4c2f8a3e1d0c9b8a7f6e", "00000000000000000001", "00000000000000000002"
	destroyed := func(w *world, opID string, instance int) {
		w.note(pvesim.Effect{Kind: pvesim.GuestDestroyed, VMID: 100, Instance: instance, Tag: opID})
	}
	unknown := func(w *world) { w.failed(record{OpID: first, Effect: "unknown", Resolution: new(struct{})}) }
	// An op of another nonce takes the guest away; then comes the first one's request.
	late := func(w *world, instance int) {
		const other, third = "00000000000000000000000000000000", "00000000000000000003"
		o := *w.sim.orders[nonce]
		w.sim.orders[other] = &o
		w.byOp[third] = &sent{opID: third, nonce: other, vmid: 100}
		destroyed(w, third, instance)
		w.pve.DestroyGuest(100)
		w.look()
		delete(w.swapped, "guest 100") // it was not by other people
		g := w.create(100)
		w.admitted(pvesim.Request{Tag: first})
		destroyed(w, first, g.Instance)
	}
	for name, tt := range map[string]struct {
		happens func(w *world, instance int)
		want    string // part of what is found; empty for nothing
	}{
		"one effect on what was signed for": {func(w *world, i int) { destroyed(w, first, i) }, ""},
		"an effect that nobody launched":    {func(w *world, i int) { destroyed(w, "00000000000000000009", i) }, "which nobody launched"},
		"two attempts that both took effect": {func(w *world, i int) {
			destroyed(w, first, i)
			destroyed(w, second, i)
		}, "had two effects"},
		"an effect on another guest": {func(w *world, i int) { destroyed(w, first, i+1) }, "was signed for"},
		"an effect after an end without one": {func(w *world, i int) {
			w.failed(record{OpID: first, Effect: "none"})
			destroyed(w, first, i)
		}, "on record as without effect, and now"},
		"an end without effect after one": {func(w *world, i int) {
			destroyed(w, first, i)
			w.failed(record{OpID: first, Effect: "none"})
		}, "by the host's account it had one"},
		"a success before the effect": {func(w *world, _ int) {
			w.sim.succeeded(nonce, []byte(`{"op_id":"`+first+`","class":"guest-destroy"}`))
		}, "that did not happen"},
		"a request let in for another guest": {func(w *world, _ int) {
			w.byOp[first].announced = 1 << 30 // nobody was at it since
			w.pve.DestroyGuest(100)
			w.create(100)
			w.admitted(pvesim.Request{Tag: first})
		}, "was let in for"},
		"with one credential, late, when people had given it up": {func(w *world, i int) {
			w.shared = true
			unknown(w)
			late(w, i)
		}, ""},
		"late, and nobody had given it up":  {func(w *world, i int) { w.shared = true; late(w, i) }, "was let in for"},
		"late with a credential of its own": {func(w *world, i int) { unknown(w); late(w, i) }, "was let in for"},
		"late, when people had said that it is none": {func(w *world, i int) {
			w.shared = true
			w.failed(record{OpID: first, Effect: "none", Resolution: new(struct{})})
			late(w, i)
		}, "was let in for"},
		"late, ended as unknown by nobody": {func(w *world, i int) {
			w.shared = true
			w.failed(record{OpID: first, Effect: "unknown"})
			late(w, i)
		}, "was let in for"},
		"given up, and it hits another guest while its own is there": {func(w *world, i int) {
			w.shared = true
			unknown(w)
			destroyed(w, first, i+1)
		}, "was signed for"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSim(1, nil, nil)
				w := newWorld(s, false)
				defer w.pve.Close()
				g, _ := w.pve.Guest(100)
				s.orders[nonce] = &order{nonce: nonce, prize: guestThing(g.Instance)}
				s.orders[nonce].doc.Class, s.orders[nonce].doc.Target = op.GuestDestroy, guest
				for _, id := range []string{first, second} {
					w.byOp[id] = &sent{opID: id, nonce: nonce, vmid: 100}
				}
				tt.happens(w, g.Instance)
				got := strings.Join(s.failures, "; ")
				if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
					t.Errorf("found: got %q, want %q", got, tt.want)
				}
			})
		})
	}
}
