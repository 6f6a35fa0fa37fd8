package proxmox

import (
	"cmp"
	"slices"
	"strings"

	"writ/domain/op"
)

// A Reach is on what a policy lets ops of a class act.
type Reach struct {
	// Guests: on guests anywhere. Otherwise on those in Pools alone.
	Guests bool
	Pools  []string
	// Storages are those on which volumes may be deleted.
	Storages []string
}

// A Need is a privilege that the service must have on an object of the host's
// access control.
type Need struct {
	// Launch: the service user must have it, to hand it on to the tokens of
	// attempts or to fence. Otherwise it is the configured API token.
	Launch    bool   `json:"launch,omitzero"`
	Object    string `json:"object"`
	Privilege string `json:"privilege"`
	PassedOn  bool   `json:"passed_on"` // to what is below the object, too
	// Must: without it ops of the classes can't run. Otherwise they can, and
	// more of them have to be settled by people, or some are refused.
	Must    bool       `json:"must"`
	Why     string     `json:"why"`
	Classes []op.Class `json:"classes"`
	// Instead is another privilege that is as good; empty if there is none.
	Instead string `json:"instead,omitempty"`

	// request: the token of an attempt needs it, for its own request.
	request bool
}

// needs collects what is needed, each thing once.
type needs struct {
	own  bool // attempts have tokens of their own
	list []Need
}

// Needs gives what the service needs for the classes that a policy allows, and
// nothing beside, by the privileges that the host's calls ask for and by those
// without which it hides what has to be looked at.
func Needs(mode Mode, classes map[op.Class]Reach) []Need {
	n := &needs{own: mode == ModeAttempt}
	n.look("/", "Sys.Audit", true, "see quorum, clocks and the tasks of attempts", "")
	n.mayLook("/", "Sys.Syslog", false, "find tasks that never got into a list", "")
	n.look("/vms", "VM.Audit", true, "see all guests, and what they refer to", "")
	n.look("/storage", "Datastore.Audit", true, "see all storages and volumes", "Datastore.Allocate")
	n.mayLook("/pool", "Pool.Audit", true, "see in which pool a guest is, without which no rule grants it by pool", "")
	for _, class := range op.Classes() {
		reach, allowed := classes[class]
		if !allowed {
			continue
		}
		n.see(class)
		n.act(class, reach)
		if len(reach.Pools) > 0 {
			n.look("/pool", "Pool.Audit", true, "see in which pool a guest is, without which no rule grants it by pool", "", class)
		}
	}
	slices.SortStableFunc(n.list, func(x, y Need) int {
		return cmp.Or(compareBool(x.Launch, y.Launch), strings.Compare(x.Object, y.Object), -compareBool(x.PassedOn, y.PassedOn), strings.Compare(x.Privilege, y.Privilege))
	})
	return n.list
}

func compareBool(x, y bool) int {
	switch {
	case x == y:
		return 0
	case y:
		return -1
	}
	return 1
}

// PlanNeeds gives what the configured API token needs beyond Needs for orders that
// expect a plan, of the classes that a policy allows: without it such orders don't
// run, and others do. What a plan of the other classes takes Needs asks for, too.
// It is not asked for unasked, as who has it could delete by it.
func PlanNeeds(classes map[op.Class]Reach) []Need {
	n := &needs{}
	if _, allowed := classes[op.StorageWipe]; allowed {
		n.mayLook("/storage", "Datastore.Allocate", true, "see all that lies on a pool", "", op.StorageWipe)
	}
	if _, allowed := classes[op.SnapshotDelete]; allowed {
		n.mayLook("/vms", "VM.Config.Disk", true, "see how large the memory in a snapshot is", "", op.SnapshotDelete)
	}
	return n.list
}

