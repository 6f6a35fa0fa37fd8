package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"writ/adapters/httpapi"
	"writ/domain/engine"
	"writ/domain/op"
)

// planning makes a site that keeps the intents it was asked to plan.
func planning(t *testing.T, answer func(context.Context, op.Intent) (op.Plan, error)) (*site, *[]op.Intent) {
	t.Helper()
	var asked []op.Intent
	s := newSite(t, func(c *httpapi.Config) {
		c.Plan = func(ctx context.Context, in op.Intent) (op.Plan, error) {
			asked = append(asked, in)
			return answer(ctx, in)
		}
	})
	return s, &asked
}

func emptyPlan(_ context.Context, in op.Intent) (op.Plan, error) {
	return op.Plan{Class: in.Class, Target: in.Target}, nil
}

func TestPlanAsksForWhatTheQuerySays(t *testing.T) {
	yes, no, limit := true, false, 30
	for query, want := range map[string]op.Intent{
		"class=guest-destroy&type=qemu&vmid=105": {
			Class: op.GuestDestroy, Target: op.Target{Guest: &op.Guest{Type: op.QEMU, VMID: 105}},
		},
		"class=guest-destroy&node=pve1&type=lxc&vmid=106&purge=true&force=false": {
			Class: op.GuestDestroy, Target: op.Target{Node: "pve1", Guest: &op.Guest{Type: op.LXC, VMID: 106}}, Params: op.Params{Purge: &yes, Force: &no},
		},
		"class=guest-shutdown&type=qemu&vmid=105&timeout=30": {
			Class: op.GuestShutdown, Target: op.Target{Guest: &op.Guest{Type: op.QEMU, VMID: 105}}, Params: op.Params{Timeout: &limit},
		},
		"class=snapshot-rollback&type=qemu&vmid=105&snapshot=before": {
			Class: op.SnapshotRollback, Target: op.Target{Guest: &op.Guest{Type: op.QEMU, VMID: 105}}, Params: op.Params{Snapshot: "before"},
		},
		"class=restore-overwrite&type=qemu&vmid=105&archive=local:backup/a&storage=tank&unique=true": {
			Class: op.RestoreOverwrite, Target: op.Target{Guest: &op.Guest{Type: op.QEMU, VMID: 105}},
			Params: op.Params{Archive: "local:backup/a", Storage: "tank", Unique: &yes},
		},
		"class=volume-delete&node=pve1&volume=tank:vm-105-disk-1": {
			Class: op.VolumeDelete, Target: op.Target{Node: "pve1", Volume: "tank:vm-105-disk-1"},
		},
		"class=storage-wipe&node=pve1&pool_kind=lvmthin&pool_name=data&pool_volume_group=pve&cleanup_disks=true&cleanup_config=false": {
			Class: op.StorageWipe, Target: op.Target{Node: "pve1", Pool: &op.Pool{Kind: op.LVMThin, Name: "data", VolumeGroup: "pve"}},
			Params: op.Params{CleanupDisks: &yes, CleanupConfig: &no},
		},
		"class=storage-wipe&node=pve1&disk=/dev/sdb": {Class: op.StorageWipe, Target: op.Target{Node: "pve1", Disk: "/dev/sdb"}},
	} {
		t.Run(query, func(t *testing.T) {
			s, asked := planning(t, emptyPlan)
			wantStatus(t, s.do(get("/v1/plan?"+query)), 200)
			if len(*asked) != 1 || !reflect.DeepEqual((*asked)[0], want) {
				t.Errorf("asked for %+v, want %+v", *asked, want)
			}
		})
	}
}

func TestPlanRefusesWhatCannotBeMeant(t *testing.T) {
	const guest = "class=guest-destroy&type=qemu&vmid=105"
	for query, want := range map[string]struct{ location, says string }{
		"":                                                              {"query.class", "required"},
		"class=guest-explode&type=qemu&vmid=105":                        {"query.class", "guest-destroy"},
		guest + "&purg=true":                                            {"query.purg", "unknown"},
		guest + "&purge=yes":                                            {"query.purge", "true"},
		guest + "&purge=":                                               {"query.purge", "leave it out"},
		guest + "&purge=true&purge=false":                               {"query.purge", "2 times"},
		guest + "&snapshot=a":                                           {"query.snapshot", "has no such parameter"},
		guest + "&force=true":                                           {"query.force", "container"},
		guest + "&volume=tank:vm-105-disk-1":                            {"", ""},
		guest + "&node=pve%2F1":                                         {"query.node", ""},
		"class=guest-destroy&type=qemu":                                 {"query.vmid", "0"},
		"class=guest-destroy&vmid=105":                                  {"query.type", "qemu"},
		"class=guest-destroy&type=qemu&vmid=99":                         {"query.vmid", "100"},
		"class=snapshot-delete&type=qemu&vmid=105":                      {"query.snapshot", "missing"},
		"class=volume-delete&volume=tank:vm-105-disk-1":                 {"query.node", ""},
		"class=storage-wipe&node=pve1&pool_kind=zfs&pool_name=..":       {"query.pool_name", ""},
		"class=storage-wipe&node=pve1&pool_kind=lvmthin&pool_name=data": {"query.pool_volume_group", "thin pool"},
	} {
		t.Run(query, func(t *testing.T) {
			s, asked := planning(t, emptyPlan)
			w := s.do(get("/v1/plan?" + query))
			wantStatus(t, w, 422)
			p := problemOf(t, w)
			if len(p.Errors) == 0 || len(*asked) > 0 {
				t.Fatalf("problem %+v after %d plans, want errors after none", p, len(*asked))
			}
			if want.location != "" && (p.Errors[0].Location != want.location || !strings.Contains(p.Errors[0].Message, want.says)) {
				t.Errorf("errors %+v, want %s: … %s", p.Errors, want.location, want.says)
			}
		})
	}
}

