package pvesim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// backup is one worker's errand: a job of one or more guests, one after the
// other. A guest that fails does not stop the others; the job fails in the end.
// (pve-manager: PVE::VZDump#exec_backup, #exec_backup_task)
type backup struct {
	s                *Sim
	auth             string
	params           map[string]string
	store            string
	vmids, elsewhere []int
	errors           int
}

// begin looks at the storage and plans the guests.
func (b *backup) begin(t *task) string {
	if text := b.s.usable(b.store, t.node); text != "" {
		text = "could not activate storage '" + b.store + "': " + text
		if b.s.stores[b.store] == nil {
			text += " could not get storage information for '" + b.store + "': storage '" + b.store + "' does not exist"
		}
		return text
	}
	if !slices.Contains(b.s.stores[b.store].Content, "backup") {
		return "could not get storage information for '" + b.store + "': can't use storage '" + b.store + "' for backups - wrong content type"
	}
	t.print("INFO: starting new backup job: " + b.commandLine(t.node.name))
	if len(b.elsewhere) > 0 {
		var ids []string
		for _, vmid := range b.elsewhere {
			ids = append(ids, itoa(vmid))
		}
		t.print("INFO: skip external VMs: " + strings.Join(ids, ", "))
	}
	rights := &grant{access: t.node.users(), auth: b.auth}
	var plan []stage
	for _, vmid := range b.vmids {
		if text := rights.all("/vms/"+itoa(vmid), "VM.Backup"); text != "" && b.s.guests[vmid] != nil {
			if b.params["all"] == "1" {
				continue
			}
			t.print("ERROR: Backup job failed - " + text)
			return text
		}
		d := &dump{b: b, vmid: vmid}
		plan = append(plan, d.stages()...)
	}
	t.prepend(append(plan, act(StageEnd, 0, func(t *task) string {
		if b.errors > 0 {
			t.print("INFO: Backup job finished with errors")
			return "job errors"
		}
		t.print("INFO: Backup job finished successfully")
		return ""
	}))...)
	return ""
}

// dump is the backup of one guest.
type dump struct {
	b       *backup
	vmid    int
	g       *guest
	begun   time.Time // node clock
	stopped time.Time
	locked  bool
	restart bool
	archive Archive
	size    int64
	v       *volume
	failed  string // why the rest of it is left out
}

// stages are those of one guest. What fails in one of them makes those that
// follow do nothing, down to the one that cleans up.
func (d *dump) stages() []stage {
	pace := d.b.s.pace
	step := func(name string, takes time.Duration, f func(t *task) string) stage {
		return act(name, takes, func(t *task) string {
			t.unwind = func(text string) string { return d.unwind(t, text) }
			if d.failed == "" {
				d.failed = f(t)
			}
			return ""
		})
	}
	return []stage{
		{name: StageMark, wait: d.mark},
		step(StageStop, pace.Power, d.stop),
		step(StageArchive, pace.Volume, d.pack),
		step(StageStore, 0, d.keep),
		step(StagePrune, 0, d.prune),
		act(StageUnlock, pace.Power, func(t *task) string {
			t.unwind = nil
			d.end(t)
			return ""
		}),
	}
}

func (d *dump) mode(running bool) string {
	mode := d.b.params["mode"]
	switch {
	case !running:
		return "stop"
	case mode == "":
		return "snapshot"
	}
	return mode
}

// mark takes the flock of the guest's config for as long as it takes to write
// the config's own lock: a destroy or a restore that has it goes first.
func (d *dump) mark(t *task, resume func(string)) {
	t.unwind = func(text string) string { return d.unwind(t, text) }
	if d.failed = d.open(t); d.failed != "" {
		resume("")
		return
	}
	key := flockKey{t.node.name, d.g.kind, d.vmid}
	t.takeLock(key, lockTimeout, lockFailure(flockPath(d.g.kind, d.vmid)), func(failure string) {
		if failure == "" {
			failure = d.lock(t)
			t.unlock()
		}
		d.failed = failure
		resume("")
	})
}

