package op_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"writ/domain/op"
)

func bytesOf(n int64) *int64 { return &n }

// aPlan is one with something in every list.
func aPlan() op.Plan {
	return op.Plan{
		Class: op.GuestDestroy, Target: op.Target{Node: "pve1", Guest: &op.Guest{Type: op.QEMU, VMID: 105}},
		TakesAway: []op.PlanItem{
			{Kind: op.PlanConfig, Name: "qemu/105"},
			{Kind: op.PlanVolume, Name: "local-lvm:vm-105-disk-0", Size: bytesOf(34359738368), Note: "scsi0", Users: []string{"qemu/106 scsi1"}},
			{Kind: op.PlanVolume, Name: "local-lvm:vm-105-disk-1", Size: bytesOf(0)},
			{Kind: op.PlanVolume, Name: "gone:vm-105-disk-2"},
			{Kind: op.PlanSnapshot, Name: "before", Time: 1763888400},
			{Kind: op.PlanSnapshot, Name: "before", Time: 1763888401},
			{Kind: op.PlanACL, Name: "user owner@pve: PVEVMAdmin"},
		},
		Stops:     []op.PlanItem{{Kind: op.PlanGuest, Name: "qemu/105"}},
		Remains:   []op.PlanItem{{Kind: op.PlanBackup, Name: "local:backup/a"}, {Kind: op.PlanBackup, Name: "local:backup/b"}},
		Obstacles: []string{"lock: the guest is locked (backup)"},
		Unknown:   []op.PlanGap{{What: "backups on storage tank", Why: "403"}, {What: "backups on storage attic", Why: "403"}},
	}
}

func planDigest(t *testing.T, p op.Plan) string {
	t.Helper()
	d, err := p.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// A digest that was signed must mean the same for ever: a change of this file
// voids every order that expects a plan.
func TestPlanDigestsAreAsPublished(t *testing.T) {
	const published = "" +
		`{"class":"guest-destroy","target":{"guest":{"type":"qemu","vmid":105}},"takes_away":[` +
		`{"kind":"acl","name":"user owner@pve: PVEVMAdmin"},` +
		`{"kind":"config","name":"qemu/105"},` +
		`{"kind":"snapshot","name":"before","time":1763888400},` +
		`{"kind":"snapshot","name":"before","time":1763888401},` +
		`{"kind":"volume","name":"gone:vm-105-disk-2"},` +
		`{"kind":"volume","name":"local-lvm:vm-105-disk-0","size":34359738368},` +
		`{"kind":"volume","name":"local-lvm:vm-105-disk-1","size":0}]}`
	if got, want := planDigest(t, aPlan()), op.DigestOf([]byte(published)).String(); got != want {
		t.Errorf("digest: got %s, want %s, that of\n%s", got, want, published)
	}
	var lines strings.Builder
	for _, p := range []op.Plan{
		aPlan(),
		{Class: op.GuestStop, Target: op.Target{Node: "pve1", Guest: &op.Guest{Type: op.LXC, VMID: 106}}},
		{
			Class: op.StorageWipe, Target: op.Target{Node: "pve1", Pool: &op.Pool{Kind: op.LVMThin, Name: "data", VolumeGroup: "pve"}},
			TakesAway: []op.PlanItem{{Kind: op.PlanPool, Name: "lvmthin pool pve/data", Size: bytesOf(1 << 40)}},
		},
		{
			Class: op.BackupDelete, Target: op.Target{Node: "pve2", Volume: "local:backup/a"},
			TakesAway: []op.PlanItem{{Kind: op.PlanBackup, Name: "local:backup/a", Size: bytesOf(7), Time: 1763888400}},
		},
		{Class: op.StorageWipe, Target: op.Target{Node: "pve1", Disk: "/dev/sdb"}, TakesAway: []op.PlanItem{{Kind: op.PlanDevice, Name: "/dev/sdb", Size: bytesOf(1 << 30)}}},
	} {
		lines.WriteString(planDigest(t, p) + " " + string(p.Class) + " " + p.Target.String() + "\n")
	}
	golden(t, "plans.txt", []byte(lines.String()))
}

// The order in which the host gives its answers, and what is no loss, make no
// difference.
func TestPlanDigestIsOfTheLossAlone(t *testing.T) {
	want := planDigest(t, aPlan())
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		p := aPlan()
		shuffle := func(list []op.PlanItem) {
			r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		}
		shuffle(p.TakesAway)
		shuffle(p.Remains)
		if r.IntN(2) == 0 {
			p.TakesAway = append(p.TakesAway, p.TakesAway[r.IntN(len(p.TakesAway))])
		}
		if r.IntN(2) == 0 {
			p.Target.Node = "pve2" // a guest migrates
		}
		if r.IntN(2) == 0 {
			p.Stops, p.Remains, p.Obstacles, p.Unknown = nil, nil, nil, nil
			p.TakesAway[0].Note, p.TakesAway[0].Users = "another", []string{"qemu/107 scsi1"}
		}
		if r.IntN(2) == 0 {
			p.Sort()
		}
		if got := planDigest(t, p); got != want {
			t.Fatalf("digest of %+v: got %s, want %s", p, got, want)
		}
	}
}

