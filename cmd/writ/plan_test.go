package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"writ/adapters/httpapi"
	"writ/domain/op"
)

// The service answers with plans of its host.
func TestServicePlans(t *testing.T) {
	s, err := start(t, newServiceConfig(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, s)
	get := func(query string) (int, []byte) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v1/plan?"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, body
	}
	status, body := get("class=guest-destroy&type=qemu&vmid=105")
	var p httpapi.Plan
	if err := json.Unmarshal(body, &p); status != http.StatusOK || err != nil || len(p.Obstacles) != 1 || len(p.TakesAway) > 0 {
		t.Errorf("of no guest: got %d %s (%v), want 200 and an obstacle", status, body, err)
	}
	status, body = get("class=volume-delete&node=pve1&volume=local-lvm:vm-105-disk-0")
	if status != http.StatusOK || !strings.Contains(string(body), "there is no volume local-lvm:vm-105-disk-0") {
		t.Errorf("of no volume: got %d %s, want 200 and an obstacle", status, body)
	}
}

func TestPlanForPeople(t *testing.T) {
	size := func(n int64) *int64 { return &n }
	p := op.Plan{
		Class: op.GuestDestroy, Target: op.Target{Node: "pve1", Guest: &op.Guest{Type: op.QEMU, VMID: 105}},
		TakesAway: []op.PlanItem{
			{Kind: op.PlanConfig, Name: "qemu/105"},
			{Kind: op.PlanVolume, Name: "local-lvm:vm-105-disk-0", Size: size(32 << 30), Note: "scsi0", Users: []string{"qemu/106 scsi1"}},
			{Kind: op.PlanVolume, Name: "local-lvm:vm-105-disk-1", Size: size(528 << 10), Note: "efidisk0"},
			{Kind: op.PlanSnapshot, Name: "be\x1b[31mfore", Time: 1763888400},
		},
		Stops:     []op.PlanItem{{Kind: op.PlanGuest, Name: "qemu/105", Note: "as by pulling the plug"}},
		Remains:   []op.PlanItem{{Kind: op.PlanReplication, Name: "105-0 to pve2"}},
		Obstacles: []string{"protection: the guest is protected; take the protection away first"},
		Unknown:   []op.PlanGap{{What: "backups of guest 105 on storage attic", Why: "the storage is disabled"}},
	}
	var b strings.Builder
	showPlan(plainWriter{&b}, p)
	const want = `Plan of guest-destroy: qemu 105 (node pve1)

  Taken away for good:
    config    qemu/105
    volume    local-lvm:vm-105-disk-0  32 GiB   scsi0; USED BY qemu/106 scsi1
    volume    local-lvm:vm-105-disk-1  528 KiB  efidisk0
    snapshot  be·[31mfore                       made 2025-11-23 09:00:00 UTC

  Stopped:
    guest  qemu/105    as by pulling the plug

  Remains:
    replication  105-0 to pve2

  Keeps it from running:
    - protection: the guest is protected; take the protection away first

  Could not be read:
    - backups of guest 105 on storage attic: the storage is disabled

  No backup of the guest was seen.

  Digest of what is taken away: `
	if got := b.String(); !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	p.Unknown = append(p.Unknown, op.PlanGap{What: "the pool", Why: "give Pool.Audit on /pool", TakenAway: true})
	p.Remains = []op.PlanItem{{Kind: op.PlanBackup, Name: "local:backup/a", Size: size(0)}}
	b.Reset()
	showPlan(plainWriter{&b}, p)
	for text, there := range map[string]bool{"No digest": true, "Digest of": false, "No backup": false, "local:backup/a  0 B": true} {
		if strings.Contains(b.String(), text) != there {
			t.Errorf("got\n%s\nwant %q in it: %t", b.String(), text, there)
		}
	}
}

func TestHumanBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1 KiB", 528 << 10: "528 KiB", 3 << 29: "1.5 GiB", 32 << 30: "32 GiB", 1 << 40: "1 TiB", 1<<63 - 1: "8 EiB",
	} {
		if got := humanBytes(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