// open finds the guest.
func (d *dump) open(t *task) string {
	s := d.b.s
	d.begun = t.node.now()
	ref, known := t.node.exists(d.vmid)
	if !known {
		return "unable to find VM '" + itoa(d.vmid) + "'"
	}
	d.g = s.at(t.node, ref.kind, d.vmid)
	if d.g == nil {
		return noConfig(ref.kind, t.node.name, d.vmid)
	}
	if d.b.params["mode"] == "stop" && s.ha[d.vmid] == "started" {
		return "Cannot execute a backup with stop mode on a HA managed and enabled Service. Use snapshot mode or disable the Service."
	}
	t.print("INFO: Starting Backup of VM " + itoa(d.vmid) + " (" + string(d.g.kind) + ")")
	t.print("INFO: Backup started at " + stamp(d.begun))
	status := "stopped"
	if d.g.running {
		status = "running"
	}
	t.print("INFO: status = " + status)
	return ""
}

// lock writes "lock: backup" into the config. A guest that has a lock is not
// backed up.
func (d *dump) lock(t *task) string {
	s := d.b.s
	if s.guests[d.vmid] != d.g {
		return noConfig(d.g.kind, t.node.name, d.vmid)
	}
	if lock := d.g.conf.values["lock"]; lock != "" {
		return d.g.kind.word() + " is locked (" + lock + ")"
	}
	if !t.node.quorate {
		return "unable to open file '/etc/pve/" + d.g.kind.file(t.node.name, d.vmid) + ".tmp." + itoa(t.pid) + "' - Permission denied"
	}
	d.archive = Archive{Kind: d.g.kind, Config: maps.Clone(d.g.conf.values)}
	d.g.conf.values["lock"] = "backup"
	s.record(d.g)
	d.locked = true
	return ""
}

func (d *dump) stop(t *task) string {
	mode := d.mode(d.g.running)
	t.print("INFO: backup mode: " + mode)
	if v := d.b.params["bwlimit"]; v != "" && v != "0" {
		t.print("INFO: bandwidth limit: " + v + " KiB/s")
	}
	ionice := "7"
	if v := d.b.params["ionice"]; v != "" {
		ionice = v
	}
	t.print("INFO: ionice priority: " + ionice)
	name := "VM"
	if d.g.kind == LXC {
		name = "CT"
	}
	t.print("INFO: " + name + " Name: " + d.g.title())
	for _, k := range slices.SortedFunc(maps.Keys(d.archive.Config), naturally) {
		drive := d.archive.Config[k]
		volid, _, _ := strings.Cut(drive, ",")
		if !driveKey.MatchString(k) {
			continue
		}
		if d.g.kind == LXC {
			at := option(drive, "mp")
			if k == "rootfs" {
				at = "/"
			}
			t.print("INFO: including mount point " + k + " ('" + at + "') in backup")
		} else {
			t.print("INFO: include disk '" + k + "' '" + volid + "' " + option(drive, "size"))
		}
		_, v := d.b.s.volume(t.node, volid)
		if v == nil {
			return "volume '" + volid + "' does not exist"
		}
		d.size += v.Size
	}
	if mode != "stop" || !d.g.running {
		return ""
	}
	t.print("INFO: stopping virtual guest")
	d.stopped = t.node.now()
	d.restart = true
	d.b.s.halt(t, d.g)
	return ""
}

// pack writes the data under a name that no list shows.
func (d *dump) pack(t *task) string {
	st := d.b.s.stores[d.b.store]
	volid := d.volid(st)
	if st.Type == "pbs" {
		t.print("INFO: creating Proxmox Backup Server archive '" + strings.TrimPrefix(volid, st.ID+":backup/") + "'")
		return ""
	}
	t.print("INFO: creating vzdump archive '" + st.filePath(volid) + "'")
	t.print(fmt.Sprintf("INFO: Total bytes written: %d (%dMiB, 300MiB/s)", d.size, d.size>>20))
	return ""
}

// keep gives the archive its name: from here on there is a backup.
func (d *dump) keep(t *task) string {
	s := d.b.s
	if text := s.usable(d.b.store, t.node); text != "" {
		return text
	}
	st := s.stores[d.b.store]
	volid := d.volid(st)
	if st.Type != "pbs" {
		t.print(fmt.Sprintf("INFO: archive file size: %dMB", d.size>>20))
	}
	v := Volume{
		VolID: volid, VMID: d.vmid, Size: max(d.size, 1), Content: "backup", Format: d.format(st), CTime: d.begun.Unix(), Archive: &d.archive,
		Notes: d.notes(t), Protected: d.b.params["protected"] == "1",
	}
	if v.Protected {
		t.print("INFO: marking backup as protected")
	}
	s.putVolume(st, t.node, v)
	_, d.v = s.volume(t.node, volid)
	s.effectOf(t, Effect{Kind: BackupCreated, VMID: d.vmid, Instance: d.g.instance, Name: d.g.title(), UUID: d.g.uuid(), Volume: volid})
	return ""
}

