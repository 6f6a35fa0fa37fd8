package pvesim

import (
	"path"
	"slices"
	"strings"
	"time"
)

// matches reports whether the fault selects this request.
func (in *Injected) matches(c *call, n *node) bool {
	f := &in.fault
	return in.left != 0 && (f.Method == "" || f.Method == c.req.Method) && (f.Node == "" || f.Node == n.name) &&
		(f.Auth == "" || f.Auth == c.auth || c.auth == "" && f.Auth == claimed(c.req.Header)) && matchPath(f.Path, c.path)
}

func matchPath(pattern, p string) bool {
	if pattern == "" {
		return true
	}
	want, got := strings.Split(pattern, "/"), strings.Split(p, "/")
	for i, w := range want {
		if w == "**" {
			return true
		}
		if i >= len(got) {
			return false
		}
		if ok, err := path.Match(w, got[i]); err != nil || !ok {
			return false
		}
	}
	return len(want) == len(got)
}

// intercept applies the faults of one point on a request's way and goes on with
// then, at once, later or never.
func (s *Sim) intercept(c *call, point string, then func()) {
	n := c.node
	if point == PointArrival {
		n = c.front
	}
	s.interceptBy(s.faults, c, n, point, then)
}

// interceptBy tries the given faults in order; after a hold those that follow.
func (s *Sim) interceptBy(faults []*Injected, c *call, n *node, point string, then func()) {
	for i, in := range faults {
		f := &in.fault
		if !in.matches(c, n) {
			continue
		}
		switch {
		case point == PointFork && (f.Kind == FaultActiveLock || f.Kind == FaultBadUPID || f.After && (f.Kind == FaultCut || f.Kind == FaultAnswer)):
			in.strike()
			c.injected = append(c.injected, in)
		case f.Kind == FaultHold && f.Point == PointReply && point == PointFork:
			in.strike()
			c.injected = append(c.injected, in)
		case f.Kind == FaultHold && f.Point == point:
			in.strike()
			c.leave(f)
			in.hold(func() { s.interceptBy(faults[i+1:], c, n, point, then) })
			return
		case point == PointArrival && f.Kind == FaultRepeat:
			if !c.repeated {
				in.strike()
				c.repeatAfter(f.Delay)
			}
		case point == PointArrival && !f.After && f.Kind == FaultCut:
			in.strike()
			c.answered = true
			if c.record >= 0 {
				s.requests[c.record].Ended = s.now()
			}
			deliver := c.deliver
			s.outbox = append(s.outbox, func() { deliver(Response{Cut: true}) })
			return
		case point == PointArrival && !f.After && f.Kind == FaultAnswer:
			in.strike()
			delay := time.Duration(0)
			if f.Status == 401 {
				delay = s.authDelay
			}
			s.after(delay, func() { c.answer(f.response()) })
			return
		}
	}
	then()
}

// repeatAfter delivers the call once more when it has been answered.
func (c *call) repeatAfter(delay time.Duration) {
	s, req, answer := c.s, c.req, c.deliver
	c.deliver = func(r Response) {
		answer(r)
		s.do(func() {
			s.after(delay, func() {
				s.outbox = append(s.outbox, func() { s.serve(req, func(Response) {}, true) })
			})
		})
	}
}

// leave answers the caller of a held request, if the fault says so.
func (c *call) leave(f *Fault) {
	switch {
	case f.ClientGone:
		c.answer(Response{Cut: true})
	case f.Status != 0:
		c.answer(f.response())
	}
}

// alter applies to a reply the faults that were armed when it was executed.
func (s *Sim) alter(c *call, r Response, send func(Response)) {
	armed := c.injected
	c.injected = nil
	for _, in := range armed {
		f := &in.fault
		switch {
		case f.Kind == FaultCut:
			r = Response{Cut: true}
		case f.Kind == FaultAnswer:
			r = f.response()
		case f.Kind == FaultBadUPID && r.Status == 200:
			r = jsonResponse(200, "OK", map[string]any{"data": f.Text})
		case f.Kind == FaultHold:
			if f.ClientGone || f.Status != 0 {
				c.leave(f)
				return
			}
			if !in.released {
				in.hold(func() { send(r) })
				return
			}
		}
	}
	send(r)
}

// response is the made-up reply. What the fault does not say is what the real
// thing, or the load balancer before it, sends with that status.
func (f *Fault) response() Response {
	r := Response{Status: f.Status, Reason: f.Reason, Body: []byte(f.Body)}
	reasons := map[int]string{
		200: "OK", 401: refusedAuth, 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
		595: "No route to host", 596: "Connection timed out", 597: "Connection reset by peer", 599: "Too many redirections",
	}
	if r.Reason == "" {
		r.Reason = reasons[f.Status]
	}
	switch {
	case f.Body != "":
		r.ContentType = "application/json;charset=UTF-8"
		if strings.HasPrefix(f.Body, "<") {
			r.ContentType = "text/html"
		}
	case f.Status == 502 || f.Status == 504:
		r.ContentType = "text/html"
		r.Body = []byte("<html><head><title>" + itoa(f.Status) + " " + r.Reason + "</title></head><body><h1>" + r.Reason + "</h1></body></html>\n")
	case f.Status == 503:
		r.ContentType, r.Body = "application/json;charset=UTF-8", []byte(`{"data":null}`)
	case f.Status == 200:
	default:
		r.NoLength = true
	}
	return r
}

// armed finds the fault of a kind that was armed for this call.
func (c *call) armed(kind FaultKind) *Injected {
	for _, in := range c.injected {
		if in.fault.Kind == kind {
			return in
		}
	}
	return nil
}

// onTask finds the first fault of the given kinds for a task at a stage.
func (s *Sim) onTask(t *task, stage string, kinds ...FaultKind) *Injected {
	for _, in := range s.faults {
		f := &in.fault
		if in.left == 0 || !slices.Contains(kinds, f.Kind) {
			continue
		}
		if (f.TaskType == "" || f.TaskType == t.typ) && (f.VMID == 0 || itoa(f.VMID) == t.owner()) && (f.Stage == "" || f.Stage == stage) &&
			(f.Node == "" || f.Node == t.node.name) && (f.Auth == "" || f.Auth == t.user) {
			in.strike()
			return in
		}
	}
	return nil
}

// stuck says why a volume cannot be freed, if a fault says so.
func (s *Sim) stuck(volid string) string {
	for _, in := range s.faults {
		if in.left == 0 || in.fault.Kind != FaultVolumeStuck {
			continue
		}
		if ok, err := path.Match(in.fault.Volume, volid); err == nil && (ok || in.fault.Volume == "") {
			in.strike()
			if in.fault.Text != "" {
				return in.fault.Text
			}
			return "unlink '" + volid + "' failed - Operation not permitted"
		}
	}
	return ""
}
