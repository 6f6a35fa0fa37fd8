package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"writ/adapters/httpapi"
	"writ/domain/engine"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
	"writ/projections/audit"
)

// A helpfulHost carries out benign ops, too. Its guest stays.
type helpfulHost struct {
	*fakeHost

	// failing is the exit status of tasks, OK if empty.
	failing string
}

func (h *helpfulHost) Observe(context.Context, engine.Attempt) (op.Observed, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.guest, nil
}

// Request gives each class its own, as Proxmox VE has them.
func (h *helpfulHost) Request(a engine.Attempt, _ op.Observed) (op.Request, string, error) {
	q := map[op.Class]op.Request{
		op.GuestStart:     {Method: "POST", Path: "/nodes/pve1/qemu/105/status/start"},
		op.SnapshotCreate: {Method: "POST", Path: "/nodes/pve1/qemu/105/snapshot", Query: "snapname=" + a.Intent.Params.Snapshot},
		op.BackupCreate:   {Method: "POST", Path: "/nodes/pve1/vzdump", Query: "mode=snapshot&remove=0&storage=" + a.Intent.Params.Storage + "&vmid=105"},
	}[a.Intent.Class]
	return q, "writ@pve!launch", nil
}

func (h *helpfulHost) Launch(ctx context.Context, a engine.Attempt, l *op.Launching) (string, error) {
	if _, err := h.fakeHost.Launch(ctx, a, l); err != nil {
		return "", err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Sprintf("UPID:pve1:00000001:00000002:%08X:task:105:writ@pve!launch:", h.launches), nil
}

func (h *helpfulHost) Task(context.Context, string) (engine.Task, error) {
	select {
	case <-h.hold:
	default:
		return engine.Task{Phase: engine.TaskActive}, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	exit := h.failing
	if exit == "" {
		exit = "OK"
	}
	return engine.Task{Phase: engine.TaskEnded, ExitStatus: exit}, nil
}

func (h *helpfulHost) PrecedesEffect(exit string) bool { return strings.Contains(exit, "locked") }

func (h *helpfulHost) Probe(context.Context, *op.Launching, string, []string) (engine.Finding, error) {
	return engine.Finding{Evidence: op.Evidence{Effect: op.EffectDone, Reasons: []string{"it is there"}}}, nil
}

// newHelpful is the service with a rule that lets the caller controller ask for
// every benign class on guests from 100 to 199.
func newHelpful(t *testing.T, change ...func(*gate.PolicyDocument)) (*whole, *helpfulHost) {
	t.Helper()
	var h *helpfulHost
	w := newWhole(t, func(p *gate.PolicyDocument, c *engine.Config) {
		h = &helpfulHost{fakeHost: c.Host.(*fakeHost)}
		c.Host = h
		for _, class := range op.Classes() {
			c.Executors[class] = h
		}
		rule := gate.BenignRule{Callers: []string{"controller"}, On: gate.On{VMIDs: []string{"100-199"}}}
		for _, class := range op.Classes() {
			if class.Benign() {
				rule.Classes = append(rule.Classes, class)
			}
		}
		p.Benign = []gate.BenignRule{rule}
		for _, f := range change {
			f(p)
		}
	})
	return w, h
}

// asked are the bodies of requests for a benign op of each class.
var asked = map[op.Class]string{
	op.GuestStart:     `{"intent":{"class":"guest-start","target":{"node":"pve1","guest":{"type":"qemu","vmid":105}}}}`,
	op.SnapshotCreate: `{"intent":{"class":"snapshot-create","target":{"node":"pve1","guest":{"type":"qemu","vmid":105}},"params":{"snapshot":"before"}}}`,
	op.BackupCreate:   `{"intent":{"class":"backup-create","target":{"node":"pve1","guest":{"type":"qemu","vmid":105}},"params":{"storage":"backups"}}}`,
}

func TestEveryBenignClassIsAskedFor(t *testing.T) {
	for _, c := range op.Classes() {
		if c.Benign() != (asked[c] != "") {
			t.Errorf("%s: benign is %t, asked for in these tests %t", c, c.Benign(), asked[c] != "")
		}
	}
}

// The life of an op that nobody signs, as its caller sees it: its nonce is told,
// by which it can be asked for and followed; and it is no key to anything.
func TestAKeylessOpFromEndToEnd(t *testing.T) {
	for class, body := range asked {
		t.Run(string(class), func(t *testing.T) {
			w, h := newHelpful(t)
			close(h.hold)
			seen := w.follow("?streams=op-")
			var a httpapi.Answer
			if code := w.ask("POST", "/v1/ops?wait=1m", body, &a); code != 200 || a.Outcome != "succeeded" || !strings.HasPrefix(a.Nonce, strings.TrimSuffix(a.NonceShort, "…")) {
				t.Fatalf("submit: %d %+v, want it succeeded, and its nonce", code, a)
			}
			var o httpapi.Op
			if code := w.ask("GET", "/v1/ops/"+a.Nonce, "", &o); code != 200 || !o.Keyless || o.Applied || o.State != "succeeded" || o.Class != string(class) || len(o.Events) != 4 {
				t.Errorf("op: %d %+v, want it keyless, succeeded with four events, and not applied", code, o)
			}
			var started op.Started
			if err := op.Unmarshal(o.Events[0].Data, &started); err != nil || !started.Keyless || started.SubmittedBy != "controller" || len(started.Signers) != 0 || !started.Facts.Found {
				t.Errorf("the claim is %+v (%v), want it keyless, by controller, signed by nobody, with the gate's facts", started, err)
			}
			var applied httpapi.Applied
			if code := w.ask("GET", "/v1/applied/"+a.Nonce, "", &applied); code != 200 || applied.Applied || applied.State != "succeeded" {
				t.Errorf("applied: %d %+v, want false of what is no key", code, applied)
			}
			var types []string
			for range 4 {
				types = append(types, seen.event().Type)
			}
			if got, want := strings.Join(types, " "), "OpStarted OpLaunching OpTaskRunning OpSucceeded"; got != want {
				t.Errorf("events: got %s, want %s", got, want)
			}
			w.listed(a.Nonce)
			w.auditSound(1)
		})
	}
}

// follow listens to the service's events.
func (w *whole) follow(query string) *listener {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), "GET", w.url+"/v1/events"+query, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = resp.Body.Close() })
	sub := &listener{t: w.t, body: bufio.NewReader(resp.Body)}
	sub.caughtUp()
	return sub
}