func (d *dump) notes(t *task) string {
	template := d.b.params["notes-template"]
	if template == "" {
		return ""
	}
	t.print("INFO: adding notes to backup")
	return strings.NewReplacer("{{guestname}}", d.g.title(), "{{node}}", t.node.name, "{{vmid}}", itoa(d.vmid), "{{cluster}}", d.b.s.cluster, `\n`, "\n", `\\`, `\`).Replace(template)
}

func (d *dump) format(st *storage) string {
	switch {
	case st.Type == "pbs" && d.archive.Kind == LXC:
		return "pbs-ct"
	case st.Type == "pbs":
		return "pbs-vm"
	}
	ext := "vma"
	if d.archive.Kind == LXC {
		ext = "tar"
	}
	switch d.b.params["compress"] {
	case "zstd":
		return ext + ".zst"
	case "gzip":
		return ext + ".gz"
	case "lzo", "1":
		return ext + ".lzo"
	}
	return ext
}

func (d *dump) volid(st *storage) string {
	at := d.begun.UTC()
	if st.Type == "pbs" {
		return fmt.Sprintf("%s:backup/%s/%d/%s", st.ID, strings.TrimPrefix(d.format(st), "pbs-"), d.vmid, at.Format("2006-01-02T15:04:05Z"))
	}
	return fmt.Sprintf("%s:backup/vzdump-%s-%d-%s.%s", st.ID, d.archive.Kind, d.vmid, at.Format("2006_01_02-15_04_05"), d.format(st))
}

// prune removes older backups of the guest if the retention options say so:
// those of the request, or those of the storage. Without any, all are kept.
func (d *dump) prune(t *task) string {
	keep := d.b.params["prune-backups"]
	if keep == "" {
		keep = d.b.s.stores[d.b.store].PruneBackups
	}
	if d.b.params["remove"] == "0" || keep == "" || strings.Contains(keep, "keep-all=1") {
		return ""
	}
	t.print("INFO: prune older backups with retention: " + strings.Join(splitList(keep), ", "))
	marks, failure := d.b.s.prunable(t.node, d.b.store, keep, d.vmid, string(d.archive.Kind))
	if failure != "" {
		return failure
	}
	pruned := 0
	for _, m := range marks {
		if m.mark == "remove" {
			pruned++
			t.print("INFO: removing backup '" + m.v.VolID + "'")
			d.b.s.dropBackup(t, m.v)
		}
	}
	extra := ""
	if pruned > 0 {
		extra = " not covered by keep-retention policy"
	}
	t.print(fmt.Sprintf("INFO: pruned %d backup(s)%s", pruned, extra))
	return ""
}

// end takes the lock off and starts what was stopped, whatever came before.
func (d *dump) end(t *task) {
	s := d.b.s
	there := d.g != nil && s.guests[d.vmid] == d.g
	if d.locked && there && d.g.conf.values["lock"] == "backup" && t.node.quorate {
		delete(d.g.conf.values, "lock")
		s.record(d.g)
	}
	if d.restart && there && !d.g.running {
		t.print("INFO: restarting vm")
		s.boot(t, d.g)
		t.print("INFO: guest is online again after " + seconds(t.node.now().Sub(d.stopped)) + " seconds")
	}
	if d.failed != "" {
		d.b.errors++
		t.print("ERROR: Backup of VM " + itoa(d.vmid) + " failed - " + d.failed)
		t.print("INFO: Failed at " + stamp(t.node.now()))
		return
	}
	took := int(t.node.now().Sub(d.begun).Seconds())
	t.print(fmt.Sprintf("INFO: Finished Backup of VM %d (%02d:%02d:%02d)", d.vmid, took/3600, took/60%60, took%60))
	t.print("INFO: Backup finished at " + stamp(t.node.now()))
}

// unwind is the end of a job that is told to stop, or dies of an error between
// two guests' steps.
func (d *dump) unwind(t *task, text string) string {
	if text == "received interrupt" {
		text = "interrupted by signal"
	}
	d.failed = text
	d.end(t)
	if text == "interrupted by signal" {
		t.print("ERROR: Backup job failed - " + text)
		return text
	}
	t.print("INFO: Backup job finished with errors")
	return "job errors"
}

func seconds(d time.Duration) string {
	if d < time.Second {
		return "<1"
	}
	return itoa(int(d.Seconds()))
}

func stamp(at time.Time) string { return at.UTC().Format("2006-01-02 15:04:05") }
