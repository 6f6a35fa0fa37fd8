package httpapi_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"writ/adapters/httpapi"
	"writ/domain/engine"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

// answered is an answer of the engine, with everything that could be in one.
func answered(o engine.Outcome, s op.State) engine.Answer {
	return engine.Answer{Outcome: o, Nonce: nonce, OpID: "0a1b", Attempt: 2, State: s, UPID: "UPID:x", Since: since, Detail: "what happened"}
}

func failedAs(kind op.FailureKind, effect op.Effect, message string) engine.Answer {
	a := answered(engine.Failed, op.StateFailed)
	if effect == op.EffectNone {
		a.State = op.StateFailedClean
	}
	a.Failure = &op.Failed{Kind: kind, Effect: effect, Message: message}
	a.Detail = message
	return a
}

// refusedLate is what becomes of an op that the gate no longer allows right
// before launch.
func refusedLate(r gate.Reason) engine.Answer {
	a := failedAs(op.KindRefused, op.EffectNone, "expires_at passed")
	a.Failure.Reason = string(r)
	return a
}

func TestStatusSaysWhatBecameOfASubmission(t *testing.T) {
	refused := func(r gate.Reason) engine.Answer {
		return engine.Answer{Outcome: engine.RefusedByGate, Reason: r, Nonce: nonce, State: op.Absent, Detail: "because"}
	}
	for name, c := range map[string]struct {
		answer engine.Answer
		status int
		is     string // outcome of a success, reason of a problem
	}{
		"succeeded":                {answered(engine.Succeeded, op.StateSucceeded), 200, "succeeded"},
		"already applied":          {answered(engine.AlreadyApplied, op.StateSucceeded), 200, "already-applied"},
		"in flight, started":       {answered(engine.InFlight, op.StateStarted), 202, "in-flight"},
		"in flight, launching":     {answered(engine.InFlight, op.StateLaunching), 202, "in-flight"},
		"in flight, task running":  {answered(engine.InFlight, op.StateTaskRunning), 202, "in-flight"},
		"indeterminate":            {answered(engine.Indeterminate, op.StateLaunching), 202, "indeterminate"},
		"refused":                  {refused(gate.QuorumNotMet), 403, "quorum-not-met"},
		"unsigned":                 {refused(gate.Unsigned), 403, "unsigned"},
		"expired":                  {refused(gate.Expired), 403, "expired"},
		"self":                     {refused(gate.Self), 403, "self"},
		"nonce reused":             {refused(gate.NonceReused), 409, "nonce-reused"},
		"nonce spent":              {refused(gate.NonceSpent), 409, "nonce-spent"},
		"voided":                   {answered(engine.Voided, op.StateVoided), 409, "nonce-spent"},
		"malformed":                {refused(gate.Malformed), 422, "malformed"},
		"precondition":             {failedAs(op.KindPrecondition, op.EffectNone, "name differs"), 412, "precondition"},
		"gone":                     {failedAs(op.KindGone, op.EffectNone, "gone"), 412, "gone"},
		"host refused":             {failedAs(op.KindRejected, op.EffectNone, "VM is protected"), 424, "rejected"},
		"task failed":              {failedAs(op.KindTaskFailed, op.EffectPartial, "lvremove failed"), 424, "task-failed"},
		"no executor":              {failedAs(op.KindNoExecutor, op.EffectNone, "none"), 424, "no-executor"},
		"resolved by a person":     {failedAs(op.KindResolved, op.EffectUnknown, "we looked"), 424, "resolved"},
		"interrupted":              {failedAs(op.KindInterrupted, op.EffectNone, "stopping"), 503, "interrupted"},
		"not executed":             {failedAs(op.KindNotExecuted, op.EffectNone, "lost"), 503, "not-executed"},
		"refused at the last look": {refusedLate(gate.Expired), 403, "expired"},
		"refused without reason":   {failedAs(op.KindRefused, op.EffectNone, "no policy can be applied, tried 4 times: x"), 403, "refused"},
		"queue full":               {engine.Answer{Outcome: engine.QueueFull, Nonce: nonce, State: op.Absent, Detail: "full"}, 429, "queue-full"},
		"unavailable":              {engine.Answer{Outcome: engine.Unavailable, Nonce: nonce, Detail: "down"}, 503, "unavailable"},
		"corrupt":                  {engine.Answer{Outcome: engine.Corrupt, Nonce: nonce, Detail: "broken chain"}, 500, "corrupt"},
		"nothing on record":        {engine.Answer{Outcome: engine.Unknown, Nonce: nonce, State: op.Absent, Detail: "none"}, 500, "corrupt"},
		"conflict":                 {answered(engine.Conflict, op.StateLaunching), 409, "conflict"},
		"no outcome at all":        {engine.Answer{}, 500, "corrupt"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.engine.run = func(context.Context, engine.Submission) engine.Answer { return c.answer }
			w := s.submit("")
			wantStatus(t, w, c.status)
			retry := w.Header().Get("Retry-After") != ""
			if want := c.status == 429 || c.status == 503; retry != want {
				t.Errorf("Retry-After given: %t, want %t", retry, want)
			}
			if strings.Contains(w.Body.String(), string(nonce)) {
				t.Errorf("the answer holds the whole nonce: %s", w.Body)
			}
			if c.status >= 300 {
				p := problemOf(t, w)
				if p.Reason != c.is {
					t.Errorf("reason %q, want %q", p.Reason, c.is)
				}
				if f := c.answer.Failure; f != nil && (p.Effect != string(f.Effect) || p.State != "failed" || p.OpID != "0a1b") {
					t.Errorf("problem %+v, want effect %q, state failed and the op id", p, f.Effect)
				}
				return
			}
			a := decode[httpapi.Answer](t, w)
			want := httpapi.Answer{
				Outcome: c.is, OpID: "0a1b", NonceShort: "6f1c9a0e…", Attempt: 2, State: c.answer.State.String(), UPID: "UPID:x",
				Detail: "what happened", Since: since,
			}
			if a != want {
				t.Errorf("answer %+v, want %+v", a, want)
			}
		})
	}
}

