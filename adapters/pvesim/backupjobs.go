package pvesim

import "slices"

// backupJob makes backups of the guests that it names, when its time has come:
// here it never does.
type backupJob struct {
	id    string
	vmids []int
}

// AddBackupJob makes a backup job that names guests and returns its id.
func (s *Sim) AddBackupJob(vmids ...int) (id string) {
	s.do(func() {
		id = "backup-" + itoa(len(s.backupJobs)+1)
		s.backupJobs = append(s.backupJobs, &backupJob{id: id, vmids: slices.Clone(vmids)})
	})
	return id
}

// dropFromBackupJobs takes a guest out of all jobs. One that names nobody any more
// goes too. (pve-manager: PVE::VZDump::Plugin#remove_vmid_from_backup_jobs)
func (s *Sim) dropFromBackupJobs(vmid int) {
	s.backupJobs = slices.DeleteFunc(s.backupJobs, func(j *backupJob) bool {
		i := slices.Index(j.vmids, vmid)
		if i < 0 {
			return false
		}
		j.vmids = slices.Delete(j.vmids, i, i+1)
		return len(j.vmids) == 0
	})
}

// listBackupJobs is GET /cluster/backup. (pve-manager: PVE::API2::Backup#index)
func listBackupJobs(c *call) {
	out := []map[string]any{}
	for _, j := range c.s.backupJobs {
		text := ""
		for i, vmid := range j.vmids {
			if i > 0 {
				text += ","
			}
			text += itoa(vmid)
		}
		out = append(out, map[string]any{
			"id": j.id, "type": "vzdump", "enabled": 1, "schedule": "21:00", "storage": "local", "mode": "snapshot", "vmid": text,
		})
	}
	c.ok(out)
}
