package proxmox_test

import (
	"slices"
	"testing"

	"writ/adapters/proxmox"
)

// Each way to destroy something that is not to be overlooked: by what is given,
// and by what name it is shown.
func TestBypassShowsEachPower(t *testing.T) {
	for name, c := range map[string]struct {
		path, role string
		propagate  bool
		want       string
	}{
		// Who may change roles needs no more than one of the cluster's own making.
		"roles":                                      {"/access", "Sys.Modify", false, "roles"},
		"roles, passed on from the root":             {"/", "Sys.Modify", true, "roles"},
		"storages, not what is on them":              {"/storage", "Datastore.Allocate", false, "storages"},
		"storages, and what is on them":              {"/storage", "Datastore.Allocate", true, "volumes"},
		"mapped devices":                             {"/mapping", "Mapping.Modify", true, "devices"},
		"mapped folders alone":                       {"/mapping/dir", "Mapping.Modify", false, "devices"},
		"rights on mappings":                         {"/mapping", "Permissions.Modify", true, "rights"},
		"rights on storages alone, not passed on":    {"/storage", "Permissions.Modify", false, "rights"},
		"one group's users":                          {"/access/groups/admins", "User.Modify", false, "users"},
		"a realm's definition":                       {"/access/realm", "Realm.Allocate", false, "realms"},
		"snapshots of a pool's guests, from the top": {"/pool", "VM.Snapshot", true, "snapshots"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newBypassRig(t)
			r.sim.AddUser("heidi@pve", "")
			r.sim.AddRole("Given", c.role)
			r.sim.Grant(c.path, "heidi@pve", "Given", c.propagate)
			b, err := r.host.Bypass(t.Context(), bypassAt, nil)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(b.Holders, func(h proxmox.Holder) bool { return h.Who == "heidi@pve" })
			if i < 0 {
				t.Fatalf("holders: heidi@pve is not among them; want it to be, by %s", c.want)
			}
			var shown []string
			for _, by := range b.Holders[i].By {
				for _, p := range by.Lets {
					shown = append(shown, p.Name)
				}
			}
			if !slices.Contains(shown, c.want) {
				t.Errorf("powers: got %q, want %s among them", shown, c.want)
			}
		})
	}
}
