package proxmox

import (
	"maps"
	"slices"
	"strings"
)

// A Power is something that somebody may do to what guests are made of, without
// a writ.
type Power struct {
	Name       string   `json:"power"`      // such as destroy
	Privileges []string `json:"privileges"` // by which, any of them; none for root@pam
	What       string   `json:"what"`       // in words
	// On are the objects: /vms/* is every guest that is not named beside it.
	// Except are those of which something else is said, that takes the power away.
	On     []string `json:"on"`
	Except []string `json:"except,omitempty"`
}

// A powerKind is one row of the table of what destroys.
type powerKind struct {
	name, what string
	area       area
	privileges []string // any of them is enough
	// also must be held on some object of the area alsoOn; empty if nothing else
	// is needed.
	also   string
	alsoOn area
}

// An area is a part of the host's tree of objects.
type area struct {
	// broad is the object that stands for all others of which nothing is said;
	// below is what the names of those begin with, of which something is.
	broad, below string
	// wide says that who has it on broad has it on all that is below, whatever
	// is said there: such as who may change what is said.
	wide bool
}

var (
	theGuests   = area{broad: "/vms/*", below: "/vms/"}
	theStorages = area{broad: "/storage/*", below: "/storage/"}
	theNodes    = area{broad: "/nodes/*", below: "/nodes/"}
	theUsers    = area{broad: "/access/groups", below: "/access/groups/", wide: true}
	theRealms   = area{broad: "/access/realm"}
	theAccess   = area{broad: "/access"}
	// theList is the list of storages, beside what lies on them.
	theList     = area{broad: "/storage"}
	theMappings = area{broad: "/mapping/*", below: "/mapping/"}
	theRoot     = area{broad: "/"}
	everywhere  = area{broad: "/", below: "/", wide: true}
)

// powerKinds is what destroys, by the privileges that the host's calls ask for.
// What a call asks for stands in qemu-server API2/Qemu.pm and QemuServer.pm
// #try_deallocate_drive, pve-storage API2/Storage/{Config,Content}.pm and
// API2/Disks/*.pm, pve-access-control API2/{ACL,Role,User,Domains}.pm. That who may change a user may
// make a token of it, of root@pam too, is API2/User.pm#generate_token.
func powerKinds() []powerKind {
	return []powerKind{
		{name: "destroy", what: "destroy guests, and restore over them", area: theGuests, privileges: []string{"VM.Allocate"}},
		{
			name: "restore", what: "put guests back to a backup of theirs, and delete their backups", area: theGuests,
			privileges: []string{"VM.Backup"}, also: "Datastore.AllocateSpace", alsoOn: theStorages,
		},
		{name: "disks", what: "take disks off guests, and delete those on storages where they may allocate space", area: theGuests, privileges: []string{"VM.Config.Disk"}},
		{name: "snapshots", what: "roll guests back, or delete their snapshots", area: theGuests, privileges: []string{"VM.Snapshot", "VM.Snapshot.Rollback"}},
		{name: "migrate", what: "move virtual machines to another cluster and delete them here", area: theGuests, privileges: []string{"VM.Migrate"}},
		{
			name: "inside", what: "run commands or write files inside virtual machines, by their agent", area: theGuests,
			privileges: []string{"VM.GuestAgent.FileWrite", "VM.GuestAgent.Unrestricted", "VM.Monitor"},
		},
		{name: "volumes", what: "delete volumes and backups, whosoever they are", area: theStorages, privileges: []string{"Datastore.Allocate"}},
		{
			name: "storages", what: "change storages, such as how many backups are kept there, and take them out of the configuration", area: theList,
			privileges: []string{"Datastore.Allocate"},
		},
		{name: "pools", what: "remove ZFS pools, volume groups, thin pools, directories and Ceph pools of nodes", area: theRoot, privileges: []string{"Sys.Modify"}},
		{name: "devices", what: "let guests have devices and folders of nodes, with what is on them", area: theMappings, privileges: []string{"Mapping.Modify"}},
		{name: "console", what: "open a console of nodes, where root's password opens everything", area: theNodes, privileges: []string{"Sys.Console"}},
		{name: "rights", what: "give themselves and others every role there", area: everywhere, privileges: []string{"Permissions.Modify"}},
		{name: "roles", what: "put every privilege into roles of the cluster's own making, those that they have among them", area: theAccess, privileges: []string{"Sys.Modify"}},
		{name: "users", what: "act as others, by API tokens made for them; on /access/groups as root@pam too", area: theUsers, privileges: []string{"User.Modify"}},
		{name: "realms", what: "change by what a realm knows its users, and so act as any of them", area: theRealms, privileges: []string{"Realm.Allocate"}},
	}
}

