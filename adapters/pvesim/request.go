package pvesim

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Request is one HTTP request as a pveproxy reads it.
type Request struct {
	// Node is the node that is asked; empty means the first one.
	Node string
	// Method and Path; the path is percent-decoded and starts with /api2/.
	Method, Path string
	// Query is the raw query string.
	Query  string
	Header http.Header
	Body   []byte
	// Chunked says that the body came in chunks, which the real server refuses.
	Chunked bool
	// Tag is the caller's own mark. The host sees nothing of it; what becomes of
	// the request carries it.
	Tag string
}

// Response is one HTTP reply, or none.
type Response struct {
	Status int
	// Reason is the reason phrase: on errors the first line of the text.
	Reason      string
	ContentType string
	Body        []byte
	// NoLength marks replies without body and Content-Length.
	NoLength bool
	// Cut means that the connection broke and no reply ever comes.
	Cut bool
}

// Do serves one request and waits for its reply. A caller that gives up (ctx)
// gets a cut connection, and changes nothing: the request goes on.
func (s *Sim) Do(ctx context.Context, req Request) Response {
	got := make(chan Response, 1)
	s.Serve(req, func(r Response) { got <- r })
	select {
	case r := <-got:
		return r
	case <-ctx.Done():
	case <-s.done:
	}
	select {
	case r := <-got:
		return r
	default:
		return Response{Cut: true}
	}
}

// Serve takes one request and calls reply once with its answer: before Serve
// returns if nothing has to be waited for, later from a timer otherwise, never
// after [Sim.Close]. Reply may call back into the Sim.
func (s *Sim) Serve(req Request, reply func(Response)) { s.serve(req, reply, false) }

func (s *Sim) serve(req Request, reply func(Response), repeated bool) {
	s.mu.Lock()
	defer s.unlock()
	if s.closed {
		s.outbox = append(s.outbox, func() { reply(Response{Cut: true}) })
		return
	}
	front := s.nodes[req.Node]
	if front == nil {
		front = s.order[0]
	}
	if req.Header == nil {
		req.Header = http.Header{}
	}
	c := &call{s: s, req: req, front: front, node: front, begun: s.now(), deliver: reply, repeated: repeated, record: -1}
	c.journal()
	c.arrive()
}

// call is one request on its way. Exactly one answer is delivered; what is
// answered after it (a proxy had given up by then) is dropped, as on the real
// thing, while the effects stay.
type call struct {
	s       *Sim
	req     Request
	front   *node // the node the client asked
	node    *node // the node that executes
	begun   time.Time
	deliver func(Response)

	format   string // json or extjs
	path     string // below /api2/<format>
	raw      map[string]value
	m        *method
	vars     map[string]string // from the path
	params   map[string]string // validated, path variables included
	auth     string            // authenticated id, "" for none
	injected []*Injected       // faults that change the reply
	record   int               // index in Sim.requests, -1 for none
	answered bool
	repeated bool // by a fault
	told     bool // that it is let in
}

// arrive is where the request has been read by the front node's pveproxy.
func (c *call) arrive() {
	if c.front.down {
		c.answer(Response{Cut: true})
		return
	}
	if resp, bad := c.transport(); bad {
		c.answer(resp)
		return
	}
	c.s.intercept(c, PointArrival, c.authenticate)
}

// transport checks what pveproxy checks before it looks at credentials.
func (c *call) transport() (Response, bool) {
	switch c.req.Method {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete:
	default:
		return bare(501, "method '"+c.req.Method+"' not available"), true
	}
	if c.req.Chunked {
		return plain(501, "chunked transfer encoding not supported"), true
	}
	rest, ok := strings.CutPrefix(c.req.Path, "/api2/")
	if !ok {
		return Response{Status: 500, Reason: "no such file '" + c.req.Path + "'", Body: []byte("no such file '" + c.req.Path + "'\n")}, true
	}
	format, path, _ := strings.Cut(rest, "/")
	c.path = normalizeACLPath("/" + path)
	c.format = format
	if format != "json" && format != "extjs" {
		return plain(501, "no formatter for uri "+c.path+", "+format), true
	}
	return Response{}, false
}

