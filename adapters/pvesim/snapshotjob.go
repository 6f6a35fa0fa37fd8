package pvesim

// snapshotJob is the worker of one snapshot call. It holds a VMID and a name:
// whoever has the VMID when a lock is had is meant.
// (pve-guest-common: PVE::AbstractConfig#snapshot_create, #snapshot_delete,
// #snapshot_rollback)
type snapshotJob struct {
	s       *Sim
	kind    Kind
	vmid    int
	name    string
	comment string
	memory  bool // create with vmstate
	force   bool // delete although storage fails
	start   bool // after a rollback

	undo []drive // volumes that a create has got to
}

// guest loads the config, as every step does anew.
func (j *snapshotJob) guest(t *task) (*guest, string) {
	g := j.s.at(t.node, j.kind, j.vmid)
	if g == nil {
		return nil, noConfig(j.kind, t.node.name, j.vmid)
	}
	return g, ""
}

// section loads the config and the snapshot in it.
func (j *snapshotJob) section(t *task) (*guest, *snapshot, string) {
	g, text := j.guest(t)
	if text != "" {
		return nil, nil, text
	}
	sn := g.conf.snapshot(j.name)
	if sn == nil {
		return nil, nil, noSnapshot(j.name)
	}
	return g, sn, ""
}

func (j *snapshotJob) checkLock(g *guest) string {
	if lock := g.conf.values["lock"]; lock != "" {
		return j.kind.word() + " is locked (" + lock + ")"
	}
	return ""
}

func (j *snapshotJob) write(t *task) string { return unwritable(t.node, j.kind, j.vmid, t.pid) }

// locked puts one step under the config's flock.
func (j *snapshotJob) locked(name string, step func(*task) string) []stage {
	return j.s.locked(StageLock, j.kind, j.vmid, act(name, 0, step))
}

// effect puts one on record with the snapshot's name.
func (j *snapshotJob) effect(t *task, kind EffectKind, g *guest, volid string) {
	j.s.effect(t, kind, g, volid)
	j.s.nameSnapshot(j.name)
}

// migrationLock is what replication and migration take too; it is kept until
// the worker ends.
func (j *snapshotJob) migrationLock(failed func(why string) string) stage {
	return j.s.flockStage(StageMigration, migration, j.vmid, failed)
}

// migration stands for the kind of guest in the key of its lock file, which VMs
// and containers share.
const migration Kind = "migration"

func migrationPath(vmid int) string { return "/var/lock/pve-manager/pve-migrate-" + itoa(vmid) }

// HoldMigrationLock takes the lock that a migration or a replication of the
// guest holds on node, waiting behind nobody: it reports false if somebody has
// it. Release it with the returned function.
func (s *Sim) HoldMigrationLock(node string, vmid int) (release func(), ok bool) {
	return s.HoldConfigLock(node, migration, vmid)
}