func TestEveryReasonOfTheGateHasAStatus(t *testing.T) {
	for _, r := range gate.Reasons() {
		if r == gate.Benign || r == gate.Signed {
			continue
		}
		t.Run(string(r), func(t *testing.T) {
			s := newSite(t)
			s.engine.run = func(context.Context, engine.Submission) engine.Answer {
				return engine.Answer{Outcome: engine.RefusedByGate, Reason: r, Detail: "because"}
			}
			w := s.submit("")
			if w.Code != 403 && w.Code != 409 && w.Code != 422 {
				t.Errorf("status %d, want 403, 409 or 422", w.Code)
			}
			if p := problemOf(t, w); p.Reason != string(r) {
				t.Errorf("reason %q, want %q", p.Reason, r)
			}
		})
	}
}

func TestTheEngineGetsExactlyWhatWasSent(t *testing.T) {
	s := newSite(t, withToken(httpapi.Submit))
	raw := "{\"payload\" : \"\xc3\xa9\" }\n\x00\xff"
	body := `{"intent":{"class":"guest-destroy","target":{"node":"pve1","guest":{"type":"lxc","vmid":999999999}},"params":{"purge":false,"force":true}},"envelope":"` +
		base64.StdEncoding.EncodeToString([]byte(raw)) + `"}`
	wantStatus(t, s.do(call{method: "POST", path: "/v1/ops", body: body, header: map[string]string{"Authorization": "Bearer " + token}}), 202)
	got := s.engine.submissions()[0]
	yes, no := true, false
	want := op.Intent{
		Class:  op.GuestDestroy,
		Target: op.Target{Node: "pve1", Guest: &op.Guest{Type: op.LXC, VMID: 999999999}},
		Params: op.Params{Purge: &no, Force: &yes},
	}
	if got.Intent.Class != want.Class || !got.Intent.Target.Equal(want.Target) || !got.Intent.Params.Equal(want.Params) {
		t.Errorf("intent %+v, want %+v", got.Intent, want)
	}
	if string(got.Envelope) != raw {
		t.Errorf("envelope %q, want %q", got.Envelope, raw)
	}
	if got.SubmittedBy != "controller" {
		t.Errorf("submitted by %q, want controller", got.SubmittedBy)
	}
}