// Sorted, a plan is the same in whatever order it was put together.
func TestPlanSort(t *testing.T) {
	want := aPlan()
	want.Sort()
	r := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		got := aPlan()
		for _, list := range [][]op.PlanItem{got.TakesAway, got.Remains} {
			r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		}
		r.Shuffle(len(got.Unknown), func(i, j int) { got.Unknown[i], got.Unknown[j] = got.Unknown[j], got.Unknown[i] })
		got.Remains = append(got.Remains, got.Remains[0])
		got.Sort()
		a, errA := op.Marshal(got)
		b, errB := op.Marshal(want)
		if errA != nil || errB != nil || string(a) != string(b) {
			t.Fatalf("got\n%s (%v)\nwant\n%s (%v)", a, errA, b, errB)
		}
	}
}

func TestPlanDigestChangesWithTheLoss(t *testing.T) {
	seen := map[string]string{planDigest(t, aPlan()): "the plan as it is"}
	for name, change := range map[string]func(*op.Plan){
		"another class":            func(p *op.Plan) { p.Class = op.RestoreOverwrite },
		"another guest":            func(p *op.Plan) { p.Target.Guest = &op.Guest{Type: op.QEMU, VMID: 106} },
		"another type":             func(p *op.Plan) { p.Target.Guest = &op.Guest{Type: op.LXC, VMID: 105} },
		"a volume":                 func(p *op.Plan) { p.Target = op.Target{Node: "pve1", Volume: "a:b"} },
		"a volume elsewhere":       func(p *op.Plan) { p.Target = op.Target{Node: "pve2", Volume: "a:b"} },
		"an item less":             func(p *op.Plan) { p.TakesAway = p.TakesAway[1:] },
		"an item more":             func(p *op.Plan) { p.TakesAway = append(p.TakesAway, op.PlanItem{Kind: op.PlanHA, Name: "vm:105"}) },
		"another kind":             func(p *op.Plan) { p.TakesAway[0].Kind = op.PlanGuest },
		"another name":             func(p *op.Plan) { p.TakesAway[0].Name = "qemu/1050" },
		"another size":             func(p *op.Plan) { p.TakesAway[1].Size = bytesOf(1) },
		"no size in place of 0":    func(p *op.Plan) { p.TakesAway[2].Size = nil },
		"another time":             func(p *op.Plan) { p.TakesAway[4].Time = 1 },
		"nothing taken away":       func(p *op.Plan) { p.TakesAway = nil },
		"a name that looks like 2": func(p *op.Plan) { p.TakesAway[0].Name = `qemu/105"},{"kind":"ha","name":"vm:105` },
	} {
		p := aPlan()
		change(&p)
		d := planDigest(t, p)
		if other, taken := seen[d]; taken {
			t.Errorf("%s: digest %s, the same as of %s", name, d, other)
		}
		seen[d] = name
	}
}

func TestPlanThatIsNotWholeHasNoDigest(t *testing.T) {
	p := aPlan()
	p.Unknown = append(p.Unknown, op.PlanGap{What: "the pool", Why: "give Pool.Audit on /pool", TakenAway: true})
	if d, err := p.Digest(); err == nil || !strings.Contains(err.Error(), "the pool: give Pool.Audit on /pool") || strings.Contains(err.Error(), "tank") {
		t.Errorf("digest: got %s, %v, want an error that names what is missing, and no more", d, err)
	}
	p = aPlan()
	p.TakesAway[0].Name = "\xff"
	if d, err := p.Digest(); err == nil {
		t.Errorf("digest of bytes that are no text: got %s, want an error", d)
	}
}
