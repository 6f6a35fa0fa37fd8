package pvesim_test

import (
	"fmt"
	"testing"

	"writ/adapters/pvesim"
)

// A destroy takes a guest out of backup jobs with purge alone, and a job that
// names nobody any more goes too.
func TestPurgeTakesGuestsOutOfBackupJobs(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	for _, vmid := range []int{105, 106} {
		r.vm(vmid, 1)
	}
	both, one := r.sim.AddBackupJob(105, 106), r.sim.AddBackupJob(105)
	list := func() string {
		var text string
		rows, _ := r.call("GET", "/cluster/backup", admin, "").Data.([]any)
		for _, row := range rows {
			m, _ := row.(map[string]any)
			text += fmt.Sprint(m["id"], "=", m["vmid"], " ")
		}
		return text
	}
	check(t, "jobs", list(), both+"=105,106 "+one+"=105 ")
	check(t, "destroy", r.run("DELETE", "/nodes/pve1/qemu/106", ""), "OK")
	check(t, "jobs after a destroy", list(), both+"=105,106 "+one+"=105 ")
	check(t, "destroy with purge", r.run("DELETE", "/nodes/pve1/qemu/105?purge=1", ""), "OK")
	check(t, "jobs after one with purge", list(), both+"=106 ")
}