// A GrantedPowers is what one entry of the access control list lets somebody do.
type GrantedPowers struct {
	Grant
	Lets []Power `json:"lets"`
}

// sameAs tells whether another privilege lets them do the same.
func (p Power) sameAs(q Power) bool {
	return p.Name == q.Name && slices.Equal(p.On, q.On) && slices.Equal(p.Except, q.Except)
}

// powersOf gives what somebody may do, by the entries that let them.
func (a *Access) powersOf(who string) []GrantedPowers {
	by := make(map[Grant][]Power)
	for _, k := range powerKinds() {
		if k.also != "" && len(a.reach(who, k.also, k.alsoOn)) == 0 {
			continue
		}
		for _, privilege := range k.privileges {
			for g, p := range a.reach(who, privilege, k.area) {
				p.Name, p.Privileges, p.What = k.name, []string{privilege}, k.what
				if last := len(by[g]) - 1; last >= 0 && by[g][last].sameAs(p) {
					by[g][last].Privileges = append(by[g][last].Privileges, privilege)
					continue
				}
				by[g] = append(by[g], p)
			}
		}
	}
	var all []GrantedPowers
	for _, g := range slices.SortedFunc(maps.Keys(by), compareGrants) {
		all = append(all, GrantedPowers{Grant: g, Lets: by[g]})
	}
	return all
}

// reach gives on which objects of an area somebody has a privilege, by the
// entries that give it.
func (a *Access) reach(who, privilege string, in area) map[Grant]Power {
	powers := make(map[Grant]Power)
	wide := a.Privileges(who, in.broad)[privilege].By
	for _, g := range wide {
		powers[g] = Power{On: []string{in.broad}}
	}
	var except []string
	for _, object := range a.objectsIn(in) {
		here, held := a.Privileges(who, object)[privilege]
		if !held {
			except = append(except, object)
			continue
		}
		for _, g := range here.By {
			if p := powers[g]; !slices.Contains(wide, g) && !slices.ContainsFunc(p.On, func(above string) bool { return isBelow(object, above) }) {
				p.On = append(p.On, object)
				powers[g] = p
			}
		}
	}
	if in.wide {
		return powers
	}
	for _, g := range wide {
		p := powers[g]
		p.Except = except
		powers[g] = p
	}
	return powers
}

// objectsIn are those of an area of which something is said. Where who may
// change rights counts, some of which nothing need be said count, too.
func (a *Access) objectsIn(in area) []string {
	if in.below == "" {
		return nil
	}
	all := a.objects()
	if in == everywhere {
		all = append(all, "/access", "/nodes", "/pool", "/storage", "/vms")
		all = slices.DeleteFunc(all, func(o string) bool {
			return o == "/" || o == "/sdn" || strings.HasPrefix(o, "/sdn/")
		})
	}
	all = slices.DeleteFunc(all, func(o string) bool { return o == in.broad || !strings.HasPrefix(o, in.below) })
	slices.Sort(all)
	return slices.Compact(all)
}

func isBelow(object, above string) bool {
	return above == "/" || strings.HasPrefix(object, above+"/")
}