// listed wants an op in the list of all as a keyless one, as soon as the view has
// come so far.
func (w *whole) listed(nonce string) {
	w.t.Helper()
	for w.t.Context().Err() == nil {
		var list httpapi.OpList
		if code := w.ask("GET", "/v1/ops?state=succeeded", "", &list); code != 200 {
			w.t.Fatalf("list: %d", code)
		}
		for _, it := range list.Ops {
			if it.Nonce != nonce {
				continue
			}
			if !it.Keyless || len(it.Signers) != 0 || it.Role != "" {
				w.t.Errorf("in the list it is %+v, want it keyless and signed by nobody", it)
			}
			return
		}
	}
	w.t.Error("the op never stood in the list")
}

// auditSound wants an audit of the service to find nothing wrong, and so many ops
// that succeeded.
func (w *whole) auditSound(ops uint64) {
	w.t.Helper()
	var r audit.Report
	if code := w.ask("GET", "/v1/audit/report", "", &r); code != 200 || !r.Sound || r.Counts.Ops.Succeeded != ops || r.Counts.Claims != ops || r.Counts.LaunchDecisions != ops {
		w.t.Errorf("audit: %d sound %t, %+v, %+v; want %d ops, all decided again", code, r.Sound, r.Counts, r.Findings, ops)
	}
}