func TestBadSubmissionsNeverReachTheEngine(t *testing.T) {
	intent := `{"class":"guest-destroy","target":{"node":"pve1","guest":{"type":"qemu","vmid":105}}}`
	with := func(intent, envelope string) string { return `{"intent":` + intent + `,"envelope":` + envelope + `}` }
	post := func(body string) call { return call{method: "POST", path: "/v1/ops", body: body} }
	typed := func(kind string) call {
		c := post(submission)
		c.header = map[string]string{"Content-Type": kind}
		return c
	}
	for name, c := range map[string]struct {
		call   call
		status int
		says   string
	}{
		"no body":                   {post(""), 400, "body"},
		"no JSON":                   {post("intent"), 400, "body"},
		"an array":                  {post("[]"), 422, "body"},
		"null":                      {post("null"), 400, "null"},
		"two documents":             {post(submission + submission), 400, "body"},
		"an unknown member":         {post(`{"intent":` + intent + `,"force":true}`), 422, "body.force"},
		"an unknown inner member":   {post(with(strings.Replace(intent, `"node"`, `"x":1,"node"`, 1), `""`)), 422, "body.intent.target.x"},
		"a member in capitals":      {post(strings.Replace(submission, `"intent"`, `"Intent"`, 1)), 422, "Intent"},
		"a member twice":            {post(strings.Replace(submission, `"class"`, `"class":"x","class"`, 1)), 400, "body"},
		"invalid UTF-8":             {post(strings.Replace(submission, "pve1", "\xff", 1)), 400, "body"},
		"no intent":                 {post(`{"envelope":"e30="}`), 422, "intent"},
		"no target":                 {post(with(`{"class":"guest-destroy"}`, `""`)), 422, "target"},
		"vmid too small":            {post(with(strings.Replace(intent, "105", "99", 1), `""`)), 422, "body.intent.target.guest.vmid"},
		"vmid too large":            {post(with(strings.Replace(intent, "105", "1000000000", 1), `""`)), 422, "body.intent.target.guest.vmid"},
		"vmid a fraction":           {post(with(strings.Replace(intent, "105", "105.5", 1), `""`)), 422, "body.intent.target.guest.vmid"},
		"vmid as text":              {post(with(strings.Replace(intent, "105", `"105"`, 1), `""`)), 422, "body.intent.target.guest.vmid"},
		"guest type":                {post(with(strings.Replace(intent, "qemu", "docker", 1), `""`)), 422, "body.intent.target.guest.type"},
		"guest null":                {post(with(`{"class":"guest-destroy","target":{"node":"pve1","guest":null}}`, `""`)), 400, "null"},
		"purge null":                {post(with(strings.Replace(intent, `"target"`, `"params":{"purge":null},"target"`, 1), `""`)), 400, "null"},
		"purge as text":             {post(with(strings.Replace(intent, `"target"`, `"params":{"purge":"1"},"target"`, 1), `""`)), 422, "body.intent.params.purge"},
		"a long node":               {post(with(strings.Replace(intent, "pve1", strings.Repeat("p", 64), 1), `""`)), 422, "body.intent.target.node"},
		"envelope null":             {post(with(intent, `null`)), 400, "null"},
		"envelope as JSON":          {post(with(intent, `{"payload":""}`)), 422, "body.envelope"},
		"envelope not base64":       {post(with(intent, `"e30!"`)), 422, "body.envelope"},
		"envelope without padding":  {post(with(intent, `"e30"`)), 422, "body.envelope"},
		"envelope URL-safe":         {post(with(intent, `"_-8="`)), 422, "body.envelope"},
		"envelope with line end":    {post(with(intent, `"e3\n0="`)), 422, "body.envelope"},
		"envelope trailing bits":    {post(with(intent, `"e31="`)), 422, "body.envelope"},
		"envelope too large":        {post(with(intent, `"`+base64.StdEncoding.EncodeToString(make([]byte, signedop.MaxEnvelopeBytes+1))+`"`)), 422, "body.envelope"},
		"a body of 10 MB":           {post(with(intent, `"`+strings.Repeat("A", 10<<20)+`"`)), 413, "262144"},
		"a body just too large":     {post(submission + strings.Repeat(" ", httpapi.MaxBodyBytes+1-len(submission))), 413, "262144"},
		"deep nesting":              {post(strings.Repeat(`{"intent":`, 20000)), 400, "body"},
		"no content type":           {typed(""), 415, "application/json"},
		"form content type":         {typed("application/x-www-form-urlencoded"), 415, "application/json"},
		"text content type":         {typed("text/plain"), 415, "application/json"},
		"another charset":           {typed("application/json; charset=latin1"), 415, "application/json"},
		"a compressed body":         {call{method: "POST", path: "/v1/ops", body: submission, header: map[string]string{"Content-Encoding": "gzip"}}, 415, "compressed"},
		"wait without unit":         {call{method: "POST", path: "/v1/ops?wait=30", body: submission}, 422, "query.wait"},
		"wait negative":             {call{method: "POST", path: "/v1/ops?wait=-1s", body: submission}, 422, "query.wait"},
		"wait huge":                 {call{method: "POST", path: "/v1/ops?wait=9999h", body: submission}, 422, "query.wait"},
		"wait too long by a second": {call{method: "POST", path: "/v1/ops?wait=5m1s", body: submission}, 422, "query.wait"},
		"wait endless text":         {call{method: "POST", path: "/v1/ops?wait=" + strings.Repeat("1", 9000), body: submission}, 422, "query.wait"},
		"an unknown parameter":      {call{method: "POST", path: "/v1/ops?dry_run=1", body: submission}, 422, "query.dry_run"},
		"PUT":                       {call{method: "PUT", path: "/v1/ops", body: submission}, 405, "GET"},
		"DELETE":                    {call{method: "DELETE", path: "/v1/ops"}, 405, "GET"},
		"another path":              {call{method: "POST", path: "/v1/ops/", body: submission}, 404, "openapi"},
		"an unclean path":           {call{method: "POST", path: "//v1/../v1/ops", body: submission}, 404, "openapi"},
		"another host":              {call{method: "POST", path: "/v1/ops", body: submission, host: "evil.example:7420"}, 421, "loopback"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			w := s.do(c.call)
			wantStatus(t, w, c.status)
			problemOf(t, w)
			if !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("answer %s, want it to say %q", w.Body, c.says)
			}
			if n := w.Body.Len(); n > 4096 {
				t.Errorf("the answer has %d bytes, want no more than 4096", n)
			}
			if got := s.engine.submissions(); len(got) != 0 {
				t.Errorf("the engine got %d submissions, want none", len(got))
			}
		})
	}
}

