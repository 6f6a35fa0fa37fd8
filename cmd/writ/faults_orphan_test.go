package main

import (
	"strings"
	"testing"
	"testing/synctest"

	"writ/adapters/pvesim"
)

// A worker that was killed may have left a child at work, which removes a volume
// by its name: nobody else gets the target before that is ruled out, or the next
// guest's volume of the same name would be the one that goes.
func TestTargetIsKeptWhileAChildOfAKilledWorkerMayAct(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFaultWorld(t, pvesim.QEMU, nil)
		w.inject(pvesim.Fault{Kind: pvesim.FaultTaskKill, VMID: faultVMID, Stage: pvesim.StageFree + "0"})
		if got := w.submit(); got.status != 202 {
			t.Fatalf("the order: got %+v, want 202", got)
		}
		w.sealAs("7a1c9a0e5d7b4c2f8a3e1d0c9b8a7f6e")
		got := w.submit()
		if got.status != 412 || !strings.Contains(got.detail, "may still act") || w.sent() != 1 {
			t.Errorf("another order for the guest: got %+v, %d orders sent; want 412 and 1", got, w.sent())
		}
	})
}