// see is what must be seen for a class beside what all need.
func (n *needs) see(class op.Class) {
	const (
		disks   = "see whether the disks of a guest are there"
		backups = "see backups"
	)
	switch class {
	case op.GuestDestroy, op.SnapshotRollback, op.VolumeDelete:
		n.mayLook("/vms", "VM.Config.Disk", true, disks, "", class)
	case op.RestoreOverwrite:
		n.mayLook("/vms", "VM.Config.Disk", true, disks, "", class)
		n.look("/vms", "VM.Backup", true, backups, "", class)
		n.look("/storage", "Datastore.AllocateSpace", true, backups, "Datastore.Allocate", class)
	case op.BackupDelete:
		n.look("/vms", "VM.Backup", true, backups, "", class)
		n.look("/storage", "Datastore.AllocateSpace", true, backups, "Datastore.Allocate", class)
	case op.BackupCreate:
		n.mayLook("/vms", "VM.Backup", true, backups, "", class)
		n.mayLook("/storage", "Datastore.AllocateSpace", true, backups, "Datastore.Allocate", class)
	case op.StorageWipe, op.SnapshotDelete, op.GuestStop, op.GuestShutdown, op.GuestReboot, op.GuestStart, op.SnapshotCreate:
	}
}

// act is what requests of a class need. It says the same as the rights of its
// conduct, for all targets in reach.
func (n *needs) act(class op.Class, reach Reach) {
	switch class {
	case op.GuestDestroy:
		n.onGuests(class, reach, "VM.Allocate", "VM.Config.Options")
	case op.RestoreOverwrite:
		n.onGuests(class, reach, "VM.Allocate", "VM.Config.Options")
		n.onStorages(class, nil, "Datastore.AllocateSpace")
		n.may(asked("/vms", "VM.Backup", true, "restore the backup of another guest"), class)
		n.handedOn("/sdn", "SDN.Use", "restore guests with network interfaces", class)
		n.handedOn("/mapping", "Mapping.Use", "restore guests with mapped devices", class)
	case op.SnapshotRollback:
		n.onGuests(class, reach, "VM.Snapshot.Rollback")
	case op.SnapshotDelete, op.SnapshotCreate:
		n.onGuests(class, reach, "VM.Snapshot")
	case op.GuestStop, op.GuestShutdown, op.GuestReboot, op.GuestStart:
		n.onGuests(class, reach, "VM.PowerMgmt")
	case op.VolumeDelete:
		n.onStorages(class, reach.Storages, "Datastore.Allocate")
	case op.BackupDelete:
		n.onStorages(class, reach.Storages, "Datastore.AllocateSpace")
		n.onGuests(class, Reach{Guests: true}, "VM.Backup")
		for _, object := range storageObjects(reach.Storages) {
			n.may(asked(object, "Datastore.Allocate", len(reach.Storages) == 0, "delete backups whose names tell no guest"), class)
		}
	case op.BackupCreate:
		n.onGuests(class, reach, "VM.Backup")
		n.onStorages(class, nil, "Datastore.AllocateSpace")
	case op.StorageWipe:
		n.must(asked("/", "Sys.Modify", false, "the request"), class)
		n.may(asked("/storage", "Datastore.Allocate", false, "remove the storages on a pool with it"), class)
		if n.own {
			n.must(need("/", "Permissions.Modify", false, "hand rights on, which takes this on /"), class)
			n.may(need("/storage", "Permissions.Modify", false, "hand rights on, which takes this on /storage"), class)
		}
	}
}

func need(object, privilege string, passedOn bool, why string) Need {
	return Need{Object: object, Privilege: privilege, PassedOn: passedOn, Why: why}
}

// asked is a need of the request itself.
func asked(object, privilege string, passedOn bool, why string) Need {
	x := need(object, privilege, passedOn, why)
	x.request = true
	return x
}