// There is nothing that could tell a second delivery from a second wish.
func TestAKeylessOpAskedForTwiceIsDoneTwice(t *testing.T) {
	w, h := newHelpful(t)
	close(h.hold)
	nonces := make(map[string]bool)
	for range 3 {
		var a httpapi.Answer
		if code := w.ask("POST", "/v1/ops?wait=1m", asked[op.BackupCreate], &a); code != 200 || a.Outcome != "succeeded" {
			t.Fatalf("submit: %d %+v", code, a)
		}
		nonces[a.Nonce] = true
	}
	if len(nonces) != 3 || h.launches != 3 {
		t.Errorf("got %d nonces and %d requests, want 3 of each", len(nonces), h.launches)
	}
	w.auditSound(3)
}

// An op that is claimed can be asked for at once, before it has ended.
func TestAKeylessOpThatIsUnderWay(t *testing.T) {
	w, h := newHelpful(t)
	var a httpapi.Answer
	if code := w.ask("POST", "/v1/ops", asked[op.GuestStart], &a); code != 202 || a.Nonce == "" {
		t.Fatalf("submit: %d %+v, want 202 and the nonce", code, a)
	}
	var o httpapi.Op
	if code := w.ask("GET", "/v1/ops/"+a.Nonce, "", &o); code != 200 || !o.Keyless || o.Applied || o.Spent {
		t.Errorf("op: %d %+v, want it keyless and in flight", code, o)
	}
	close(h.hold)
	w.listed(a.Nonce)
}

// Its nonce is in the list for everyone who reads: a writ that bears it must not
// run, and it can't be taken back.
func TestTheNonceOfAKeylessOpIsNoKey(t *testing.T) {
	w, h := newHelpful(t)
	close(h.hold)
	var a httpapi.Answer
	if code := w.ask("POST", "/v1/ops?wait=1m", asked[op.GuestStart], &a); code != 200 {
		t.Fatalf("submit: %d %+v", code, a)
	}
	launches := h.launches
	var p httpapi.Problem
	raw := w.order(func(d *signedop.Document) { d.Nonce = op.Nonce(a.Nonce) })
	if code := w.submit(raw, "?wait=1m", &p); code != 409 || p.Reason != "nonce-reused" {
		t.Errorf("a writ with its nonce: %d %+v, want 409 nonce-reused", code, p)
	}
	p = httpapi.Problem{}
	if code := w.ask("POST", "/v1/ops/"+a.Nonce+"/void", `{"reason":"x"}`, &p); code != 409 {
		t.Errorf("taken back: %d %+v, want 409", code, p)
	}
	if h.launches != launches {
		t.Errorf("the host got %d requests more, want none", h.launches-launches)
	}
}