func TestManyMistakesGiveABoundedAnswer(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"intent":{}`)
	for range 9000 {
		b.WriteString(`,"` + strings.Repeat("x", 8) + time.Duration(b.Len()).String() + `":1`)
	}
	b.WriteString("}")
	w := newSite(t).do(call{method: "POST", path: "/v1/ops", body: b.String()})
	wantStatus(t, w, 422)
	if p := problemOf(t, w); len(p.Errors) != 20 {
		t.Errorf("%d errors shown, want 20", len(p.Errors))
	}
}

func TestWaitGivesTheEndOfTheOp(t *testing.T) {
	s := newSite(t)
	var patience time.Duration
	s.engine.wait = func(ctx context.Context, n op.Nonce) engine.Answer {
		deadline, _ := ctx.Deadline()
		patience = time.Until(deadline)
		if n != nonce {
			t.Errorf("waited for %q, want %q", n, nonce)
		}
		return answered(engine.Succeeded, op.StateSucceeded)
	}
	wantStatus(t, s.submit("?wait=5m"), 200)
	if patience <= 4*time.Minute || patience > 5*time.Minute {
		t.Errorf("the engine was given %s, want 5m", patience)
	}
}

func TestWithoutWaitTheAnswerIsTheClaim(t *testing.T) {
	for _, query := range []string{"", "?wait=", "?wait=0s"} {
		s := newSite(t)
		s.engine.wait = func(context.Context, op.Nonce) engine.Answer {
			t.Error("the engine was asked to wait")
			return engine.Answer{}
		}
		wantStatus(t, s.submit(query), 202)
	}
}

func TestDrainEndsWaitingAndTakesNothingNew(t *testing.T) {
	s := newSite(t)
	waiting := make(chan struct{})
	s.engine.wait = func(ctx context.Context, _ op.Nonce) engine.Answer {
		close(waiting)
		<-ctx.Done()
		return inFlight()
	}
	done := make(chan int)
	go func() { done <- s.submit("?wait=5m").Code }()
	<-waiting
	s.api.Drain()
	if got := <-done; got != 202 {
		t.Errorf("whoever waited got %d, want 202", got)
	}
	w := s.submit("")
	wantStatus(t, w, 503)
	if p := problemOf(t, w); p.Reason != "stopping" {
		t.Errorf("reason %q, want stopping", p.Reason)
	}
	if n := len(s.engine.submissions()); n != 1 {
		t.Errorf("the engine got %d submissions, want the first alone", n)
	}
	wantStatus(t, s.do(call{method: "GET", path: "/readyz"}), 503)
	wantStatus(t, s.do(call{method: "GET", path: "/healthz"}), 200)
	wantStatus(t, s.do(call{method: "GET", path: "/v1/ops"}), 200)
}

func TestTooManyRequestsAreTurnedAway(t *testing.T) {
	s := newSite(t, func(c *httpapi.Config) { c.MaxConcurrent = 1 })
	inside, leave := make(chan struct{}), make(chan struct{})
	s.engine.run = func(context.Context, engine.Submission) engine.Answer {
		close(inside)
		<-leave
		return inFlight()
	}
	done := make(chan int)
	go func() { done <- s.submit("").Code }()
	<-inside
	w := s.submit("")
	wantStatus(t, w, 503)
	if p := problemOf(t, w); p.Reason != "busy" {
		t.Errorf("reason %q, want busy", p.Reason)
	}
	wantStatus(t, s.do(call{method: "GET", path: "/healthz"}), 200) // is still told
	close(leave)
	if got := <-done; got != 202 {
		t.Errorf("the first got %d, want 202", got)
	}
	wantStatus(t, s.do(call{method: "GET", path: "/v1/ops"}), 200) // there is room again
}

func TestAPanicIsAnErrorOfTheService(t *testing.T) {
	s := newSite(t)
	s.engine.run = func(context.Context, engine.Submission) engine.Answer { panic(errors.New("boom")) }
	w := s.submit("")
	wantStatus(t, w, http.StatusInternalServerError)
	if p := problemOf(t, w); p.Reason != "internal" || strings.Contains(p.Detail, "boom") {
		t.Errorf("problem %+v, want reason internal and nothing of what went wrong inside", p)
	}
	if !strings.Contains(s.log.String(), "boom") {
		t.Errorf("log %s, want it to say what went wrong", s.log)
	}
	s.engine.run = func(context.Context, engine.Submission) engine.Answer { return inFlight() }
	wantStatus(t, s.submit(""), 202) // the next one is served
}
