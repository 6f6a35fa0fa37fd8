package proxmox

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"writ/domain/engine"
)

// Bounds of what is kept of a task's log.
const (
	tailLines   = 30
	tailLineMax = 1000
)

// Task implements engine.Host: it asks the node that the UPID names. An error
// means that there was no answer, or none that makes sense.
//
// A task that has ended is reported even if its log can't be read; the log is
// then one line that says so.
func (h *Host) Task(ctx context.Context, upid string) (engine.Task, error) {
	u, err := ParseUPID(upid)
	if err != nil {
		return engine.Task{}, fmt.Errorf("ask for a task: %w", err)
	}
	base := "/nodes/" + u.Node + "/tasks/" + url.PathEscape(upid)
	r, err := h.get(ctx, h.at(u.Node), base+"/status")
	if e := asStatus(err); e != nil && e.Status == http.StatusBadRequest && e.about("upid") == "no such task" {
		return engine.Task{Phase: engine.TaskForgotten}, nil
	}
	if err != nil {
		return engine.Task{}, err
	}
	var status struct {
		UPID       string  `json:"upid"`
		Status     string  `json:"status"`
		ExitStatus *string `json:"exitstatus"`
	}
	if err := r.decode(&status); err != nil {
		return engine.Task{}, fmt.Errorf("GET %s/status: %w", base, err)
	}
	switch {
	case status.UPID != upid:
		return engine.Task{}, fmt.Errorf("GET %s/status: the answer is about %q", base, clip(status.UPID))
	case status.Status == "running" && status.ExitStatus == nil:
		return engine.Task{Phase: engine.TaskActive}, nil
	case status.Status == "stopped" && status.ExitStatus != nil && *status.ExitStatus != "":
	default:
		return engine.Task{}, fmt.Errorf("GET %s/status: status %q and exit status %s are no state of a task",
			base, clip(status.Status), clip(orNone(status.ExitStatus)))
	}
	return engine.Task{
		Phase:      engine.TaskEnded,
		ExitStatus: clipTo(*status.ExitStatus, 4*tailLineMax),
		Log:        h.logTail(ctx, u, base),
	}, nil
}

func orNone(s *string) string {
	if s == nil {
		return "none"
	}
	return fmt.Sprintf("%q", *s)
}

// What comes instead of a log begins with it.
const unreadLog = "(the task's log could not be read: "

// readLog tells whether there is a log to go by.
func readLog(log []string) bool { return len(log) > 0 && !strings.HasPrefix(log[0], unreadLog) }

// logTail reads the end of a task's log. The log tells people what happened;
// nothing waits for it, and it can be gone for good.
func (h *Host) logTail(ctx context.Context, u UPID, base string) []string {
	read := func(start int) ([]string, int, error) {
		path := fmt.Sprintf("%s/log?limit=%d&start=%d", base, tailLines, start)
		r, err := h.get(ctx, h.at(u.Node), path)
		if err != nil {
			return nil, 0, err
		}
		var rows []struct {
			Text string `json:"t"`
		}
		if err := r.decode(&rows); err != nil {
			return nil, 0, fmt.Errorf("GET %s: %w", path, err)
		}
		lines := make([]string, 0, len(rows))
		for _, row := range rows {
			lines = append(lines, clipTo(row.Text, tailLineMax))
		}
		return lines, r.total, nil
	}
	lines, total, err := read(0)
	if err == nil && total > tailLines {
		lines, _, err = read(total - tailLines)
	}
	if err != nil {
		return []string{unreadLog + clipTo(err.Error(), tailLineMax) + ")"}
	}
	if len(lines) > tailLines {
		lines = lines[len(lines)-tailLines:]
	}
	return lines
}