func TestPlanIsShownWhole(t *testing.T) {
	size := int64(1 << 30)
	kinds := op.PlanKinds()
	s, _ := planning(t, func(_ context.Context, in op.Intent) (op.Plan, error) {
		p := op.Plan{
			Class: in.Class, Target: op.Target{Node: "pve1", Guest: in.Target.Guest},
			Stops:     []op.PlanItem{{Kind: op.PlanGuest, Name: "qemu/105"}},
			Remains:   []op.PlanItem{{Kind: op.PlanBackup, Name: "local:backup/a", Size: &size, Time: 1763888400, Note: "protected"}},
			Obstacles: []string{"lock: …"},
			Unknown:   []op.PlanGap{{What: "backups on storage tank", Why: "403"}},
		}
		for _, k := range kinds { // each is one that the document announces
			p.TakesAway = append(p.TakesAway, op.PlanItem{Kind: k, Name: string(k), Users: []string{"qemu/106 scsi1"}})
		}
		return p, nil
	})
	w := s.do(get("/v1/plan?class=guest-destroy&type=qemu&vmid=105"))
	wantStatus(t, w, 200)
	p := decode[httpapi.Plan](t, w)
	if len(p.TakesAway) != len(kinds) || len(p.Digest) != 64 || p.Target.Node != "pve1" || p.Remains[0].Made.Unix() != 1763888400 || *p.Remains[0].Size != size ||
		p.Obstacles[0] != "lock: …" || p.Unknown[0].TakenAway || p.Stops[0].Name != "qemu/105" {
		t.Errorf("got %+v", p)
	}
	s, _ = planning(t, func(context.Context, op.Intent) (op.Plan, error) {
		return op.Plan{Class: op.GuestDestroy, Unknown: []op.PlanGap{{What: "the pool", Why: "403", TakenAway: true}}}, nil
	})
	w = s.do(get("/v1/plan?class=guest-destroy&type=qemu&vmid=105"))
	wantStatus(t, w, 200)
	if p := decode[httpapi.Plan](t, w); p.Digest != "" || !p.Unknown[0].TakenAway {
		t.Errorf("got %+v, want a plan without a digest", p)
	}
}

func TestPlanThatCannotBeMade(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		status int
		reason string
		says   string
	}{
		"the host is away": {errors.New("plan: GET /x: no usable answer"), 503, "unavailable", "no usable answer"},
		"no executor":      {fmt.Errorf("plan: %w for disk /dev/sdb", engine.ErrNoExecutor), 422, "no-executor", "/dev/sdb"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := planning(t, func(context.Context, op.Intent) (op.Plan, error) { return op.Plan{}, c.err })
			w := s.do(get("/v1/plan?class=guest-destroy&type=qemu&vmid=105"))
			wantStatus(t, w, c.status)
			if p := problemOf(t, w); p.Reason != c.reason || !strings.Contains(p.Detail, c.says) {
				t.Errorf("problem %+v, want %s that says %s", p, c.reason, c.says)
			}
		})
	}
}

// A plan asks the host about everything: not many at a time.
func TestPlansAreBounded(t *testing.T) {
	began, end := make(chan struct{}), make(chan struct{})
	s := newSite(t, func(c *httpapi.Config) {
		c.Plan = func(context.Context, op.Intent) (op.Plan, error) {
			began <- struct{}{}
			<-end
			return op.Plan{Class: op.GuestStop}, nil
		}
	})
	const path = "/v1/plan?class=guest-stop&type=qemu&vmid=105"
	done := make(chan int, 2)
	for range 2 {
		go func() { done <- s.do(get(path)).Code }()
		<-began
	}
	w := s.do(get(path))
	wantStatus(t, w, 503)
	if p := problemOf(t, w); p.Reason != "busy" || w.Header().Get("Retry-After") == "" {
		t.Errorf("problem %+v, want one that says when to ask again", p)
	}
	close(end)
	for range 2 {
		if got := <-done; got != 200 {
			t.Errorf("status %d, want 200", got)
		}
	}
}

func TestPlanTakesTheScopeRead(t *testing.T) {
	const path = "/v1/plan?class=guest-stop&type=qemu&vmid=105"
	for scope, want := range map[httpapi.Scope]int{
		httpapi.Submit: 403, httpapi.Resolve: 403, httpapi.Void: 403, httpapi.Backup: 403, httpapi.Read: 200,
	} {
		s := newSite(t, func(c *httpapi.Config) { c.Plan, c.Tokens = emptyPlan, tokenWith(scope) })
		c := get(path)
		c.header = map[string]string{"Authorization": "Bearer " + token}
		wantStatus(t, s.do(c), want)
		wantStatus(t, s.do(get(path)), 401)
	}
}
