package proxmox_test

import (
	"testing"
	"time"

	"writ/adapters/pvesim"
	"writ/domain/engine"
	"writ/domain/op"
)

// A guest's protection holds back its destroy, a restore over it, and nothing else. A
// request of another kind that has passed the check of its token can't be stopped, so whatever
// else stands, its fence is not confirmed, and the guest is left as it is.
func TestFenceOfAClassThatProtectionDoesNotHoldBack(t *testing.T) {
	r := newAttemptRig(t)
	r.guest(pvesim.QEMU)
	x := r.host.Executors()[op.GuestStop]
	a := engine.Attempt{
		Nonce: nonce, Number: 1, Intent: op.Intent{Class: op.GuestStop, Target: target(op.QEMU, 107)}, ExpiresAt: time.Now().Add(time.Hour),
	}
	seen, err := x.Observe(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	req, credential, err := x.Request(a, seen)
	if err != nil {
		t.Fatal(err)
	}
	f, err := x.Fence(t.Context(), &op.Launching{
		Header: op.Header{
			OpID: "00000000000000000001", Nonce: nonce, Attempt: 1, Class: op.GuestStop, Target: a.Intent.Target, At: time.Now().UTC(),
		},
		Node: seen.Node, Credential: credential, Request: req, Observed: seen,
	})
	if err != nil {
		t.Fatal(err)
	}
	wantFence(t, f, false, false, "itself shows the token as void", "nothing at the host holds back")
	if f.Digest != "" {
		t.Errorf("digest: got %s, want none: the guest was not protected", f.Digest)
	}
}
