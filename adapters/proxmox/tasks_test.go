package proxmox_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"writ/domain/engine"
)

func taskPath(upid string) string {
	node := strings.Split(upid, ":")[1]
	return "GET /nodes/" + node + "/tasks/" + url.PathEscape(upid)
}

func TestTask(t *testing.T) {
	const (
		ok     = "UPID:pve1:00002117:00026D28:6B03E1E0:qmdestroy:110:bars@pve!t1:"
		locked = "UPID:pve1:00002169:00026DB9:6B03E1E1:qmdestroy:113:bars@pve!t1:"
		warned = "UPID:pve1:000039C1:00029258:6B03E23F:qmdestroy:133:bars@pve!t1:"
		gone   = "UPID:pve1:0000ABCD:00001234:6B03E100:qmstop:100:bars@pve!t1:"
	)
	status := func(rest string) answer { return data(fmt.Sprintf(`{"upid":%q,%s}`, upid105, rest)) }
	cases := []struct {
		name   string
		upid   string
		status answer
		log    answer
		want   engine.Task
		text   string // of an error
	}{
		{"ended well", ok, recorded(t, "qemu-task-ok"), recorded(t, "qemu-task-ok-log"), engine.Task{Phase: engine.TaskEnded, ExitStatus: "OK", Log: []string{"TASK OK"}}, ""},
		{"ended with an error", locked, recorded(t, "qemu-task-locked"), recorded(t, "qemu-task-locked-log"), engine.Task{Phase: engine.TaskEnded, ExitStatus: "VM is locked (backup)", Log: []string{"TASK ERROR: VM is locked (backup)"}}, ""},
		{"ended with warnings", warned, recorded(t, "qemu-task-warnings"), recorded(t, "qemu-task-warnings-log"), engine.Task{Phase: engine.TaskEnded, ExitStatus: "WARNINGS: 1", Log: []string{
			"WARN: Could not remove disk 'lab:133/vm-133-disk-0.qcow2', check manually: unlink '/var/lib/vz/images/133/vm-133-disk-0.qcow2' failed - Operation not permitted", "TASK WARNINGS: 1",
		}}, ""},
		{"running", upid105, status(`"status":"running"`), nil, engine.Task{Phase: engine.TaskActive}, ""},
		{"forgotten", gone, recorded(t, "task-forgotten"), nil, engine.Task{Phase: engine.TaskForgotten}, ""},
		{"log unreadable", upid105, status(`"status":"stopped","exitstatus":"OK"`), bare(596, "x"), engine.Task{Phase: engine.TaskEnded, ExitStatus: "OK", Log: []string{
			"(the task's log could not be read: " + taskPath(upid105) + "/log: 596 x)",
		}}, ""},
		{"somebody else's", upid105, recorded(t, "task-foreign"), nil, engine.Task{}, "Sys.Audit"},
		{"unreachable", upid105, bare(595, "Connection refused"), nil, engine.Task{}, "595"},
		{"unavailable, with data null", upid105, body(503, "x", "application/json", `{"data":null}`), nil, engine.Task{}, "503"},
		{"hung up", upid105, hangUp, nil, engine.Task{}, "no usable answer"},
		{"empty", upid105, body(200, "OK", "application/json", ""), nil, engine.Task{}, "empty"},
		{"null", upid105, data("null"), nil, engine.Task{}, "null"},
		{"another task", upid105, data(fmt.Sprintf(`{"upid":%q,"status":"running"}`, ok)), nil, engine.Task{}, "is about"},
		{"no status", upid105, status(`"pid":1`), nil, engine.Task{}, "no state of a task"},
		{"unknown status", upid105, status(`"status":"OK"`), nil, engine.Task{}, "no state of a task"},
		{"running with an exit status", upid105, status(`"status":"running","exitstatus":"OK"`), nil, engine.Task{}, "no state of a task"},
		{"stopped without an exit status", upid105, status(`"status":"stopped"`), nil, engine.Task{}, "no state of a task"},
		{"stopped with an empty one", upid105, status(`"status":"stopped","exitstatus":""`), nil, engine.Task{}, "no state of a task"},
		{"forgotten, says a proxy", upid105, bare(400, "no such task"), nil, engine.Task{}, "400"},
		{"not a UPID", "hello", nil, nil, engine.Task{}, "not a UPID"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRawHost(t)
			if c.status != nil {
				r.on(taskPath(c.upid)+"/status", c.status)
			}
			if c.log != nil {
				r.on(taskPath(c.upid)+"/log?limit=30&start=0", c.log)
			}
			got, err := r.host().Task(t.Context(), c.upid)
			if (err != nil) != (c.text != "") || err != nil && !strings.Contains(err.Error(), c.text) {
				t.Fatalf("got %v, want an error with %q", err, c.text)
			}
			if got.Phase != c.want.Phase || got.ExitStatus != c.want.ExitStatus || !slices.Equal(got.Log, c.want.Log) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestTaskLogIsItsEnd(t *testing.T) {
	lines := func(from, to int) string {
		var rows []string
		for n := from; n <= to; n++ {
			rows = append(rows, fmt.Sprintf(`{"n":%d,"t":"line %d"}`, n, n))
		}
		return "[" + strings.Join(rows, ",") + "]"
	}
	page := func(rows string) answer {
		return body(200, "OK", "application/json", `{"total":100,"data":`+rows+`}`)
	}
	path := taskPath(upid105)
	r := newRawHost(t).on(path+"/status", data(fmt.Sprintf(`{"upid":%q,"status":"stopped","exitstatus":"OK"}`, upid105))).
		on(path+"/log?limit=30&start=0", page(lines(1, 30))).
		on(path+"/log?limit=30&start=70", page(lines(71, 100)))
	got, err := r.host().Task(t.Context(), upid105)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Log) != 30 || got.Log[0] != "line 71" || got.Log[29] != "line 100" {
		t.Errorf("got %q, want lines 71 to 100", got.Log)
	}
}
