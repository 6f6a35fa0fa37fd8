package proxmox

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

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
		recheck: sameConfig,
		probe:   probeBackup,
	}
}

// probeBackup tells whether a backup was made: it locks the guest, writes the
// archive under another name, gives it its own last, and unlocks. What fails on
// the way is removed by the task.
func probeBackup(ctx context.Context, p *probe) (engine.Finding, error) {
	s, err := p.lookAtGuest(ctx)
	if err != nil {
		return engine.Finding{}, err
	}
	switch {
	case p.saysDone():
		return finding(op.EffectDone, nil, s.said), nil
	case s.gone != "":
		return s.vanished(), nil
	case s.now.Lock == "backup":
		return s.unclear(op.EffectPartial, fmt.Sprintf("the guest is locked (backup): if no backup of it is running, unlock it on node %s (qm unlock or pct unlock %d)",
			s.now.Node, p.guest.VMID), s.said), nil
	}
	return s.unchanged("the guest is not locked by a backup, and no task says that one was made"), nil
}
