package proxmox_test

import (
	"strings"
	"testing"

	"writ/adapters/pvesim"
	"writ/domain/engine"
	"writ/domain/op"
)

// What lies between may deliver a request twice and pass on the answer to the
// second one: a refusal then proves nothing, as the first may have destroyed the
// guest.
func TestRefusalOfARepeatedRequestProvesNothing(t *testing.T) {
	r := newAttemptRig(t)
	r.guest(pvesim.QEMU)
	a, l := r.attempt(1)
	r.fault(pvesim.Fault{
		Kind: pvesim.FaultAnswer, Method: "DELETE", Path: "/nodes/pve1/qemu/107", After: true,
		Status: 500, Reason: "Configuration file 'nodes/pve1/qemu-server/107.conf' does not exist",
	})
	_, err := r.exec.Launch(t.Context(), a, l)
	if err == nil || engine.IsDefinite(err) || !strings.Contains(err.Error(), "delivered more than once") {
		t.Fatalf("got %v (definite: %t), want an error that proves nothing, and says why", err, engine.IsDefinite(err))
	}
	found := r.tasks(l)
	if len(found.UPIDs) != 1 {
		t.Fatalf("tasks: got %v, want the one that destroyed the guest", found.UPIDs)
	}
	if f := r.probe(l, r.task(found.UPIDs[0])); f.Evidence.Effect != op.EffectDone {
		t.Errorf("got %s, want %s", f.Evidence.Effect, op.EffectDone)
	}
}
