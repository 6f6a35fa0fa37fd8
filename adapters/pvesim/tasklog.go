package pvesim

import "slices"

// Sizes of the files that Proxmox VE keeps about tasks.
const (
	indexLimit  = 50000 // bytes, after which index becomes index.1
	activeLimit = 25    // rows kept in active, all running ones included
)

// taskLog is /var/log/pve/tasks of one node.
type taskLog struct {
	logs     map[string]*task // log files, by UPID
	active   []*task          // newest last: running ones and the newest finished ones
	index    []*task          // oldest first
	index1   []*task          // the index before, lost at the next rotation
	size     int              // of index, in bytes
	newest   *task            // the last one archived: its "saved" is a number
	inFlight map[*task]struct{}
}

func (l *taskLog) begin(t *task) {
	if l.inFlight == nil {
		l.inFlight = map[*task]struct{}{}
	}
	l.logs[t.upid] = t
	l.inFlight[t] = struct{}{}
	l.active = append(l.active, t)
	l.trim()
}

// trim drops the oldest finished rows of active beyond its limit.
func (l *taskLog) trim() {
	for i := 0; len(l.active) > activeLimit && i < len(l.active); {
		if l.active[i].alive {
			i++
			continue
		}
		l.active = slices.Delete(l.active, i, i+1)
	}
}

// finish enters an ended task in the index, which its parent does at once.
func (l *taskLog) finish(t *task) {
	delete(l.inFlight, t)
	if !t.reaped {
		// Nobody who knew of it is left: its log file is all there is.
		l.active = slices.DeleteFunc(l.active, func(o *task) bool { return o == t })
		return
	}
	t.listed = true
	l.index = append(l.index, t)
	l.newest = t
	l.size += len(t.upid) + len(" 00000000 ") + len(t.exit) + 1
	if l.size > indexLimit {
		l.index1, l.index, l.size = l.index, nil, 0
	}
	l.trim()
}

func (l *taskLog) running() []*task {
	out := make([]*task, 0, len(l.inFlight))
	for t := range l.inFlight {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *task) int { return a.pid - b.pid })
	return out
}

// forget removes a task's log file and its rows.
func (l *taskLog) forget(upid string) {
	gone := func(t *task) bool { return t.upid == upid }
	delete(l.logs, upid)
	l.active = slices.DeleteFunc(l.active, gone)
	l.index = slices.DeleteFunc(l.index, gone)
	l.index1 = slices.DeleteFunc(l.index1, gone)
}

// RotateTasks empties a node's task index, as many tasks in between would;
// status and log by UPID still answer.
func (s *Sim) RotateTasks(node string) {
	s.do(func() {
		if n := s.nodes[node]; n != nil {
			l := &n.tasks
			l.index, l.index1, l.size = nil, nil, 0
			l.active = slices.DeleteFunc(l.active, func(t *task) bool { return !t.alive })
		}
	})
}

// ForgetTask removes every trace of an ended task on every node, as rotation
// and the daily clean-up do in time.
func (s *Sim) ForgetTask(upid string) {
	s.do(func() {
		for _, n := range s.order {
			if t := n.tasks.logs[upid]; t != nil && !t.alive {
				n.tasks.forget(upid)
			}
		}
	})
}

// RunningTask is a worker that has not ended.
type RunningTask struct {
	UPID, Node, Type string
	ID               string // what it is about, a VMID mostly
	Tag              string // of the request that started it
}

// Running lists the workers that have not ended, by node and process id.
func (s *Sim) Running() []RunningTask {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []RunningTask
	for _, n := range s.order {
		for _, t := range n.tasks.running() {
			out = append(out, RunningTask{UPID: t.upid, Node: n.name, Type: t.typ, ID: t.id, Tag: t.tag})
		}
	}
	return out
}

// clusterLog is the ring that all nodes write to; newest last.
type clusterLog struct {
	entries []logEntry
	uid     int
	size    int
}

type logEntry struct {
	uid  int
	at   int64
	node string
	user string
	msg  string
}

const clusterLogSize = 128 * 1024

func (l *clusterLog) add(n *node, user, msg string) {
	l.uid++
	e := logEntry{uid: l.uid, at: n.now().Unix(), node: n.name, user: user, msg: msg}
	l.entries = append(l.entries, e)
	l.size += e.bytes()
	for l.size > clusterLogSize {
		l.size -= l.entries[0].bytes()
		l.entries = l.entries[1:]
	}
}

func (e *logEntry) bytes() int { return 48 + len(e.node) + len(e.user) + len(e.msg) }

// KillTask kills a running task's worker, as SIGKILL or the OOM killer would. It
// reports whether there was such a running task.
func (s *Sim) KillTask(upid string) (found bool) {
	s.do(func() {
		for _, n := range s.order {
			if t := n.tasks.logs[upid]; t != nil && t.alive {
				found = true
				t.die()
			}
		}
	})
	return found
}