// What the policy does not allow is refused before anything happens, and what
// would take something away even though a rule allows the class.
func TestKeylessOpsThatAreRefused(t *testing.T) {
	start := asked[op.GuestStart]
	replace := func(class op.Class, old, new string) string {
		body := strings.Replace(asked[class], old, new, 1)
		if body == asked[class] {
			t.Fatalf("%s is not in %s", old, body)
		}
		return body
	}
	withParams := func(class op.Class, params string) string {
		var body struct {
			Intent struct {
				Class  string         `json:"class"`
				Target map[string]any `json:"target"`
				Params map[string]any `json:"params"`
			} `json:"intent"`
		}
		if err := json.Unmarshal([]byte(asked[class]), &body); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(params), &body.Intent.Params); err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	tests := map[string]struct {
		policy func(*gate.PolicyDocument)
		body   string
		status int
		reason string
		says   string
	}{
		"no section benign":                 {func(p *gate.PolicyDocument) { p.Benign = nil }, start, 403, "not-permitted", `no rule of benign names both "controller" and guest-start`},
		"no rule for the caller":            {func(p *gate.PolicyDocument) { p.Benign[0].Callers = []string{"terraform"} }, start, 403, "not-permitted", `no rule of benign names both "controller" and guest-start`},
		"no rule for the class":             {func(p *gate.PolicyDocument) { p.Benign[0].Classes = []op.Class{op.BackupCreate} }, start, 403, "not-permitted", "names both"},
		"no rule for the target":            {nil, replace(op.GuestStart, "105", "205"), 403, "not-permitted", "vmid 205 is not in [100-199]"},
		"a rule for another name":           {func(p *gate.PolicyDocument) { p.Benign[0].Only.Names = []string{"test-*"} }, start, 403, "not-permitted", `only.names: its name "web-3" matches none`},
		"a class that takes something away": {nil, strings.Replace(start, "guest-start", "guest-stop", 1), 403, "unsigned", ""},
		"a class that nobody knows":         {nil, strings.Replace(start, "guest-start", "guest-paint", 1), 403, "unknown-class", ""},
		"with an envelope":                  {nil, strings.Replace(start, `{"intent"`, `{"envelope":"e30=","intent"`, 1), 403, "not-permitted", "submit it without an envelope"},
		"a backup without a storage":        {nil, replace(op.BackupCreate, `"storage":"backups"`, ""), 422, "malformed", "params.storage"},
		"a snapshot without a name":         {nil, replace(op.SnapshotCreate, `"snapshot":"before"`, ""), 422, "malformed", "params.snapshot"},
		"a backup of another mode":          {nil, withParams(op.BackupCreate, `{"storage":"backups","mode":"stop"}`), 422, "bad-request", "body.intent.params.mode"},
		"a backup that removes earlier":     {nil, withParams(op.BackupCreate, `{"storage":"backups","remove":true}`), 422, "bad-request", "body.intent.params.remove"},
		"a snapshot with the memory":        {nil, withParams(op.SnapshotCreate, `{"snapshot":"before","vmstate":true}`), 422, "bad-request", "body.intent.params.vmstate"},
		"a start with force":                {nil, withParams(op.GuestStart, `{"force":true}`), 422, "malformed", "params.force"},
		"a start with a timeout":            {nil, withParams(op.GuestStart, `{"timeout":5}`), 422, "malformed", "params.timeout"},
		"a backup with purge":               {nil, withParams(op.BackupCreate, `{"storage":"backups","purge":true}`), 422, "malformed", "params.purge"},
		"a backup over an archive":          {nil, withParams(op.BackupCreate, `{"storage":"backups","archive":"backups:backup/x.tar"}`), 422, "malformed", "params.archive"},
		"a storage that leads elsewhere":    {nil, withParams(op.BackupCreate, `{"storage":"../x"}`), 422, "malformed", "params.storage"},
		"on no guest":                       {nil, `{"intent":{"class":"guest-start","target":{"node":"pve1"}}}`, 422, "malformed", "target.guest"},
		"on a volume":                       {nil, `{"intent":{"class":"backup-create","target":{"node":"pve1","volume":"tank:x"},"params":{"storage":"backups"}}}`, 422, "malformed", "target."},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var change []func(*gate.PolicyDocument)
			if tt.policy != nil {
				change = append(change, tt.policy)
			}
			w, h := newHelpful(t, change...)
			var p httpapi.Problem
			code := w.ask("POST", "/v1/ops?wait=1m", tt.body, &p)
			text := p.Detail + fmt.Sprint(p.Errors)
			if code != tt.status || p.Reason != tt.reason || !strings.Contains(text, tt.says) || p.Nonce != "" {
				t.Errorf("%d %+v, want %d %s that says %q, and no nonce", code, p, tt.status, tt.reason, tt.says)
			}
			if h.launches != 0 {
				t.Errorf("the host got %d requests, want none", h.launches)
			}
			var list httpapi.OpList
			if w.ask("GET", "/v1/ops", "", &list); len(list.Ops) != 0 {
				t.Errorf("on record are %+v, want no op", list.Ops)
			}
			w.auditSound(0)
		})
	}
}

