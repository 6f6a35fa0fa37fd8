package proxmox_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"writ/adapters/proxmox"
	"writ/adapters/pvesim"
	"writ/domain/engine"
	"writ/domain/op"
)

func TestForeignAttempts(t *testing.T) {
	r := newAttemptRig(t)
	r.guest(pvesim.QEMU)
	if _, err := r.sim.AddToken(serviceUser+"!by-hand", pvesim.Token{}); err != nil {
		t.Fatal(err)
	}
	a, l := r.attempt(1)
	if _, err := r.exec.Launch(t.Context(), a, l); err != nil {
		t.Fatal(err)
	}
	got, err := r.host.ForeignAttempts(t.Context(), func(id string) bool { return id == l.Credential })
	if err != nil || len(got) != 0 {
		t.Errorf("all known: got %q, %v, want none", got, err)
	}
	got, err = r.host.ForeignAttempts(t.Context(), func(string) bool { return false })
	if err != nil || len(got) != 1 || got[0] != l.Credential {
		t.Errorf("none known: got %q, %v, want %s", got, err, l.Credential)
	}
	for _, name := range []string{"pve1", "pve2"} {
		r.node(name, pvesim.NodeControl{Quorate: new(false)})
	}
	if got, err = r.host.ForeignAttempts(t.Context(), func(string) bool { return true }); err == nil {
		t.Errorf("no quorum: got %q, want an error: the list may be old", got)
	}
	shared := newHost(t, r.conf)
	if got, err = shared.ForeignAttempts(t.Context(), func(string) bool { return false }); err != nil || len(got) != 0 || shared.Mode() != proxmox.ModeShared {
		t.Errorf("shared: got %q, %v, mode %s", got, err, shared.Mode())
	}
}

// The host's time is that of the quorum.
func TestTime(t *testing.T) {
	r := newAttemptRig(t)
	r.node("pve1", pvesim.NodeControl{Skew: new(-2 * time.Hour), Quorate: new(false)})
	r.node("pve2", pvesim.NodeControl{Skew: new(time.Hour)})
	got, err := r.host.Time(t.Context())
	if off := time.Until(got) - time.Hour; err != nil || off.Abs() > 5*time.Second {
		t.Errorf("got %s, %v, want an hour from now", got, err)
	}
	r.node("pve2", pvesim.NodeControl{Quorate: new(false)})
	if got, err := r.host.Time(t.Context()); err == nil {
		t.Errorf("no quorum: got %s, want an error", got)
	}
}

// However many tokens the host has, each is looked at: the list is one answer.
func TestForeignAttemptsAmongMany(t *testing.T) {
	r := newAttemptRig(t)
	const many = 1500
	for n := range many {
		r.tombstone(n, "")
	}
	strange := tombstoneName(many / 2)
	got, err := r.host.ForeignAttempts(t.Context(), func(id string) bool { return id != strange })
	if err != nil || !slices.Equal(got, []string{strange}) {
		t.Errorf("one of %d unknown: got %q, %v, want %s", many, got, err, strange)
	}
	got, err = r.host.ForeignAttempts(t.Context(), func(string) bool { return false })
	if err != nil || len(got) != many {
		t.Errorf("all unknown: got %d, %v, want %d", len(got), err, many)
	}
}

// What can't be read is never taken for a host without foreign attempts.
func TestForeignAttemptsThatCantBeRead(t *testing.T) {
	for name, c := range map[string]struct {
		fault  pvesim.Fault
		reason string
	}{
		"no answer":            {pvesim.Fault{Kind: pvesim.FaultCut}, "EOF"},
		"a busy daemon":        {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 596}, "596"},
		"not allowed":          {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 403, Reason: "Permission check failed"}, "403"},
		"a balancer":           {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 502}, "502"},
		"nothing":              {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 200}, "empty"},
		"null":                 {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 200, Body: `{"data":null}`}, "null"},
		"no list":              {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 200, Body: `{"data":{"w-1":{}}}`}, "can't be read"},
		"a row without a name": {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 200, Body: `{"data":[{"tokenid":"a"},{"expire":1}]}`}, "row 2 names no token"},
		"a row that is null":   {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 200, Body: `{"data":[null]}`}, "row 1 names no token"},
		"a page":               {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 200, Body: `<html></html>`}, "not JSON"},
		"a broken one":         {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 200, Body: `{"data":[{"tokenid":"a"}`}, "not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newAttemptRig(t)
			c.fault.Method, c.fault.Path, c.fault.Times = "GET", "/access/users/*/token", -1
			r.fault(c.fault)
			got, err := r.host.ForeignAttempts(t.Context(), func(string) bool { return true })
			if err == nil || !strings.Contains(err.Error(), c.reason) {
				t.Errorf("got %q, %v, want an error with %q", got, err, c.reason)
			}
			removed, err := r.host.CleanTombstones(t.Context(), time.Now(), nil)
			if err == nil || len(removed) != 0 {
				t.Errorf("clean: got %q, %v, want an error", removed, err)
			}
		})
	}
}

func tombstoneName(n int) string { return fmt.Sprintf("%s!w-%040x-1", serviceUser, n) }

