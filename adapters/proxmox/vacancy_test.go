package proxmox_test

import (
	"testing"

	"writ/adapters/pvesim"
	"writ/domain/op"
)

// Whether a VMID is free is asked of the quorum. The front node, pve1, answers if
// it is part of that; its word alone is worth nothing if it is not, as its copy of
// the cluster's state is of the time before.
func TestVacancyIsAskedOfTheQuorum(t *testing.T) {
	off := false
	cutOff := func(nodes ...string) func(*rig) {
		return func(r *rig) {
			for _, node := range nodes {
				r.node(node, pvesim.NodeControl{Quorate: &off})
			}
		}
	}
	silent := func(node string) func(*rig) {
		return func(r *rig) { r.fault(pvesim.Fault{Kind: pvesim.FaultCut, Method: "GET", Node: node, Times: -1}) }
	}
	cases := map[string]struct {
		do   func(r *rig)
		want op.Effect // none: an error
	}{
		"all agree":                             {func(*rig) {}, op.EffectDone},
		"the front node is cut off":             {cutOff("pve1"), op.EffectDone},
		"the other node is cut off":             {cutOff("pve2"), op.EffectDone},
		"the front node does not answer":        {silent("pve1"), op.EffectDone},
		"no node has a quorum":                  {cutOff("pve1", "pve2"), op.EffectUnknown},
		"one is cut off, one does not answer":   {func(r *rig) { cutOff("pve1")(r); silent("pve2")(r) }, op.EffectUnknown},
		"one does not answer, nor does another": {func(r *rig) { silent("pve1")(r); silent("pve2")(r) }, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.guest(pvesim.QEMU)
			l := r.announce(op.QEMU, op.Params{})
			c.do(r)
			r.sim.DestroyGuest(107)
			f, err := r.exec.Probe(t.Context(), l, "OK", nil)
			if (err != nil) != (c.want == "") || f.Evidence.Effect != c.want {
				t.Errorf("got %s, %v, because %q; want %s", f.Evidence.Effect, err, f.Evidence.Reasons, c.want)
			}
		})
	}
}
