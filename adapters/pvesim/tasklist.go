package pvesim

import (
	"regexp"
	"slices"
	"strings"
)

// row is one entry of a task list.
type row struct {
	t        *task
	archived bool
}

// shownUser is the user as a list shows it: archived rows have the token cut off.
func (r row) shownUser() string {
	if r.archived {
		userid, _ := splitToken(r.t.user)
		return userid
	}
	return r.t.user
}

// status is the exit text, or RUNNING.
func (r row) status() string {
	if r.archived {
		return r.t.exit
	}
	return "RUNNING"
}

func (r row) fields() map[string]any {
	t := r.t
	m := map[string]any{
		"upid": t.upid, "node": t.node.name, "pid": t.pid, "pstart": t.ticks, "starttime": t.start,
		"type": t.typ, "id": t.id, "user": r.shownUser(), "status": r.status(),
	}
	if !r.archived {
		m["saved"] = "0"
		return m
	}
	m["endtime"] = t.end
	if _, tok := splitToken(t.user); tok != "" {
		m["tokenid"] = tok
	}
	return m
}

// statusClass is the word by which statusfilter knows an exit text.
func statusClass(status string) string {
	switch {
	case status == "OK":
		return "ok"
	case strings.HasPrefix(status, "WARNINGS: "):
		return "warning"
	case status == "RUNNING" || status == "unexpected status":
		return "unknown"
	default:
		return "error"
	}
}

// rows gives active rows first, then the archive, newest first.
func (l *taskLog) rows(source string) []row {
	var out []row
	if source != "archive" {
		for i := len(l.active) - 1; i >= 0; i-- {
			if t := l.active[i]; t.alive && t.listed {
				out = append(out, row{t: t})
			}
		}
	}
	if source != "active" {
		for _, part := range [][]*task{l.index, l.index1} {
			for i := len(part) - 1; i >= 0; i-- {
				out = append(out, row{t: part[i], archived: true})
			}
		}
	}
	return out
}

// mayList reports whether a row is the caller's own: its very token, or, where
// the token is shown apart, a token of the calling user.
func mayList(auth string, r row) bool {
	if r.t.user == auth {
		return true
	}
	userid, _ := splitToken(r.t.user)
	return r.archived && userid == auth
}

func listTasks(c *call) {
	source := c.params["source"]
	if source == "" {
		source = "archive"
	}
	all := c.can("/nodes/"+c.node.name, "Sys.Audit")
	keep := slices.DeleteFunc(c.node.tasks.rows(source), func(r row) bool {
		return !all && !mayList(c.auth, r) || !c.wants(r)
	})
	start, limit := c.int("start", 0), c.int("limit", 50)
	from := min(start, len(keep))
	to := min(from+limit, len(keep))
	out := make([]map[string]any, 0, to-from)
	for _, r := range keep[from:to] {
		out = append(out, r.fields())
	}
	c.okTotal(out, len(keep))
}

// wants applies the filters of the task list.
func (c *call) wants(r row) bool {
	t := r.t
	switch {
	case c.has("typefilter") && t.typ != c.params["typefilter"],
		c.has("vmid") && t.id != c.params["vmid"],
		c.has("since") && t.start < int64(c.int("since", 0)),
		c.has("until") && t.start > int64(c.int("until", 0)),
		c.has("userfilter") && !strings.Contains(strings.ToLower(r.shownUser()), strings.ToLower(c.params["userfilter"])):
		return false
	case c.on("errors"):
		return statusClass(r.status()) != "ok"
	case c.params["statusfilter"] != "":
		return slices.Contains(splitList(strings.ToLower(c.params["statusfilter"])), statusClass(r.status()))
	}
	return true
}

func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ';' || r == ' ' || r == '\x00' })
}

func checkStatusFilter(s string) string {
	for _, w := range splitList(s) {
		if !slices.Contains([]string{"ok", "error", "warning", "unknown"}, strings.ToLower(w)) {
			return "invalid format - invalid status '" + w + "'\n"
		}
	}
	return ""
}

var upidPattern = regexp.MustCompile(`^UPID:([a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?):([0-9A-Fa-f]{8}):([0-9A-Fa-f]{8,9}):([0-9A-Fa-f]{8}):([^:\s/]+):([^:\s/]*):([^:\s/]+):$`)

// theTask finds the task that the path names, or answers and returns nil. The
// node in the path says where to look; the one in the UPID is not compared.
func (c *call) theTask() *task {
	if !upidPattern.MatchString(c.params["upid"]) {
		c.failParam("upid", "unable to parse worker upid")
		return nil
	}
	t := c.node.tasks.logs[c.params["upid"]]
	if t == nil {
		c.failParam("upid", "no such task")
	}
	return t
}

