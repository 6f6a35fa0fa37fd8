package op

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A PlanKind is what kind of thing an item of a plan is.
type PlanKind string

// The kinds of things that ops take away, stop or leave.
const (
	PlanConfig      PlanKind = "config"       // a guest's configuration
	PlanPool        PlanKind = "disk-pool"    // a pool on a node's disks
	PlanVolume      PlanKind = "volume"       // a disk, or a file on a storage
	PlanContent     PlanKind = "content"      // what is on a volume, which itself stays
	PlanSnapshot    PlanKind = "snapshot"     // a snapshot of a guest
	PlanBackup      PlanKind = "backup"       // a backup on a storage
	PlanReplication PlanKind = "replication"  // a replication job
	PlanBackupJob   PlanKind = "backup-job"   // a guest's place in a backup job
	PlanHA          PlanKind = "ha"           // a guest's place in HA
	PlanMembership  PlanKind = "membership"   // a guest's place in a resource pool
	PlanACL         PlanKind = "acl"          // an entry of the access control list
	PlanClone       PlanKind = "linked-clone" // a volume that stands on another
	PlanDevice      PlanKind = "device"       // a disk that is wiped
	PlanStorage     PlanKind = "storage"      // the definition of a storage
	PlanGuest       PlanKind = "guest"        // a running guest
)

// PlanKinds gives every kind, in the order in which plans list them.
func PlanKinds() []PlanKind {
	return []PlanKind{
		PlanConfig, PlanPool, PlanVolume, PlanContent, PlanSnapshot, PlanBackup, PlanReplication, PlanBackupJob, PlanHA,
		PlanMembership, PlanACL, PlanClone, PlanDevice, PlanStorage, PlanGuest,
	}
}

// A Plan is what an op would do to the host as things stand: what nobody gets
// back, what remains, and what would keep it from running. It is read and never
// acted by; what an op is launched on is its own last look.
type Plan struct {
	Class  Class
	Target Target
	// TakesAway is what is gone once the op has run.
	TakesAway []PlanItem
	// Stops are guests that would not run on as they do.
	Stops []PlanItem
	// Remains is what the op leaves, and whoever loses something would look for:
	// backups first of all.
	Remains []PlanItem
	// Obstacles are what would make the op fail, each with what to do.
	Obstacles []string
	// Unknown is what could not be read, and so is in none of the lists.
	Unknown []PlanGap
}

// A PlanItem is one thing.
type PlanItem struct {
	Kind PlanKind
	Name string
	// Size is in bytes, as it was provisioned; nil if it has none, or none is
	// known. What is used of it is not said: it changes by itself.
	Size *int64
	// Time is when it was made, UNIX seconds by the host's clock, of snapshots
	// and backups; 0 if it is not said.
	Time int64
	// Note says more, for people.
	Note string
	// Users are others that refer to it, such as "qemu/106 scsi1".
	Users []string
}

// A PlanGap is something that could not be read.
type PlanGap struct {
	What string // such as "backups on storage tank"
	Why  string // and what to do
	// TakenAway: it is about what is taken away, so that the plan has no digest.
	TakenAway bool
}

// Sort brings all lists into one order, whatever the order in which the host gave
// its answers, and drops what was said twice.
func (p *Plan) Sort() {
	for _, list := range []*[]PlanItem{&p.TakesAway, &p.Stops, &p.Remains} {
		for i := range *list {
			slices.Sort((*list)[i].Users)
		}
		slices.SortFunc(*list, func(a, b PlanItem) int {
			return cmp.Or(
				cmp.Compare(slices.Index(PlanKinds(), a.Kind), slices.Index(PlanKinds(), b.Kind)),
				comparePlanItems(a, b), strings.Compare(a.Note, b.Note), slices.Compare(a.Users, b.Users),
			)
		})
		*list = slices.CompactFunc(*list, func(a, b PlanItem) bool {
			return comparePlanItems(a, b) == 0 && a.Note == b.Note && slices.Equal(a.Users, b.Users)
		})
	}
	slices.SortFunc(p.Unknown, func(a, b PlanGap) int {
		return cmp.Or(strings.Compare(a.What, b.What), strings.Compare(a.Why, b.Why))
	})
}

// comparePlanItems orders by what a digest is about, as texts and numbers: a kind
// that is added to the list does not change the digests of other plans.
func comparePlanItems(a, b PlanItem) int {
	return cmp.Or(
		strings.Compare(string(a.Kind), string(b.Kind)),
		strings.Compare(a.Name, b.Name), cmp.Compare(a.Time, b.Time), cmp.Compare(sizeOrder(a.Size), sizeOrder(b.Size)),
	)
}

// sizeOrder puts what has no size first.
func sizeOrder(n *int64) int64 {
	if n == nil {
		return -1
	}
	return *n
}

// What the digest of a plan is about. A guest's node is left out: it migrates,
// and the op follows it.
type (
	plannedLoss struct {
		Class     Class         `json:"class"`
		Target    plannedTarget `json:"target"`
		TakesAway []plannedItem `json:"takes_away"`
	}
	plannedTarget struct {
		Node   string `json:"node,omitempty"`
		Guest  *Guest `json:"guest,omitempty"`
		Volume string `json:"volume,omitempty"`
		Pool   *Pool  `json:"pool,omitempty"`
		Disk   string `json:"disk,omitempty"`
	}
	plannedItem struct {
		Kind PlanKind `json:"kind"`
		Name string   `json:"name"`
		Size *int64   `json:"size,omitempty"`
		Time int64    `json:"time,omitzero"`
	}
)

// Digest is the SHA-256 over class, target and what is taken away, and nothing
// else: it changes when more, less or something else would be lost, and not with
// what remains, what is in the way, or what is used of a volume. A plan in which
// something that is taken away could not be read has none: that is an error,
// which says what is missing.
func (p Plan) Digest() (Digest, error) {
	if err := p.checkWhole(); err != nil {
		return Digest{}, err
	}
	text, err := p.canonical()
	if err != nil {
		return Digest{}, fmt.Errorf("make the digest of the plan: %w", err)
	}
	return DigestOf(text), nil
}

// checkWhole refuses a plan that does not know all that is taken away.
func (p Plan) checkWhole() error {
	var missing []string
	for _, gap := range p.Unknown {
		if gap.TakenAway {
			missing = append(missing, gap.What+": "+gap.Why)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return fmt.Errorf("the plan has no digest, as what would be taken away is not all known: %s", strings.Join(missing, "; "))
}

// canonical is the one form in JSON that the digest is made of.
func (p Plan) canonical() ([]byte, error) {
	t := plannedTarget{Node: p.Target.Node, Guest: p.Target.Guest, Volume: p.Target.Volume, Pool: p.Target.Pool, Disk: p.Target.Disk}
	if t.Guest != nil {
		t.Node = ""
	}
	items := slices.Clone(p.TakesAway)
	slices.SortFunc(items, comparePlanItems)
	items = slices.CompactFunc(items, func(a, b PlanItem) bool { return comparePlanItems(a, b) == 0 })
	loss := plannedLoss{Class: p.Class, Target: t, TakesAway: make([]plannedItem, 0, len(items))}
	for _, i := range items {
		loss.TakesAway = append(loss.TakesAway, plannedItem{Kind: i.Kind, Name: i.Name, Size: i.Size, Time: i.Time})
	}
	return Marshal(loss)
}
