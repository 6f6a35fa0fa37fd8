package pvesim

import (
	"regexp"
	"time"
)

// EffectKind says what was done.
type EffectKind string

// The effects on record.
const (
	VolumeFreed    EffectKind = "volume-freed"
	ConfigEmptied  EffectKind = "config-emptied"  // the config is "lock: destroyed" and nothing else
	GuestDestroyed EffectKind = "guest-destroyed" // the config is gone and the VMID free
	GuestStopped   EffectKind = "guest-stopped"
	GuestStarted   EffectKind = "guest-started"

	VolumeSnapshotted     EffectKind = "volume-snapshotted"
	VolumeSnapshotDeleted EffectKind = "volume-snapshot-deleted"
	VolumeRolledBack      EffectKind = "volume-rolled-back"
	SnapshotCreated       EffectKind = "snapshot-created"  // complete, and the parent of what follows
	SnapshotDeleted       EffectKind = "snapshot-deleted"  // gone from the config
	GuestRolledBack       EffectKind = "guest-rolled-back" // the config is that of the snapshot

	VolumeDeleted    EffectKind = "volume-deleted" // through the storage's own content, whoever used it
	BackupDeleted    EffectKind = "backup-deleted"
	BackupCreated    EffectKind = "backup-created"
	GuestOverwritten EffectKind = "guest-overwritten" // a restore replaced the config: the machine of before is lost
	GuestRestored    EffectKind = "guest-restored"    // the machine from the backup is there
	StorageRemoved   EffectKind = "storage-removed"   // from the configuration: its data stay
	PoolDestroyed    EffectKind = "pool-destroyed"
	DiskWiped        EffectKind = "disk-wiped"
)

// Effect is one thing that really happened to a guest, a volume, a pool or a
// disk, whoever was told what.
type Effect struct {
	Seq  int        `json:"seq"`
	At   time.Time  `json:"at"` // true time, whatever the node's clock says
	Kind EffectKind `json:"kind"`
	Node string     `json:"node"`
	VMID int        `json:"vmid"`
	// Instance and UUID say which machine it was, of all that had the VMID.
	Instance int    `json:"instance"`
	UUID     string `json:"uuid,omitempty"`
	Name     string `json:"name,omitempty"`
	Volume   string `json:"volume,omitempty"`
	// Snapshot is the name of the snapshot made, deleted or gone back to.
	Snapshot string `json:"snapshot,omitempty"`
	// Device is the disk ("/dev/sdb"), the pool ("zfs:tank", "lvmthin:vg1/data") or the
	// storage it happened to; of a disk, Name is the serial number.
	Device string `json:"device,omitempty"`
	// UPID and Auth name the task; without a task, a synchronous call has only
	// Auth, and a control method neither.
	UPID string `json:"upid,omitempty"`
	Auth string `json:"auth,omitempty"`
	// Tag is that of the request whose task did it.
	Tag string `json:"tag,omitempty"`
}

// Effects returns all effects so far, oldest first. Nothing is ever taken out.
func (s *Sim) Effects() []Effect {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Effect(nil), s.effects...)
}

// EffectsAfter returns those that came after the one with a sequence number, 0
// for all.
func (s *Sim) EffectsAfter(seq int) []Effect {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Effect(nil), s.effects[min(seq, len(s.effects)):]...)
}

// effect puts one on record. A nil task is another administrator's hand.
func (s *Sim) effect(t *task, kind EffectKind, g *guest, volid string) {
	uuid, name := g.identity()
	s.effectOf(t, Effect{Kind: kind, Node: g.node.name, VMID: g.vmid, Instance: g.instance, UUID: uuid, Name: name, Volume: volid})
}

// effectBy puts on record what a synchronous call did.
func (s *Sim) effectBy(auth string, kind EffectKind, g *guest, volid string) {
	uuid, name := g.identity()
	s.effectOf(nil, Effect{
		Kind: kind, Node: g.node.name, VMID: g.vmid, Instance: g.instance, UUID: uuid, Name: name, Volume: volid, Auth: auth,
	})
}

// effectOf puts on record what happened to something other than a guest.
func (s *Sim) effectOf(t *task, e Effect) {
	e.Seq, e.At = len(s.effects)+1, s.now()
	if t != nil {
		if e.Node == "" {
			e.Node = t.node.name
		}
		e.UPID, e.Auth, e.Tag = t.upid, t.user, t.tag
	}
	s.effects = append(s.effects, e)
}

var macPattern = regexp.MustCompile(`(?i)\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b`)
