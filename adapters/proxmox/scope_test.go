package proxmox_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"writ/adapters/pvesim"
	"writ/domain/gate"
	"writ/domain/op"
)

// The list of all guests is believed for one thing, which node to ask: whatever else it
// says of a guest, its configuration and the list of the pool's members decide.
func TestTheListOfAllGuestsDecidesNothing(t *testing.T) {
	lies := map[string]string{
		"name": `"prod-1"`, "tags": `"disposable;prod"`, "status": `"running"`, "template": "1", "lock": `"backup"`, "hastate": `"started"`,
		"storage": `"tank"`, "disk": "1", "maxdisk": "1",
	}
	for _, typ := range []op.GuestType{op.QEMU, op.LXC} {
		path := fmt.Sprintf("GET /nodes/pve1/%s/107/config", typ)
		facts := func(row string) op.Facts {
			r := newRawHost(t).on(path, data(configFile(t, string(typ)+"-full"))).on(clusterNow, data(quorate)).on(resources, data("["+row+"]"))
			f, err := r.host().Facts(t.Context(), target(typ, 107))
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
		honest := fmt.Sprintf(`{"id":"%s/107","type":%q,"vmid":107,"node":"pve1"}`, typ, typ)
		want := facts(honest)
		if !want.Found || want.Name == "" || len(want.Tags) == 0 || len(want.Storages) == 0 {
			t.Fatalf("%s: got %+v, want a guest with name, tags and storages to lie about", typ, want)
		}
		for member, lie := range lies {
			if got := facts(strings.TrimSuffix(honest, "}") + fmt.Sprintf(`,%q:%s}`, member, lie)); !reflect.DeepEqual(got, want) {
				t.Errorf("%s, %s in the list is %s: got %+v, want %+v", typ, member, lie, got, want)
			}
		}
	}
}

// listed is the row of guest 107 in the list of all guests, as a client gets it.
func (r *classRig) listed() map[string]any {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.conf.BaseURL+"/api2/json/cluster/resources?type=vm", nil)
	r.add(err)
	req.Header.Set("Authorization", "PVEAPIToken="+token+"="+secret)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	resp, err := client.Do(req)
	r.add(err)
	defer resp.Body.Close()
	var list struct {
		Data []map[string]any `json:"data"`
	}
	r.add(json.NewDecoder(resp.Body).Decode(&list))
	for _, row := range list.Data {
		if row["vmid"] == any(float64(107)) {
			return row
		}
	}
	return nil
}

// broadcast lets the cluster tell all its nodes how its guests are: from then on the list
// shows what was so at that time.
func (r *classRig) broadcast() { r.shift.Add(int64(11 * time.Second)) }

// A VMID that was given to another guest: the list shows the one before for up to ten
// seconds, and the scope is that of the one that is there, of every class that a rule can
// be for.
func TestScopeIsThatOfTheGuestThatIsThere(t *testing.T) {
	test := func(g *pvesim.Guest) { g.Name, g.Tags, g.Pool = "test-1", []string{"disposable"}, "team" }
	prod := func(g *pvesim.Guest) { g.Name, g.Tags, g.Disks = "prod-1", []string{"prod"}, []string{"local:1"} }
	rules := map[string]struct {
		rule gate.BenignRule
		says string
	}{
		"granted by pool":                {gate.BenignRule{On: gate.On{Pools: []string{"team"}}}, "it is in no pool"},
		"granted by storage":             {gate.BenignRule{On: gate.On{Storages: []string{"local-lvm"}}}, `storage "local" is not in`},
		"granted by VMID, only by tag":   {gate.BenignRule{On: gate.On{VMIDs: []string{"107"}}, Only: gate.Only{Tags: []string{"disposable"}}}, `it carries "prod"`},
		"granted by VMID, only by name":  {gate.BenignRule{On: gate.On{VMIDs: []string{"107"}}, Only: gate.Only{Names: []string{"test-*"}}}, `its name "prod-1" matches none`},
		"granted by VMID, only by node":  {gate.BenignRule{On: gate.On{VMIDs: []string{"107"}}, Only: gate.Only{Nodes: []string{"pve1"}}}, `it is on "pve2"`},
		"granted by pool, only by names": {gate.BenignRule{On: gate.On{Pools: []string{"team"}}, Only: gate.Only{Names: []string{"test-1"}}}, "it is in no pool"},
	}
	for name, tt := range rules {
		for _, kind := range kinds {
			t.Run(fmt.Sprintf("%s, %s", name, kind), func(t *testing.T) {
				r := newClassRig(t, true)
				r.rig.guest(kind, test)
				r.broadcast()
				r.wantScope(tt.rule, kind, gate.Benign, "")

				r.sim.DestroyGuest(107)
				r.rig.guest(kind, prod)
				r.add(r.sim.MoveGuest(107, "pve2"))
				if row := r.listed(); row["name"] != "test-1" {
					t.Fatalf("the list shows %v, want the guest of before: else this test shows nothing", row)
				}
				r.wantScope(tt.rule, kind, gate.NotPermitted, tt.says)

				// And the other way round: what the list shows too late takes nothing away.
				r.broadcast()
				r.sim.DestroyGuest(107)
				r.rig.guest(kind, test)
				if row := r.listed(); row["name"] != "prod-1" {
					t.Fatalf("the list shows %v, want the guest of before", row)
				}
				r.wantScope(tt.rule, kind, gate.Benign, "")
			})
		}
	}
}

