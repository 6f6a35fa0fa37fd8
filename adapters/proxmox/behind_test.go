package proxmox_test

import (
	"testing"
	"time"

	"writ/adapters/pvesim"
)

// The guest's node does not get to know that the attempt's token is dead: its copy
// of the cluster's files lags behind, though the write was acknowledged. Then that
// node still lets requests with the token in, and the fence does not stand.
func TestFenceOfANodeThatStaysBehind(t *testing.T) {
	r := newAttemptRig(t)
	r.guest(pvesim.QEMU)
	a, l := r.attempt(1)
	held := r.late(l, a, pvesim.PointQueue)
	r.host.HurryFence(50 * time.Millisecond)
	r.node("pve1", pvesim.NodeControl{Behind: new(true)})
	wantFence(t, r.fence(l), false, false, "not known to refuse")

	t.Log("once it has caught up, it is known to be dead")
	r.node("pve1", pvesim.NodeControl{Behind: new(false)})
	wantFence(t, r.fence(l), true, false, "itself shows the token as void")
	held.Release()
	r.wantEffects(0, 0)
}