// onGuests is for requests on guests. Rights on a guest can only be handed on by
// who may allocate it (pve-access-control RPCEnvironment.pm#check_perm_modify).
func (n *needs) onGuests(class op.Class, reach Reach, privileges ...string) {
	objects, passedOn := []string{"/vms"}, true
	if !reach.Guests {
		objects, passedOn = nil, false
		for _, p := range reach.Pools {
			objects = append(objects, "/pool/"+p)
		}
	}
	for _, object := range objects {
		for _, p := range privileges {
			x := asked(object, p, passedOn, "the request")
			if p == "VM.Config.Options" {
				x = need(object, p, passedOn, "protect a guest against a late request")
			}
			n.must(x, class)
		}
		if n.own {
			x := need(object, "VM.Allocate", passedOn, "hand rights on guests on")
			x.Instead = "Permissions.Modify"
			n.must(x, class)
		}
	}
}

func (n *needs) onStorages(class op.Class, storages []string, privilege string) {
	passedOn := len(storages) == 0
	for _, object := range storageObjects(storages) {
		n.must(asked(object, privilege, passedOn, "the request"), class)
		if n.own {
			x := need(object, "Datastore.Allocate", passedOn, "hand rights on storages on")
			x.Instead = "Permissions.Modify"
			n.must(x, class)
		}
	}
}

// storageObjects are those of some storages, or the one above all of them.
func storageObjects(storages []string) []string {
	if len(storages) == 0 {
		return []string{"/storage"}
	}
	var objects []string
	for _, s := range storages {
		objects = append(objects, "/storage/"+s)
	}
	return objects
}

// handedOn is for rights on objects on which nothing but Permissions.Modify lets
// anybody hand them on.
func (n *needs) handedOn(object, privilege, why string, class op.Class) {
	n.may(asked(object, privilege, true, why), class)
	if n.own {
		n.may(need(object, "Permissions.Modify", true, why+": hand the right on"), class)
	}
}

func (n *needs) must(x Need, class op.Class) {
	x.Must, x.Launch = true, n.own
	n.add(x, class)
}

func (n *needs) may(x Need, class op.Class) {
	x.Launch = n.own
	n.add(x, class)
}

func (n *needs) look(object, privilege string, passedOn bool, why, instead string, classes ...op.Class) {
	x := need(object, privilege, passedOn, why)
	x.Must, x.Instead = true, instead
	n.add(x, classes...)
}

func (n *needs) mayLook(object, privilege string, passedOn bool, why, instead string, classes ...op.Class) {
	x := need(object, privilege, passedOn, why)
	x.Instead = instead
	n.add(x, classes...)
}

// add keeps one need of each privilege on an object: the stricter of two.
func (n *needs) add(x Need, classes ...op.Class) {
	i := slices.IndexFunc(n.list, func(y Need) bool {
		return x.Launch == y.Launch && x.Object == y.Object && x.Privilege == y.Privilege && x.PassedOn == y.PassedOn
	})
	if i < 0 {
		x.Classes = append([]op.Class{}, classes...)
		n.list = append(n.list, x)
		return
	}
	y := &n.list[i]
	y.request = y.request || x.request
	switch {
	case x.Must && !y.Must:
		y.Must, y.Why, y.Instead = true, x.Why, x.Instead
	case x.Must == y.Must && x.Instead == "":
		y.Instead = "" // one of the two takes nothing else
	}
	for _, c := range classes {
		if !slices.Contains(y.Classes, c) {
			y.Classes = append(y.Classes, c)
		}
	}
}

// AttemptRoles gives the roles that tokens of attempts get, each with the one
// privilege that it must hold, for the classes that a policy allows. None without
// a service user.
func (h *Host) AttemptRoles(classes map[op.Class]Reach) map[string]string {
	roles := make(map[string]string)
	if h.service == nil {
		return roles
	}
	by := subject{role: h.service.role}
	for _, x := range Needs(ModeAttempt, classes) {
		if x.request {
			roles[by.roleFor(x.Privilege)] = x.Privilege
		}
	}
	return roles
}

// Concerned gives which of some classes need it.
func (x Need) Concerned(classes map[op.Class]Reach) []op.Class {
	var all []op.Class
	for c := range classes {
		if len(x.Classes) == 0 || slices.Contains(x.Classes, c) {
			all = append(all, c)
		}
	}
	return all
}