// tombstone makes a dead token of a made-up attempt.
func (r *rig) tombstone(n int, comment string) {
	r.t.Helper()
	if _, err := r.sim.AddToken(tombstoneName(n), pvesim.Token{Expire: 1, Comment: comment}); err != nil {
		r.t.Fatal(err)
	}
}

// ownTokens are the names of the service user's tokens on the host.
func (r *rig) ownTokens() []string {
	r.t.Helper()
	all, err := r.host.ForeignAttempts(r.t.Context(), func(string) bool { return false })
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

func TestCleanTombstones(t *testing.T) {
	now := time.Now()
	long := proxmox.KnownAttempt{Launched: now.Add(-72 * time.Hour), ExpiresAt: now.Add(-48 * time.Hour)}
	cases := map[string]struct {
		known  func(*proxmox.KnownAttempt) // of the one in question
		token  func(*pvesim.Token)
		now    time.Duration
		goes   bool
		strike bool // the ledger does not know of it
	}{
		"expired long ago": {goes: true},
		"the document just expired": {
			known: func(k *proxmox.KnownAttempt) { k.ExpiresAt = now.Add(-59 * time.Minute) },
		},
		"the document expired an hour ago": {
			known: func(k *proxmox.KnownAttempt) { k.ExpiresAt = now.Add(-61 * time.Minute) }, goes: true,
		},
		"the document is good": {known: func(k *proxmox.KnownAttempt) { k.ExpiresAt = now.Add(time.Hour) }},
		"the document is good by the token's comment": {
			token: func(k *pvesim.Token) {
				k.Comment = "writ op=1 attempt=1 target=qemu/107 document_expires=" + now.Add(time.Hour).UTC().Format(time.RFC3339)
			},
		},
		"expired by the token's comment too": {
			token: func(k *pvesim.Token) {
				k.Comment = "writ op=1 document_expires=" + now.Add(-9*time.Hour).UTC().Format(time.RFC3339)
			},
			goes: true,
		},
		"its op is in flight":                    {known: func(k *proxmox.KnownAttempt) { k.Open = true }},
		"the ledger does not say when it ends":   {known: func(k *proxmox.KnownAttempt) { k.ExpiresAt = time.Time{} }},
		"the ledger does not say when it began":  {known: func(k *proxmox.KnownAttempt) { k.Launched = time.Time{} }},
		"it is the newest":                       {known: func(k *proxmox.KnownAttempt) { k.Launched = now.Add(-time.Minute) }},
		"the ledger does not know of it":         {strike: true},
		"the token is good":                      {token: func(k *pvesim.Token) { k.Expire = now.Add(time.Minute).Unix() }},
		"the token is good for ever":             {token: func(k *pvesim.Token) { k.Expire = 0 }},
		"the token's lease has ended by itself":  {token: func(k *pvesim.Token) { k.Expire = now.Add(-2 * time.Hour).Unix() }, goes: true},
		"the ledger's clock is wrong, too late":  {known: func(k *proxmox.KnownAttempt) { k.ExpiresAt = now.Add(time.Hour) }, now: 1000 * time.Hour},
		"the ledger's clock is wrong, too early": {now: -1000 * time.Hour},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newAttemptRig(t)
			r.tombstone(2, "") // a newer one
			token, known := pvesim.Token{Expire: 1}, long
			if c.token != nil {
				c.token(&token)
			}
			if c.known != nil {
				c.known(&known)
			}
			for _, id := range []string{tombstoneName(1), serviceUser + "!by-hand", serviceUser + "!w-1"} {
				if _, err := r.sim.AddToken(id, token); err != nil {
					t.Fatal(err)
				}
			}
			got, err := r.host.CleanTombstones(t.Context(), now.Add(c.now), func(id string) (proxmox.KnownAttempt, bool) {
				if id == tombstoneName(2) {
					return proxmox.KnownAttempt{Launched: now.Add(-time.Hour), ExpiresAt: now.Add(-30 * time.Hour)}, true
				}
				return known, !c.strike
			})
			left := r.ownTokens()
			if err != nil || slices.Equal(got, []string{tombstoneName(1)}) != c.goes || slices.Contains(left, tombstoneName(1)) == c.goes {
				t.Errorf("removed: got %q, %v, left %q; want it gone: %v", got, err, left, c.goes)
			}
			if keeps := name != "it is the newest"; keeps != slices.Contains(left, tombstoneName(2)) {
				t.Errorf("the other: left %q, want it there: %v", left, keeps)
			}
			writes := 0
			for _, w := range r.writes() {
				if strings.HasPrefix(w, "DELETE ") {
					writes++
				}
			}
			if writes != len(got) {
				t.Errorf("DELETE requests: got %q, want %d", r.writes(), len(got))
			}
		})
	}
}

