package proxmox_test

import (
	"strings"
	"testing"

	"writ/adapters/pvesim"
	"writ/domain/op"
)

// An announcement whose request is not of its class, or about something else than
// its target, is refused before anything leaves the process: the request is
// compared with a form that was not made from the same code.
func TestTamperedRequests(t *testing.T) {
	restore := func(r *classRig) *order { return r.restore(pvesim.QEMU) }
	container := func(r *classRig) *order { return r.restore(pvesim.LXC) }
	dump := func(r *classRig) *order { return r.dump(pvesim.QEMU) }
	wipe := func(r *classRig) *order { r.pools(); return r.order(wipeOf(zfsPool, withCleanup)) }
	thin := func(r *classRig) *order { r.pools(); return r.order(wipeOf(thinPool)) }
	more := func(text string) func(*op.Request) {
		return func(q *op.Request) { q.Query = strings.TrimPrefix(q.Query+"&"+text, "&") }
	}
	swap := func(old, next string) func(*op.Request) {
		return func(q *op.Request) {
			q.Path, q.Query = strings.Replace(q.Path, old, next, 1), strings.Replace(q.Query, old, next, 1)
		}
	}
	cases := map[string]struct {
		order  func(*classRig) *order
		tamper func(*op.Request)
	}{
		"restore over another guest":    {restore, swap("vmid=107", "vmid=106")},
		"restore of another backup":     {restore, swap("vzdump-qemu-106", "vzdump-qemu-108")},
		"restore without force":         {restore, swap("force=1", "force=0")},
		"restore on another node":       {restore, swap("pve1", "pve2")},
		"restore that starts the guest": {restore, more("zstart=1")},
		"restore, a storage twice":      {restore, more("storage=local")},
		"restore of a container anew":   {container, swap("restore=1", "restore=0")},
		"backup that stops the guest":   {dump, swap("mode=snapshot", "mode=stop")},
		"backup that removes others":    {dump, swap("remove=0", "remove=1")},
		"backup of another guest":       {dump, swap("vmid=107", "vmid=108")},
		"backup of all":                 {dump, more("zall=1")},
		"deletion of another volume":    {(*classRig).orphan, swap("disk-9", "disk-0")},
		"deletion of a whole storage":   {(*classRig).orphan, func(q *op.Request) { q.Path = "/storage/local-lvm" }},
		"deletion that waits":           {(*classRig).orphan, more("delay=5")},
		"deletion of many backups":      {(*classRig).oldBackup, func(q *op.Request) { q.Path = "/nodes/pve1/storage/local/prunebackups" }},
		"removal of another pool":       {wipe, swap("tank", "rpool")},
		"removal of another kind":       {wipe, swap("/zfs/", "/lvm/")},
		"a boolean as text":             {wipe, swap("cleanup-disks=1", "cleanup-disks=true")},
		"a thin pool of another group":  {thin, swap("vg2", "vg1")},
		"a thin pool without its group": {thin, func(q *op.Request) { q.Query = "" }},
		"another method":                {wipe, func(q *op.Request) { q.Method = "PUT" }},
		"a disk in the place of a volume": {(*classRig).orphan, func(q *op.Request) {
			q.Method, q.Path, q.Query = "PUT", "/nodes/pve1/disks/wipedisk", "disk=%2Fdev%2Fsda"
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newClassRig(t, true)
			o := c.order(r)
			before := o.l.Request
			c.tamper(&o.l.Request)
			if o.l.Request == before {
				t.Fatal("the request is as it was, the case tests nothing")
			}
			asked := len(r.sim.Requests())
			o.play().want(t, "definite", op.EffectNone, "refused before anything was sent")
			if got := r.sim.Requests()[asked:]; len(got) > 0 {
				t.Errorf("requests: got %+v, want none, not even for a token", got)
			}
		})
	}
}