// authenticate is the front hop: credentials, body, path, permission, proxying.
func (c *call) authenticate() {
	m, vars, found := c.s.route(c.req.Method, c.path)
	c.m, c.vars = m, vars
	if !found || !m.open {
		auth, refusal := c.s.authenticate(c.front, &c.req, true)
		if refusal != "" {
			c.refuse(refusal)
			return
		}
		c.auth = auth
	}
	if c.record >= 0 {
		c.s.requests[c.record].Auth = c.auth
	}
	if resp, bad := c.readParams(); bad {
		c.answer(resp)
		return
	}
	if !found {
		c.failPlainMessage(501, "Method '"+c.req.Method+" "+c.path+"' not implemented")
		return
	}
	if !c.permitted(c.front) {
		return
	}
	name, proxied := vars["node"]
	if !proxied || name == "localhost" || name == c.front.name {
		c.hop()
		return
	}
	if c.req.Header.Get("PVEDisableProxy") != "" {
		c.answer(Response{Status: 500, Reason: "proxy loop detected", Body: []byte("proxy loop detected")})
		return
	}
	target := c.s.nodes[name]
	if target == nil {
		c.fail("hostname lookup '" + name + "' failed - failed to get address info for: " + name + ": Temporary failure in name resolution")
		return
	}
	c.node = target
	c.s.proxyTo(c, target)
}

// enter is the pveproxy of the executing node, reached through another one: it
// authenticates anew, by its own copy of user.cfg and its own clock.
func (c *call) enter() {
	if !c.reauthenticate(false) {
		return
	}
	c.hop()
}

// hop hands protected methods on to the pvedaemon of the executing node.
func (c *call) hop() {
	if !c.m.protected {
		c.admit()
		return
	}
	c.s.daemon(c, c.node, func() {
		c.s.intercept(c, PointQueue, func() {
			if !c.reauthenticate(false) {
				return
			}
			c.admit()
		})
	})
}

// admit is where the last check of credentials before the method has been passed.
// A method that names no permission leaves all of it to its handler: anybody who
// has logged in gets there.
func (c *call) admit() {
	if c.m.perm != nil || c.m.open {
		c.letIn()
	}
	c.s.intercept(c, PointFork, c.execute)
}

// letIn tells, once, that nothing asks for credentials any more.
func (c *call) letIn() {
	tell := c.s.onAdmit
	if tell == nil || c.told {
		return
	}
	c.told = true
	req := c.req
	c.s.outbox = append(c.s.outbox, func() { tell(req) })
}

// reauthenticate repeats the check of credentials and permission at the
// executing node, as of now.
func (c *call) reauthenticate(csrf bool) bool {
	if c.m.open {
		return true
	}
	auth, refusal := c.s.authenticate(c.node, &c.req, csrf)
	if refusal != "" {
		c.refuse(refusal)
		return false
	}
	c.auth = auth
	return c.permitted(c.node)
}

func (c *call) permitted(n *node) bool {
	if c.m.perm == nil {
		return true
	}
	if text := c.m.perm(&grant{access: n.users(), auth: c.auth, vars: c.vars, raw: c.raw}); text != "" {
		c.forbid(text)
		return false
	}
	return true
}

// execute validates the parameters and runs the method. Past this point only the
// method itself asks for credentials.
func (c *call) execute() {
	if c.lostWithItsNode() {
		return
	}
	if c.record >= 0 {
		c.s.requests[c.record].Executed = true
	}
	params, errs, fatal := c.m.validate(c.vars, c.raw)
	if fatal != "" {
		c.fail(fatal)
		return
	}
	if len(errs) > 0 {
		c.failParams(errs)
		return
	}
	c.params = params
	if n, ok := params["node"]; ok && n == "localhost" {
		params["node"] = c.node.name
	}
	c.m.handle(c)
}

// lostWithItsNode tells whether the daemon died with the request in it: then nobody
// will ever go on with it.
func (c *call) lostWithItsNode() bool {
	switch {
	case !c.node.down:
		return false
	case c.node == c.front:
		c.answer(Response{Cut: true})
	default:
		c.answer(bare(596, "Broken pipe"))
	}
	return true
}

// value is a parameter as it came: text, or something of JSON that is not text.
type value struct {
	text string
	list []string // for array
	form string   // "" text, ARRAY, HASH, null
}

func (c *call) readParams() (Response, bool) {
	c.raw = map[string]value{}
	if len(c.req.Body) > 0 || c.jsonBody() {
		if resp, bad := c.readBody(); bad {
			return resp, true
		}
	}
	q, err := url.ParseQuery(c.req.Query)
	if err != nil {
		return plain(500, "unable to parse query"), true
	}
	for k, v := range q {
		if k == "_dc" {
			continue
		}
		c.raw[k] = formValue(v)
	}
	return Response{}, false
}

func formValue(v []string) value {
	if len(v) > 1 {
		return value{list: v, form: "ARRAY"}
	}
	return value{text: v[0]}
}
