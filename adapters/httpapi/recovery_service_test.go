package httpapi_test

import (
	"encoding/base64"
	"fmt"
	"testing"

	"writ/adapters/httpapi"
	"writ/domain/op"
	"writ/domain/signedop"
)

// stuck submits a writ whose request is lost on a host that can't be fenced,
// and gives it as the recovery queue shows it once it is indeterminate.
func (w *whole) stuck(raw []byte) httpapi.RecoveryItem {
	w.t.Helper()
	w.host.set(func() { w.host.lost = true })
	var a httpapi.Answer
	if code := w.submit(raw, "?wait=1m", &a); code != 202 || a.Outcome != "indeterminate" {
		w.t.Fatalf("submit: %d %+v, want 202 indeterminate", code, a)
	}
	r := w.recovery()
	if len(r.Ops) != 1 || !r.Ops[0].Indeterminate || r.Ops[0].Detail == "" {
		w.t.Fatalf("recovery: got %+v, want the op, indeterminate", r)
	}
	return r.Ops[0]
}

func (w *whole) recovery() httpapi.Recovery {
	w.t.Helper()
	var r httpapi.Recovery
	if code := w.ask("GET", "/v1/recovery", "", &r); code != 200 {
		w.t.Fatalf("recovery: %d %+v", code, r)
	}
	return r
}

func (w *whole) resolve(raw []byte, out any) int {
	w.t.Helper()
	return w.ask("POST", "/v1/recovery/"+string(nonce)+"/resolve", fmt.Sprintf(`{"envelope":%q}`, base64.StdEncoding.EncodeToString(raw)), out)
}

func TestAnIndeterminateOpIsSettledByASignedResolution(t *testing.T) {
	w := newWhole(t)
	writ := w.order()
	it := w.stuck(writ)
	if it.Nonce != string(nonce) || it.State != "launching" || it.Revision == nil || *it.Revision != 1 || it.Attempt != 1 || len(it.Look) == 0 {
		t.Fatalf("queue: got %+v, want the op in state launching at revision 1", it)
	}
	as := func(effect op.Effect) func(*signedop.Resolution) {
		return func(r *signedop.Resolution) { r.Attempt, r.Revision, r.Effect = it.Attempt, *it.Revision, effect }
	}
	for name, c := range map[string]struct {
		raw    []byte
		status int
		reason string
	}{
		"another attempt": {resolution(t, nonce, func(r *signedop.Resolution) { r.Attempt = 2 }), 409, "conflict"},
		"an older state":  {resolution(t, nonce, func(r *signedop.Resolution) { r.Revision = 2 }), 409, "conflict"},
		"another role":    {resolution(t, nonce, func(r *signedop.Resolution) { r.Role = "operator" }), 403, "role-not-permitted"},
		"a writ":          {writ, 422, "malformed"},
		"no effect, while the request may still act": {resolution(t, nonce, as(op.EffectNone)), 409, "conflict"},
	} {
		var p httpapi.Problem
		if code := w.resolve(c.raw, &p); code != c.status || p.Reason != c.reason {
			t.Errorf("%s: %d %+v, want %d %s", name, code, p, c.status, c.reason)
		}
	}
	good := resolution(t, nonce, as(op.EffectUnknown))
	var settled httpapi.Settled
	if code := w.resolve(good, &settled); code != 200 || settled.State != "failed" || settled.Effect != "unknown" || !settled.Spent {
		t.Fatalf("resolve: %d %+v, want it failed, effect unknown, spent", code, settled)
	}
	var p httpapi.Problem
	if code := w.resolve(good, &p); code != 409 || p.State != "failed" || p.Effect != "unknown" {
		t.Errorf("the same again: %d %+v, want 409 with state and effect", code, p)
	}
	if code := w.submit(writ, "", &p); code != 409 || p.Reason != "nonce-spent" {
		t.Errorf("the writ again: %d %+v, want nonce-spent", code, p)
	}
	if r := w.recovery(); len(r.Ops) != 0 {
		t.Errorf("recovery: got %+v, want none", r.Ops)
	}
	var o httpapi.Op
	if code := w.ask("GET", "/v1/ops/"+string(nonce), "", &o); code != 200 || o.Effect != "unknown" {
		t.Fatalf("op: %d %+v", code, o)
	}
	var failed op.Failed
	if err := op.Unmarshal(o.Events[len(o.Events)-1].Data, &failed); err != nil || failed.Resolution == nil || string(failed.Resolution.Envelope) != string(good) {
		t.Errorf("last event: got %+v (%v), want the resolution whole", failed, err)
	}
}

func TestEffectNoneLetsTheSameWritRunOnceMore(t *testing.T) {
	w := newWhole(t)
	writ := w.order()
	it := w.stuck(writ)
	w.host.set(func() { w.host.fenced, w.host.lost = true, false })
	var settled httpapi.Settled
	raw := resolution(t, nonce, func(r *signedop.Resolution) { r.Revision, r.Effect = *it.Revision, op.EffectNone })
	if code := w.resolve(raw, &settled); code != 200 || settled.Spent || settled.Effect != "none" {
		t.Fatalf("resolve: %d %+v, want it failed without effect and not spent", code, settled)
	}
	close(w.host.hold)
	var a httpapi.Answer
	if code := w.submit(writ, "?wait=1m", &a); code != 200 || a.Attempt != 2 {
		t.Errorf("the writ again: %d %+v, want attempt 2 to succeed", code, a)
	}
}

func TestAVoidedWritNeverRuns(t *testing.T) {
	w := newWhole(t)
	void := func(n op.Nonce, out any) int {
		return w.ask("POST", "/v1/ops/"+string(n)+"/void", `{"reason":"wrong guest"}`, out)
	}
	for _, time := range []string{"first", "again"} {
		var settled httpapi.Settled
		if code := void(nonce, &settled); code != 200 || settled.State != "voided" || !settled.Spent {
			t.Fatalf("void, %s: %d %+v, want it voided", time, code, settled)
		}
	}
	var p httpapi.Problem
	if code := w.submit(w.order(), "", &p); code != 409 || p.Reason != "nonce-spent" {
		t.Errorf("submit: %d %+v, want 409 nonce-spent", code, p)
	}
	if w.host.launches != 0 {
		t.Errorf("the host got %d requests, want none", w.host.launches)
	}
	var o httpapi.Op
	if code := w.ask("GET", "/v1/ops/"+string(nonce), "", &o); code != 200 || o.State != "voided" || len(o.Events) != 1 {
		t.Fatalf("op: %d %+v, want it voided by one event", code, o)
	}
	var v op.Voided
	if err := op.Unmarshal(o.Events[0].Data, &v); err != nil || v.VoidedBy != "controller" || v.Reason != "wrong guest" {
		t.Errorf("event: got %+v (%v), want who and why", v, err)
	}
}

func TestAnOpUnderWayCantBeVoided(t *testing.T) {
	w := newWhole(t)
	w.stuck(w.order())
	var p httpapi.Problem
	if code := w.ask("POST", "/v1/ops/"+string(nonce)+"/void", `{"reason":"too late"}`, &p); code != 409 || p.Reason != "in-flight" || p.State != "launching" {
		t.Errorf("void: %d %+v, want 409 in-flight", code, p)
	}
}