// One call removes some, the next one the rest, the oldest first; a lost answer
// is made good by the next call.
func TestCleanTombstonesByAndBy(t *testing.T) {
	r := newAttemptRig(t)
	now := time.Now()
	for n := range 31 {
		r.tombstone(n, "")
	}
	known := func(id string) (proxmox.KnownAttempt, bool) {
		var n int
		_, err := fmt.Sscanf(strings.TrimPrefix(id, serviceUser+"!w-"), "%040x-1", &n)
		return proxmox.KnownAttempt{Launched: now.Add(time.Duration(n-100) * time.Hour), ExpiresAt: now.Add(-48 * time.Hour)}, err == nil
	}
	clean := func(want int, fails bool) {
		t.Helper()
		got, err := r.host.CleanTombstones(t.Context(), now, known)
		if len(got) != want || (err != nil) != fails {
			t.Fatalf("removed: got %d, %v; want %d, error: %v", len(got), err, want, fails)
		}
	}
	r.fault(pvesim.Fault{Kind: pvesim.FaultAnswer, Method: "DELETE", Path: tokenPath, Status: 596, After: true})
	clean(0, true)
	clean(20, false)
	if left := r.ownTokens(); len(left) != 10 || left[0] != tombstoneName(21) {
		t.Errorf("left: got %q, want the ten newest", left)
	}
	clean(9, false)
	clean(0, false)
	if left := r.ownTokens(); !slices.Equal(left, []string{tombstoneName(30)}) {
		t.Errorf("left: got %q, want the newest", left)
	}
}

// A tombstone that is gone is no way back: the same attempt, by an old copy of
// the ledger, is refused because its document has expired.
func TestCleanedAttemptIsNotLaunchedAgain(t *testing.T) {
	r := newAttemptRig(t)
	r.guest(pvesim.QEMU)
	a, l := r.attempt(1)
	if _, err := r.exec.Launch(t.Context(), a, l); err != nil {
		t.Fatal(err)
	}
	r.guest(pvesim.QEMU)
	again, la := r.attempt(1)
	again.ExpiresAt = time.Now().Add(-2 * time.Hour)
	r.sim.ExpireToken(l.Credential, 1)
	r.tombstone(1, "")
	removed, err := r.host.CleanTombstones(t.Context(), time.Now(), func(id string) (proxmox.KnownAttempt, bool) {
		return proxmox.KnownAttempt{Launched: time.Now().Add(-time.Hour * time.Duration(len(id))), ExpiresAt: again.ExpiresAt}, true
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.another(func(*proxmox.Config) {}).Executors()[op.GuestDestroy].Launch(t.Context(), again, la)
	if !engine.IsDefinite(err) && !engine.IsOtherCopy(err) {
		t.Errorf("removed %q, and launched again: got %v, want a refusal", removed, err)
	}
	r.wantEffects(1, 2)
}

// Every write to the file of users and tokens waits for the one before it, of
// whatever op: a destroy in the cluster needs that file's lock and gets it by luck.
func TestTokenWritesNeverOverlap(t *testing.T) {
	r := newAttemptRig(t, func(o *pvesim.Options) { o.Pace.Write = 3 * time.Millisecond })
	const ops = 8
	launched := make(chan error, ops)
	for n := range ops {
		vmid := 110 + n
		if _, err := r.sim.AddGuest(pvesim.Guest{VMID: vmid, Node: fmt.Sprintf("pve%d", 1+n%2), Name: "web", MACs: []string{""}}); err != nil {
			t.Fatal(err)
		}
		a := engine.Attempt{
			Nonce: op.Nonce(fmt.Sprintf("%032x", n+1)), Number: 1, Earlier: nil, ExpiresAt: time.Now().Add(time.Hour),
			Intent: op.Intent{Class: op.GuestDestroy, Target: target(op.QEMU, vmid)},
		}
		go func() {
			seen, err := r.exec.Observe(t.Context(), a)
			if err != nil {
				launched <- err
				return
			}
			req, cred, err := r.exec.Request(a, seen)
			if err != nil {
				launched <- err
				return
			}
			l := &op.Launching{
				Header: op.Header{OpID: fmt.Sprintf("%020x", vmid), Nonce: a.Nonce, Attempt: 1, Class: a.Intent.Class, Target: a.Intent.Target, At: time.Now().UTC()},
				Node:   seen.Node, Credential: cred, Request: req, Observed: seen,
			}
			if _, err = r.exec.Launch(t.Context(), a, l); err == nil {
				_, err = r.exec.Fence(t.Context(), l)
			}
			launched <- err
		}()
	}
	for range ops {
		if err := <-launched; err != nil {
			t.Fatal(err)
		}
	}
	var writes []pvesim.RequestRecord
	for _, q := range r.sim.Requests()[r.asked:] {
		if q.Path != "/api2/json/access/ticket" && strings.HasPrefix(q.Path, "/api2/json/access/") {
			writes = append(writes, q)
		}
	}
	if len(writes) != 3*ops {
		t.Errorf("writes: got %d, want %d: a token, its right and its end for each op", len(writes), 3*ops)
	}
	for i := 1; i < len(writes); i++ {
		if before := writes[i-1]; before.Ended.IsZero() || writes[i].At.Before(before.Ended) {
			t.Errorf("%s %s began at %s, before %s %s had ended at %s",
				writes[i].Method, writes[i].Path, writes[i].At, before.Method, before.Path, before.Ended)
		}
	}
}
