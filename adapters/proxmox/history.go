package proxmox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"time"

	"writ/domain/engine"
	"writ/domain/op"
)

// Bounds of looking through a node's tasks. The host keeps some 1,400.
const (
	pageRows  = 500
	pagesMost = 40
	logRows   = 5000
	// clockDoubt is how much a clock read now may be off from what it was at an
	// announcement.
	clockDoubt = 10 * time.Second
	// asideTimeout bounds the questions whose answers prove nothing.
	asideTimeout = 5 * time.Second
)

// A trail is what one attempt's tasks look like.
type trail struct {
	node string
	typ  string
	id   string
	user string // full auth id, which a UPID holds whole, whatever lists show of it
	from int64  // UNIX seconds by the node's clock: no task of the attempt began before
	own  bool   // the credential is the attempt's alone
	// unsure says why from may be too late, should the node's clock have been set
	// since; empty if it is not.
	unsure string
}

// fits tells whether a task can be the attempt's. A credential of its own makes
// its time redundant: should a clock have been set, the task is still found.
func (t trail) fits(u UPID) bool {
	if u.Type != t.typ || u.ID != t.id || u.User != t.user {
		return false
	}
	return t.own || u.Node == t.node && int64(u.Start) >= t.from
}

// A taskRow is a task as lists show it.
type taskRow struct {
	UPID string  `json:"upid"`
	End  *number `json:"endtime"` // when its end was noticed; none while it is active
}

// history looks through all tasks that a node knows, newest first, for those that
// fit. Reaches is true if it got to one that had ended before the trail begins:
// the archive is in the order in which ends were noticed, so whatever began later
// stands before it. When a task began does not tell: one that ran for long stands
// among younger ones. A row more or less while it is read moves rows to later
// pages, never to earlier ones.
func (h *Host) history(ctx context.Context, t trail) (found []string, reaches bool, err error) {
	for page := range pagesMost {
		query := url.Values{"limit": {fmt.Sprint(pageRows)}, "source": {"all"}, "start": {fmt.Sprint(page * pageRows)}}
		rows, err := h.tasks(ctx, t.node, query)
		if err != nil {
			return found, false, err
		}
		for _, row := range rows {
			if u, err := ParseUPID(row.UPID); err == nil && t.fits(u) && !slices.Contains(found, row.UPID) {
				found = append(found, row.UPID)
			}
			if row.End != nil && int64(*row.End) < t.from {
				return found, true, nil
			}
		}
		if len(rows) < pageRows {
			return found, false, nil
		}
	}
	return found, false, nil
}

func (h *Host) tasks(ctx context.Context, node string, query url.Values) ([]taskRow, error) {
	path := "/nodes/" + url.PathEscape(node) + "/tasks?" + query.Encode()
	r, err := h.get(ctx, h.at(node), path)
	if err != nil {
		return nil, err
	}
	var rows []taskRow
	if err := r.decode(&rows); err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, err)
	}
	return rows, nil
}

// trailOf gives what to look for. Since when is told by the clock of the announced
// node, as it is now and, if the attempt had a token of its own, as it was before
// that was made: should the clock have been set in between, the earlier time of
// both counts.
func (h *Host) trailOf(ctx context.Context, t attempt, l *op.Launching, who sender) (trail, error) {
	there, err := h.nodeTime(ctx, t.node)
	if err != nil {
		return trail{}, err
	}
	ahead := time.Until(there) // of our clock; too little by the time that the answer took
	typ, id := t.conduct.task(t)
	tr := trail{
		node: t.node, typ: typ, id: id, user: l.Credential, own: who.name != "",
		from: l.At.Add(ahead - clockDoubt).Unix(),
	}
	switch then, known, err := h.clockThen(ctx, t, who); {
	case err != nil:
		tr.unsure = err.Error()
	case known:
		tr.from = min(tr.from, then.Add(-clockDoubt).Unix())
	}
	return tr, nil
}

// clockThen is what the node's clock showed before the attempt's token was made,
// as the token's comment tells. A token without it is a tombstone made where there
// was none: nothing was ever sent with it. Known is false then, and for a shared
// token.
func (h *Host) clockThen(ctx context.Context, t attempt, who sender) (then time.Time, known bool, err error) {
	switch {
	case who.name == "":
		return time.Time{}, false, nil
	case who.stranger != "":
		return time.Time{}, false, errors.New(who.stranger)
	}
	// At the node itself, where a fence has seen the token.
	token, found, err := h.readToken(ctx, h.at(t.node), subject{user: h.service.user, token: who.name})
	switch {
	case err != nil:
		return time.Time{}, false, err
	case !found:
		return time.Time{}, false, errors.New("the attempt's token is not there")
	}
	then, known = clockIn(token.Comment)
	return then, known, nil
}

// FindTasks implements engine.Executor.
//
// Only the announced node can have run the request: its name is in the path, and
// wherever the request was sent and the guest is now, no other node carries it
// out. So that node alone decides whether the search is complete. With a token
// of the attempt's own the other nodes and the cluster's log are asked, too: a
// task found there is the attempt's, however it came about, and that one of them
// can't be asked takes nothing away.
//
// The search is complete if the node's history reaches back to what ended before
// the launch, however its clock was set since. An error means that the announced
// node could not be asked and nothing was found elsewhere.
func (x *executor) FindTasks(ctx context.Context, announced *op.Launching) (engine.TaskSearch, error) {
	s, err := x.findTasks(ctx, announced)
	if err == nil && x.conduct.on(announced.Target).byRoot {
		s = anybodys(s)
	}
	return s, err
}