// wantScope asks the gate about guest 107 with the facts as they are now.
func (r *classRig) wantScope(rule gate.BenignRule, kind pvesim.Kind, want gate.Reason, says string) {
	r.t.Helper()
	rule.Callers = []string{"ci"}
	for _, c := range op.Classes() {
		if c.Benign() {
			rule.Classes = append(rule.Classes, c)
		}
	}
	p, err := gate.Compile(gate.PolicyDocument{Version: 1, Benign: []gate.BenignRule{rule}}, 1)
	r.add(err)
	for _, class := range rule.Classes {
		in := guestIntent(class, kind)
		switch class { //nolint:exhaustive // the others have no parameter that they must have
		case op.SnapshotCreate:
			in.Params.Snapshot = next
		case op.BackupCreate:
			in.Params.Storage = "local"
		}
		site := gate.Site{Agent: "lab", Ledger: "3f9c2ab41d6e4a70"}
		auth, d := gate.Authenticate(time.Now(), p, site, gate.Submission{Intent: in, Caller: "ci"})
		if auth == nil {
			r.t.Fatalf("%s: %s: %s", class, d.Reason, d.Detail)
		}
		facts, err := r.host.Facts(r.t.Context(), in.Target)
		r.add(err)
		if d = gate.Permit(time.Now(), p, site, auth, facts); d.Reason != want || !strings.Contains(d.Detail, says) {
			r.t.Errorf("%s by %+v: got %s (%s), want %s that says %q", class, facts, d.Reason, d.Detail, want, says)
		}
	}
}

// A guest that leaves its pool, or comes into one, is at once what the pool says.
func TestScopeByPoolIsThatOfNow(t *testing.T) {
	rule := gate.BenignRule{On: gate.On{Pools: []string{"team"}}}
	for _, kind := range kinds {
		r := newClassRig(t, true)
		r.sim.AddPool("other", "")
		r.rig.guest(kind)
		r.wantScope(rule, kind, gate.NotPermitted, "it is in no pool")
		r.sim.SetPool(107, "team")
		r.wantScope(rule, kind, gate.Benign, "by pool team")
		r.sim.SetPool(107, "other")
		r.wantScope(rule, kind, gate.NotPermitted, `pool "other" is not in "team"`)
	}
}

// The facts about what is no guest come from its own name and from the storages that are
// configured, at once; the list of all resources is not even asked.
func TestScopeOfVolumesAndPools(t *testing.T) {
	r := newClassRig(t, true)
	all := r.others()
	want := map[op.Class][]string{op.VolumeDelete: {"local-lvm"}, op.BackupDelete: {"local"}}
	check := func(when string, storages func(in op.Intent) []string) {
		t.Helper()
		asked := len(r.sim.Requests())
		for _, in := range all {
			f, err := r.host.Facts(t.Context(), in.Target)
			if err != nil {
				t.Fatal(err)
			}
			if got := f.Storages; !f.Found || f.Node != "pve1" || f.Name != "" || f.Pool != "" || !slices.Equal(got, storages(in)) {
				t.Errorf("%s, %s: got %+v, want it on pve1, known as %v", when, in.Target, f, storages(in))
			}
		}
		for _, q := range r.sim.Requests()[asked:] {
			if strings.Contains(q.Path, "/cluster/resources") {
				t.Errorf("%s: asked %s, which is up to ten seconds late", when, q.Path)
			}
		}
	}
	bare := func(in op.Intent) []string {
		if in.Target.Pool != nil {
			return []string{in.Target.Pool.Name}
		}
		return want[in.Class]
	}
	check("without a storage on a pool", bare)
	for _, p := range allPools {
		r.sim.AddStorage(storageOn[p])
	}
	check("with one on each", func(in op.Intent) []string {
		if p := in.Target.Pool; p != nil {
			return []string{storageOn[*p].ID, p.Name}
		}
		return want[in.Class]
	})
	for _, p := range allPools {
		r.sim.RemoveStorage(storageOn[p].ID)
	}
	check("without them again", bare)
}
