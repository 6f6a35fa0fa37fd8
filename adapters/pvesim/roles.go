package pvesim

// privileges of each area, as pve-access-control defines them.
var privileges = map[string][]string{
	"vm": {
		"VM.Allocate", "VM.Audit", "VM.Backup", "VM.Clone", "VM.Config.CDROM", "VM.Config.CPU", "VM.Config.Cloudinit",
		"VM.Config.Disk", "VM.Config.HWType", "VM.Config.Memory", "VM.Config.Network", "VM.Config.Options", "VM.Console",
		"VM.GuestAgent.Audit", "VM.GuestAgent.FileRead", "VM.GuestAgent.FileSystemMgmt", "VM.GuestAgent.FileWrite",
		"VM.GuestAgent.Unrestricted", "VM.Migrate", "VM.PowerMgmt", "VM.Replicate", "VM.Snapshot", "VM.Snapshot.Rollback",
	},
	"sys":       {"Permissions.Modify", "Sys.AccessNetwork", "Sys.Audit", "Sys.Console", "Sys.Incoming", "Sys.Modify", "Sys.PowerMgmt", "Sys.Syslog"},
	"datastore": {"Datastore.Allocate", "Datastore.AllocateSpace", "Datastore.AllocateTemplate", "Datastore.Audit"},
	"sdn":       {"SDN.Allocate", "SDN.Audit", "SDN.Use"},
	"user":      {"Group.Allocate", "Realm.Allocate", "Realm.AllocateUser", "User.Modify"},
	"pool":      {"Pool.Allocate", "Pool.Audit"},
	"mapping":   {"Mapping.Audit", "Mapping.Modify", "Mapping.Use"},
}

// vmConfig are the privileges any one of which lets a config PUT through.
var vmConfig = []string{
	"VM.Config.Disk", "VM.Config.CDROM", "VM.Config.CPU", "VM.Config.Memory", "VM.Config.Network",
	"VM.Config.HWType", "VM.Config.Options", "VM.Config.Cloudinit",
}

type privSet map[string]bool

func privsOf(lists ...[]string) privSet {
	set := privSet{}
	for _, l := range lists {
		for _, p := range l {
			set[p] = true
		}
	}
	return set
}

func without(set privSet, privs ...string) privSet {
	for _, p := range privs {
		delete(set, p)
	}
	return set
}

// builtinRoles are the roles that exist on a fresh installation.
func builtinRoles() map[string]privSet {
	p := privileges
	all := privsOf(p["vm"], p["sys"], p["datastore"], p["sdn"], p["user"], p["pool"], p["mapping"])
	return map[string]privSet{
		"Administrator": all,
		"NoAccess":      {},
		"PVEAdmin": without(privsOf(p["vm"], p["sys"], p["datastore"], p["sdn"], p["user"], p["pool"], p["mapping"]),
			"Permissions.Modify", "Sys.Modify", "Sys.PowerMgmt", "Realm.Allocate", "Mapping.Modify"),
		"PVEAuditor": privsOf([]string{
			"VM.Audit", "VM.GuestAgent.Audit", "Sys.Audit", "Datastore.Audit", "SDN.Audit", "Mapping.Audit", "Pool.Audit",
		}),
		"PVEVMAdmin": privsOf(p["vm"]),
		"PVEVMUser": privsOf([]string{
			"VM.Audit", "VM.Backup", "VM.Config.CDROM", "VM.Config.Cloudinit", "VM.Console", "VM.GuestAgent.Audit", "VM.PowerMgmt",
		}),
		"PVETemplateUser":   privsOf([]string{"VM.Audit", "VM.Clone"}),
		"PVEDatastoreAdmin": privsOf(p["datastore"]),
		"PVEDatastoreUser":  privsOf([]string{"Datastore.AllocateSpace", "Datastore.Audit"}),
		"PVEPoolAdmin":      privsOf(p["pool"]),
		"PVEPoolUser":       privsOf([]string{"Pool.Audit"}),
		"PVESysAdmin":       without(privsOf(p["sys"]), "Permissions.Modify", "Sys.Modify", "Sys.PowerMgmt"),
		"PVEUserAdmin":      privsOf([]string{"Group.Allocate", "Realm.AllocateUser", "User.Modify"}),
	}
}