// mayRead reports whether a task is the caller's: of the same token, or of one
// of the calling user's.
func mayRead(auth string, t *task) bool {
	userid, _ := splitToken(t.user)
	return auth == t.user || auth == userid
}

func (c *call) mayTouch(t *task, priv string) bool {
	if mayRead(c.auth, t) {
		return true
	}
	if text := c.rights().all("/nodes/"+c.node.name, priv); text != "" {
		c.forbid(text)
		return false
	}
	return true
}

func taskStatus(c *call) {
	t := c.theTask()
	if t == nil || !c.mayTouch(t, "Sys.Audit") {
		return
	}
	userid, tok := splitToken(t.user)
	m := map[string]any{
		"upid": t.upid, "node": t.node.name, "pid": t.pid, "pstart": t.ticks, "starttime": t.start,
		"type": t.typ, "id": t.id, "user": userid, "status": "running",
	}
	if tok != "" {
		m["tokenid"] = tok
	}
	if !t.alive {
		m["status"], m["exitstatus"] = "stopped", t.exit
	}
	c.ok(m)
}

func taskLogLines(c *call) {
	upid := c.params["upid"]
	if !upidPattern.MatchString(upid) {
		c.failParam("upid", "unable to parse worker upid")
		return
	}
	t := c.node.tasks.logs[upid]
	lines := []string{"unable to open file - No such file or directory"}
	if t != nil {
		if !c.mayTouch(t, "Sys.Audit") {
			return
		}
		lines = t.lines
		if len(lines) == 0 {
			lines = []string{"no content"}
		}
	}
	if c.on("download") {
		c.answer(Response{Status: 200, Reason: "OK", ContentType: "text/plain", Body: []byte(strings.Join(lines, "\n") + "\n")})
		return
	}
	start, limit := c.int("start", 0), c.int("limit", 50)
	if limit == 0 {
		limit = len(lines)
	}
	out := []map[string]any{}
	for i := start; i < len(lines) && i < start+limit; i++ {
		out = append(out, map[string]any{"n": i + 1, "t": lines[i]})
	}
	c.okTotal(out, len(lines))
}

func stopTask(c *call) {
	t := c.theTask()
	if t == nil || !c.mayTouch(t, "Sys.Modify") {
		return
	}
	c.letIn()
	t.interrupt()
	c.ok(nil)
}

func taskIndex(c *call) {
	c.ok([]map[string]any{{"name": "log"}, {"name": "status"}})
}

// clusterTasks shows what each node last broadcast: all running tasks and the
// newest finished ones. Only the newest archived one has a number in "saved".
func clusterTasks(c *call) {
	all := c.can("/", "Sys.Audit")
	out := []map[string]any{}
	for _, n := range c.s.order {
		for i := len(n.tasks.active) - 1; i >= 0; i-- {
			t := n.tasks.active[i]
			userid, tok := splitToken(t.user)
			if !t.listed || !all && userid != c.auth {
				continue
			}
			m := map[string]any{"upid": t.upid, "node": n.name, "starttime": t.start, "type": t.typ, "id": t.id, "user": userid}
			if tok != "" {
				m["tokenid"] = tok
			}
			if t.alive {
				m["pid"] = t.pid
			} else {
				m["endtime"], m["status"], m["saved"] = t.end, t.exit, "1"
				if t == n.tasks.newest {
					m["saved"] = 1
				}
			}
			out = append(out, m)
		}
	}
	slices.SortStableFunc(out, func(a, b map[string]any) int {
		as, _ := a["starttime"].(int64)
		bs, _ := b["starttime"].(int64)
		return int(bs - as)
	})
	c.ok(out)
}

func showClusterLog(c *call) {
	all := c.can("/", "Sys.Syslog")
	limit := c.int("max", 50)
	out := []map[string]any{}
	for i := len(c.s.log.entries) - 1; i >= 0 && len(out) < limit; i-- {
		e := &c.s.log.entries[i]
		if !all && e.user != c.auth {
			continue
		}
		out = append(out, map[string]any{
			"uid": e.uid, "time": e.at, "pri": 6, "tag": "pvedaemon", "pid": 900 + c.s.nodes[e.node].id, "node": e.node,
			"user": e.user, "msg": e.msg, "id": itoa(e.uid) + ":" + e.node,
		})
	}
	c.ok(out)
}
