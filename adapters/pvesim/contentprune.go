package pvesim

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// mark is what pruning would do with one backup.
type mark struct {
	v    *volume
	kind string // qemu or lxc
	mark string // keep, remove, protected or renamed
}

// prunable marks the backups of a storage as one call of prunebackups would,
// or says why it cannot.
// (pve-storage: PVE::Storage::Plugin#prune_backups, PVE::Storage#prune_mark_backup_group)
func (s *Sim) prunable(n *node, store, keep string, vmid int, kind string) ([]mark, string) {
	st := s.stores[store]
	switch {
	case st == nil:
		return nil, "storage '" + store + "' does not exist"
	case !slices.Contains(st.Content, "backup"):
		return nil, "storage '" + store + "' does not support backups"
	case keep == "" && st.PruneBackups == "":
		return nil, "no prune-backups options configured for storage '" + store + "'"
	case keep == "":
		keep = st.PruneBackups
	}
	if text := s.usable(store, n); text != "" {
		return nil, text
	}
	var all []mark
	groups := map[string][]int{}
	for _, v := range st.seen(n, vmid) {
		m := mark{v: v, kind: subtype(v.VolID)}
		if v.Content != "backup" || kind != "" && m.kind != kind {
			continue
		}
		_, standard := archiveTime(v.VolID)
		switch {
		case v.Protected:
			m.mark = "protected"
		case !standard:
			m.mark = "renamed"
		}
		all = append(all, m)
		if standard {
			group := m.kind + itoa(v.VMID)
			groups[group] = append(groups[group], len(all)-1)
		}
	}
	for _, g := range groups {
		slices.SortFunc(g, func(a, b int) int { return int(all[b].v.CTime - all[a].v.CTime) })
		markGroup(all, g, keep)
	}
	return all, ""
}

// periods are how the options count backups: one for each value of the layout.
var periods = []struct{ option, layout string }{
	{"keep-last", ""},
	{"keep-hourly", "2006-01-02 15"},
	{"keep-daily", "2006-01-02"},
	{"keep-weekly", "week"},
	{"keep-monthly", "2006-01"},
	{"keep-yearly", "2006"},
}

// markGroup marks one guest's backups, newest first.
func markGroup(all []mark, group []int, keep string) {
	want := map[string]int{}
	for _, part := range splitList(keep) {
		name, count, _ := strings.Cut(part, "=")
		want[name], _ = strconv.Atoi(count)
	}
	if want["keep-all"] != 0 || len(want) == 0 {
		want = map[string]int{"keep-last": len(group)}
	}
	for _, p := range periods {
		taken := map[string]bool{}
		for _, i := range group {
			key := period(p.layout, all[i].v.CTime, i)
			if all[i].mark == "keep" {
				taken[key] = true
			}
		}
		for _, i := range group {
			key := period(p.layout, all[i].v.CTime, i)
			if all[i].mark != "" || taken[key] || want[p.option] == 0 {
				continue
			}
			taken[key] = true
			want[p.option]--
			all[i].mark = "keep"
		}
	}
	for _, i := range group {
		if all[i].mark == "" {
			all[i].mark = "remove"
		}
	}
}

func period(layout string, at int64, i int) string {
	t := time.Unix(at, 0).UTC()
	switch layout {
	case "":
		return itoa(i)
	case "week":
		year, week := t.ISOWeek()
		return itoa(year) + "/" + itoa(week)
	}
	return t.Format(layout)
}

// previewPrune is GET prunebackups: it says nothing of what a later DELETE
// finds.
func previewPrune(c *call) {
	marks, failure := c.s.prunable(c.node, c.params["storage"], c.params["prune-backups"], c.vmid(), c.params["type"])
	if failure != "" {
		c.fail(failure)
		return
	}
	out := []map[string]any{}
	for _, m := range marks {
		row := map[string]any{"ctime": m.v.CTime, "type": m.kind, "volid": m.v.VolID, "mark": m.mark}
		if m.v.VMID != 0 {
			row["vmid"] = m.v.VMID
		}
		out = append(out, row)
	}
	c.ok(out)
}

// pruneBackups is DELETE prunebackups: what to remove is decided in the task.
func pruneBackups(c *call) {
	store, vmid := c.params["storage"], c.vmid()
	r := c.rights()
	refusal, id := r.all("/storage/"+store, "Datastore.Allocate"), store
	if vmid != 0 {
		refusal = firstOf(r.all("/storage/"+store, "Datastore.AllocateSpace"), r.all("/vms/"+itoa(vmid), "VM.Backup"))
		id = itoa(vmid) + "@" + store
	}
	if refusal != "" {
		c.forbid(refusal)
		return
	}
	keep, kind := c.params["prune-backups"], c.params["type"]
	c.fork("prunebackups", id, c.s.startStage(), act(StageCheck, 0, func(t *task) string {
		marks, failure := c.s.prunable(t.node, store, keep, vmid, kind)
		if failure != "" {
			return failure
		}
		t.prepend(c.s.pruning(marks, "")...)
		return ""
	}), endStage())
}

// pruning are the stages that remove what is marked; prefix begins each line.
func (s *Sim) pruning(marks []mark, prefix string) []stage {
	var plan []stage
	for _, m := range marks {
		if m.mark != "remove" {
			continue
		}
		plan = append(plan, act(StageFree+itoa(len(plan)), s.pace.Volume, func(t *task) string {
			t.print(prefix + "removing backup '" + m.v.VolID + "'")
			s.dropBackup(t, m.v)
			return ""
		}))
	}
	return plan
}

// dropBackup removes an archive if it is still there.
func (s *Sim) dropBackup(t *task, v *volume) {
	if st, now := s.volume(t.node, v.VolID); now == v {
		st.drop(v)
		s.effectOf(t, Effect{Kind: BackupDeleted, VMID: v.VMID, Volume: v.VolID})
	}
}