// findTasks is FindTasks, with those that can be a person's as well.
func (x *executor) findTasks(ctx context.Context, announced *op.Launching) (engine.TaskSearch, error) {
	h := x.host
	t, err := x.announced(announced)
	if err != nil {
		return engine.TaskSearch{}, fmt.Errorf("look for the tasks of an attempt: %w", err)
	}
	who, err := h.senderOf(announced)
	if err != nil {
		return engine.TaskSearch{}, fmt.Errorf("look for the tasks of an attempt: %w", err)
	}
	s := engine.TaskSearch{Exact: who.name != ""}
	tr, err := h.trailOf(ctx, t, announced, who)
	if err == nil {
		err = h.searchNode(ctx, tr, &s)
	}
	if err != nil {
		typ, id := t.conduct.task(t)
		tr = trail{node: t.node, typ: typ, id: id, user: announced.Credential, own: s.Exact, from: announced.At.Unix()}
		s.Complete = false
		s.Reasons = append(s.Reasons, fmt.Sprintf("node %s, which alone can have run the request, could not be asked: %v", t.node, err))
	}
	h.searchLog(ctx, tr, &s)
	if s.Exact {
		h.searchAside(ctx, tr, &s)
	}
	if err != nil && len(s.UPIDs) == 0 {
		return engine.TaskSearch{}, fmt.Errorf("look for the tasks of %s: %w", announced.Target, err)
	}
	return s, nil
}

// anybodys gives up the tasks that were found where the credential is one that
// people have: what the attempt's would look like a person's does too, down to the
// second. They are named, for a person to compare, and none is taken for the
// attempt's own.
func anybodys(s engine.TaskSearch) engine.TaskSearch {
	for _, upid := range s.UPIDs {
		s.Reasons = append(s.Reasons, fmt.Sprintf("%s is the attempt's task, or a person's who did the same at that time: look at its log", upid))
	}
	s.UPIDs = nil
	return s
}

// searchNode looks at the announced node. All its tasks are shown to who has
// Sys.Audit there, without which its clock could not have been read before.
func (h *Host) searchNode(ctx context.Context, t trail, s *engine.TaskSearch) error {
	found, reaches, err := h.history(ctx, t)
	addTasks(s, found...)
	if err != nil {
		return err
	}
	since := time.Unix(t.from, 0).UTC().Format(time.RFC3339)
	s.Complete = reaches && t.unsure == ""
	switch {
	case s.Complete:
		s.Reasons = append(s.Reasons, fmt.Sprintf("node %s was asked for all its tasks since %s", t.node, since))
	case reaches:
		s.Reasons = append(s.Reasons, fmt.Sprintf("node %s was asked for its tasks since %s by its clock, but how that stood at the launch can't be told: %s", t.node, since, t.unsure))
	default:
		s.Reasons = append(s.Reasons, fmt.Sprintf("the task history of node %s does not reach back to %s: it has been cut off, or the node had none before", t.node, since))
	}
	return nil
}

var upidInText = regexp.MustCompile(`UPID:[^\s]+:`)

// searchLog looks through the cluster's log, which alone knows of tasks that
// never got into their node's list.
func (h *Host) searchLog(ctx context.Context, t trail, s *engine.TaskSearch) {
	if t.user != h.token {
		if rights, err := h.rights(ctx, "/"); err != nil || !rights["Sys.Syslog"] {
			s.Reasons = append(s.Reasons, fmt.Sprintf("the cluster's log, which shows tasks that never got into a list, is hidden from %s: give it Sys.Syslog on /", h.token))
			return
		}
	}
	ctx, cancel := context.WithTimeout(ctx, asideTimeout)
	defer cancel()
	tasks, err := h.logged(ctx)
	if err != nil {
		s.Reasons = append(s.Reasons, "the cluster's log could not be read: "+err.Error())
		return
	}
	for _, u := range tasks {
		if t.fits(u) {
			addTasks(s, u.String())
		}
	}
}

// logged gives the tasks that the cluster's log tells of, as often as it does. It
// goes back as far as it has room, and shows a credential without Sys.Syslog on /
// its own tasks alone.
func (h *Host) logged(ctx context.Context) ([]UPID, error) {
	path := fmt.Sprintf("/cluster/log?max=%d", logRows)
	r, err := h.get(ctx, h.front, path)
	if err != nil {
		return nil, err
	}
	var rows []struct {
		Message string `json:"msg"`
	}
	if err := r.decode(&rows); err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, err)
	}
	var found []UPID
	for _, row := range rows {
		if u, err := ParseUPID(upidInText.FindString(row.Message)); err == nil {
			found = append(found, u)
		}
	}
	return found, nil
}

// searchAside looks at the other nodes that are online.
func (h *Host) searchAside(ctx context.Context, t trail, s *engine.TaskSearch) {
	ctx, cancel := context.WithTimeout(ctx, asideTimeout)
	defer cancel()
	state, err := h.clusterState(ctx, h.front)
	if err != nil {
		s.Reasons = append(s.Reasons, "which other nodes there are could not be asked: "+err.Error())
		return
	}
	query := url.Values{"limit": {fmt.Sprint(pageRows)}, "source": {"all"}, "typefilter": {t.typ}}
	for _, node := range slices.Sorted(maps.Keys(state.online)) {
		if node == t.node || !state.online[node] {
			continue
		}
		rows, err := h.tasks(ctx, node, query)
		if err != nil {
			s.Reasons = append(s.Reasons, fmt.Sprintf("node %s, which can't have run the request, could not be asked: %v", node, err))
			continue
		}
		for _, row := range rows {
			if u, err := ParseUPID(row.UPID); err == nil && t.fits(u) {
				addTasks(s, row.UPID)
			}
		}
	}
}

func addTasks(s *engine.TaskSearch, upids ...string) {
	for _, upid := range upids {
		if !slices.Contains(s.UPIDs, upid) {
			s.UPIDs = append(s.UPIDs, upid)
		}
	}
}