// What the host says right before the launch, and in it, ends a keyless op as any
// other; with its nonce, so that it can be looked at.
func TestKeylessOpsThatFail(t *testing.T) {
	locked := func(h *helpfulHost) { h.guest.Lock = "backup" }
	tests := map[string]struct {
		class  op.Class
		change func(*helpfulHost)
		status int
		reason string
		effect string
		says   string
	}{
		"a start of a running guest":  {op.GuestStart, func(h *helpfulHost) { h.guest.Status = "running" }, 412, "precondition", "none", "the guest is running"},
		"a start of a template":       {op.GuestStart, func(h *helpfulHost) { h.guest.Template = true }, 412, "precondition", "none", "it can't be started"},
		"a start under HA":            {op.GuestStart, func(h *helpfulHost) { h.guest.HAManaged = true }, 412, "precondition", "none", "take it out of HA first"},
		"a start of a locked guest":   {op.GuestStart, locked, 412, "precondition", "none", "locked (backup)"},
		"a snapshot of a locked one":  {op.SnapshotCreate, locked, 412, "precondition", "none", "locked (backup)"},
		"a backup of a locked one":    {op.BackupCreate, locked, 412, "precondition", "none", "locked (backup)"},
		"a snapshot that is there":    {op.SnapshotCreate, func(h *helpfulHost) { h.guest.Snapshot = &op.SnapshotSeen{Name: "before", Time: 1} }, 412, "precondition", "none", "choose another name"},
		"another guest with the VMID": {op.BackupCreate, func(h *helpfulHost) { h.guest.Type = op.LXC }, 412, "precondition", "none", "lxc guest 105"},
		"without quorum":              {op.BackupCreate, func(h *helpfulHost) { h.guest.Quorate = false }, 412, "precondition", "none", "not quorate"},
		"a node that is down":         {op.SnapshotCreate, func(h *helpfulHost) { h.guest.NodeOnline = false }, 412, "precondition", "none", "not online"},
		"a task that fails at once":   {op.SnapshotCreate, func(h *helpfulHost) { h.failing = "VM is locked (backup)" }, 424, "task-failed", "none", "locked"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w, h := newHelpful(t)
			close(h.hold)
			h.set(func() { tt.change(h) })
			var p httpapi.Problem
			if code := w.ask("POST", "/v1/ops?wait=1m", asked[tt.class], &p); code != tt.status || p.Reason != tt.reason || p.Effect != tt.effect || !strings.Contains(p.Detail, tt.says) {
				t.Fatalf("%d %+v, want %d %s, effect %s, that says %q", code, p, tt.status, tt.reason, tt.effect, tt.says)
			}
			var o httpapi.Op
			if code := w.ask("GET", "/v1/ops/"+p.Nonce, "", &o); code != 200 || !o.Keyless || o.State != "failed" || o.Effect != tt.effect {
				t.Errorf("op %s: %d %+v, want it failed", p.Nonce, code, o)
			}
			var r audit.Report
			if code := w.ask("GET", "/v1/audit/report", "", &r); code != 200 || !r.Sound || r.Counts.Ops.FailedClean != 1 {
				t.Errorf("audit: %d %+v, want it sound with an op without effect", code, r)
			}
		})
	}
}

// A caller without a token is nobody that a rule could name.
func TestAKeylessOpNeedsAToken(t *testing.T) {
	s := newSite(t)
	w := s.do(call{method: "POST", path: "/v1/ops", body: asked[op.GuestStart]})
	wantStatus(t, w, 202)
	if got := s.engine.submissions(); len(got) != 1 || got[0].SubmittedBy != gate.Tokenless || len(got[0].Envelope) != 0 {
		t.Errorf("the engine got %+v, want it from %s, without an envelope", got, gate.Tokenless)
	}
	if a := decode[httpapi.Answer](t, w); a.Nonce != string(nonce) {
		t.Errorf("the answer's nonce is %q, want it whole", a.Nonce)
	}
	// Of a writ whoever holds it knows the nonce, and nobody else is told.
	w = s.submit("")
	if strings.Contains(w.Body.String(), string(nonce)) {
		t.Errorf("the answer to a writ holds its nonce: %s", w.Body)
	}
}
