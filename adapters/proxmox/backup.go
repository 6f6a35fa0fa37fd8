package proxmox

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"writ/domain/engine"
	"writ/domain/op"
)

// backupConduct is that of backup-create: a backup of a guest as it runs, that
// removes no earlier one.
func backupConduct() *conduct {
	return &conduct{
		class:   op.BackupCreate,
		observe: observeGuest,
		compose: func(in op.Intent, seen op.Observed) op.Request {
			query := url.Values{
				"vmid": {vmidText(in.Target.Guest.VMID)}, "storage": {in.Params.Storage}, "mode": {"snapshot"}, "remove": {"0"},
			}
			return op.Request{Method: http.MethodPost, Path: "/nodes/" + url.PathEscape(seen.Node) + "/vzdump", Query: query.Encode()}
		},
		form: func(s subject) form {
			return form{method: http.MethodPost, path: "/nodes/" + url.PathEscape(s.node) + "/vzdump", must: params{
				"vmid": literally(vmidText(s.guest.VMID)), "storage": storageForm, "mode": literally("snapshot"), "remove": literally("0"),
			}}
		},
		task: guestTask("vzdump", "vzdump"),
		rights: func(t attempt) []right {
			return []right{{"/vms/" + vmidText(t.guest.VMID), "VM.Backup"}, {"/storage/" + t.query().Get("storage"), "Datastore.AllocateSpace"}}
		},
		untouched: backupTaskTexts,
		// Of guests that are all on other nodes it takes no notice (pve-manager
		// API2/VZDump.pm#vzdump).
		idle:    "OK",
		recheck: sameConfig,
		probe:   probeBackup,
	}
}

// backupTaskTexts come before a task has looked at the guest (pve-manager
// VZDump.pm#new, #exec_backup).
var backupTaskTexts = whole(
	`could not activate storage '[^\n]+`,
	`could not get storage information for '[^\n]+`,
	`can't acquire lock '/var/run/vzdump\.lock' - got timeout`,
)

// probeBackup tells whether a backup was made: its task locks the guest, writes
// the archive under another name, gives it its own last, and unlocks. What fails
// on the way is removed by the task.
func probeBackup(ctx context.Context, p *probe) (engine.Finding, error) {
	s, err := p.lookAtGuest(ctx)
	if err != nil {
		return engine.Finding{}, err
	}
	made, blind, err := p.backupsSince(ctx)
	if err != nil {
		return engine.Finding{}, err
	}
	own := p.namedInLog(made)
	listed := "backups of the guest that were made since: " + strings.Join(made, ", ")
	locked := s.gone == "" && s.now.Lock == "backup"
	switch {
	case p.saysDone() && len(made) > 0:
		return finding(op.EffectDone, nil, s.said, "the storage lists "+listed), nil
	case p.saysDone():
		return finding(op.EffectDone, nil, s.said, strings.TrimSpace("by now the storage shows no backup of the guest that was made since "+blind)), nil
	case own != "" && locked:
		return s.unclear(op.EffectPartial, "the backup was made: "+own, s.said, "the guest is still locked (backup): "+unlockAfterBackup(p, s.now.Node)), nil
	case own != "":
		return finding(op.EffectDone, nil, "the backup was made: "+own+", as the task's log names it", s.said), nil
	case archived(p.log) != "" && len(made) == 0 && blind == "" && !locked:
		return finding(op.EffectDone, nil, s.said, "a backup was made, says the task's log ("+archived(p.log)+"); by now the storage shows no backup of the guest that was made since"), nil
	case len(made) > 0:
		return s.unclear(op.EffectUnknown, "the storage lists "+listed+"; whether one of them is the attempt's can't be told", s.said), nil
	case blind != "":
		return s.unclear(op.EffectUnknown, "whether a backup was made can't be told "+blind, s.said), nil
	case locked && s.began():
		return s.unclear(op.EffectPartial, "no backup was made, and the guest is locked (backup): "+unlockAfterBackup(p, s.now.Node), s.said), nil
	case locked:
		return s.unclear(op.EffectUnknown, "no backup was made, and the guest is locked (backup), it can't be told for whom: "+unlockAfterBackup(p, s.now.Node)), nil
	case s.gone != "":
		return s.vanished(), nil
	case p.ended != "" && !readLog(p.log):
		// A backup that was made, and that somebody has deleted since, is only
		// in the log.
		return s.unclear(op.EffectUnknown, "no backup is listed that was made since, and whether the task made one can't be told: its log can't be read", s.said), nil
	}
	return s.unchanged("the guest is not locked by a backup, and its storage lists no backup of it that was made since"), nil
}

func unlockAfterBackup(p *probe, node string) string {
	text := "if no backup of it is running, " + unlockBy(p, node) + ", and remove what is half written from the storage's folder dump"
	if p.guest.Type == op.LXC {
		text += ", and the container's snapshot vzdump if there is one"
	}
	return text
}

// backupsSince gives the backups of the guest that its storage lists and that were
// begun no earlier than the announcement. Blind says why there may be more.
func (p *probe) backupsSince(ctx context.Context) (made []string, blind string, err error) {
	storage := p.target.query().Get("storage")
	rows, err := p.host.content(ctx, p.target.node, storage)
	switch e := asStatus(err); {
	case isNoStorage(err, storage):
		return nil, fmt.Sprintf("(storage %s has been taken out of the configuration)", storage), nil
	case e != nil && e.Status == http.StatusForbidden:
		return nil, fmt.Sprintf("(%s)", e.Text()), nil
	case err != nil:
		return nil, "", err
	}
	tr, err := p.host.trailOf(ctx, p.target, p.announced, p.who)
	if err != nil {
		return nil, "", err
	}
	if tr.unsure != "" {
		blind = fmt.Sprintf("(how the clock of node %s stood at the launch can't be told: %s)", p.target.node, tr.unsure)
	}
	for _, row := range rows {
		if row.Content == "backup" && row.VMID != nil && int(*row.VMID) == p.guest.VMID && (row.CTime == nil || int64(*row.CTime) >= tr.from) {
			made = append(made, row.VolID)
		}
	}
	sees, err := p.host.seesBackups(ctx, storage, p.guest.VMID)
	if err == nil && !sees {
		blind = fmt.Sprintf("(token %s would need Datastore.AllocateSpace on /storage/%s and VM.Backup on /vms/%d to see it)", p.host.token, storage, p.guest.VMID)
	}
	slices.Sort(made)
	return made, blind, err
}

// archived is the line of a task's log that says that the backup is in its
// place: what fails after it, such as taking the lock off, leaves it there
// (pve-manager VZDump.pm#exec_backup_task).
func archived(log []string) string {
	for _, line := range log {
		if strings.HasPrefix(line, "INFO: archive file size: ") || strings.HasPrefix(line, "INFO: Finished Backup of VM ") {
			return line
		}
	}
	return ""
}

// namedInLog gives the one of some backups that the task's own log says it was
// making. A file has its name only when it is whole; of a backup server that is
// not known.
func (p *probe) namedInLog(made []string) string {
	for _, volid := range made {
		name := volid[strings.LastIndexByte(volid, '/')+1:]
		for _, line := range p.log {
			if strings.Contains(line, "creating vzdump archive '") && strings.HasSuffix(line, "/"+name+"'") {
				return volid
			}
		}
	}
	return ""
}
