package httpapi_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"writ/adapters/httpapi"
	"writ/domain/engine"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
	"writ/projections/viewtest"
)

// resolution is one of the nonce, signed by alice.
func resolution(t *testing.T, n op.Nonce, change ...func(*signedop.Resolution)) []byte {
	t.Helper()
	seed := sha256.Sum256([]byte("alice"))
	signer, err := signedop.NewRawSigner(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	r := signedop.Resolution{
		Version: 1, Nonce: n, Audience: "lab/" + string(ledger), Attempt: 1, Revision: 1,
		Verdict: signedop.VerdictFailed, Effect: op.EffectUnknown,
		Role: "resolver", RequestedBy: "alice", NotBefore: now, ExpiresAt: now.Add(time.Hour), Reason: "node pve1 burned down",
	}
	for _, c := range change {
		c(&r)
	}
	raw, err := signedop.SealResolution(r, signer)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func resolve(n op.Nonce, raw []byte) call {
	return call{
		method: "POST", path: "/v1/recovery/" + string(n) + "/resolve",
		body: fmt.Sprintf(`{"envelope":%q}`, base64.StdEncoding.EncodeToString(raw)),
	}
}

func TestStatusSaysWhatBecameOfAResolution(t *testing.T) {
	refused := func(r gate.Reason) engine.Answer {
		return engine.Answer{Outcome: engine.RefusedByGate, Reason: r, Detail: "because"}
	}
	for name, c := range map[string]struct {
		answer engine.Answer
		status int
		reason string // of a problem
		want   httpapi.Settled
	}{
		"succeeded":    {answered(engine.Succeeded, op.StateSucceeded), 200, "", httpapi.Settled{State: "succeeded", Effect: "done", Spent: true}},
		"failed":       {failedAs(op.KindResolved, op.EffectUnknown, "what happened"), 200, "", httpapi.Settled{State: "failed", Effect: "unknown", Spent: true}},
		"failed clean": {failedAs(op.KindResolved, op.EffectNone, "what happened"), 200, "", httpapi.Settled{State: "failed", Effect: "none"}},
		"conflict":     {answered(engine.Conflict, op.StateLaunching), 409, "conflict", httpapi.Settled{}},
		"held":         {engine.Answer{Outcome: engine.Conflict, Nonce: nonce, Detail: "being worked on"}, 409, "held", httpapi.Settled{}},
		"unsigned":     {refused(gate.Unsigned), 403, "unsigned", httpapi.Settled{}},
		"role":         {refused(gate.RoleNotPermitted), 403, "role-not-permitted", httpapi.Settled{}},
		"malformed":    {refused(gate.Malformed), 422, "malformed", httpapi.Settled{}},
		"unavailable":  {engine.Answer{Outcome: engine.Unavailable, Nonce: nonce, Detail: "down"}, 503, "unavailable", httpapi.Settled{}},
		"corrupt":      {engine.Answer{Outcome: engine.Corrupt, Nonce: nonce, Detail: "broken chain"}, 500, "corrupt", httpapi.Settled{}},
		"no outcome":   {engine.Answer{}, 500, "corrupt", httpapi.Settled{}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, withToken(httpapi.Resolve))
			raw := resolution(t, nonce)
			s.engine.settle = func(got []byte, caller string) engine.Answer {
				if string(got) != string(raw) || caller != "controller" {
					t.Errorf("the engine got %q of %q, want exactly what was sent", got, caller)
				}
				return c.answer
			}
			r := resolve(nonce, raw)
			r.header = map[string]string{"Authorization": "Bearer " + token}
			w := s.do(r)
			wantStatus(t, w, c.status)
			if strings.Contains(w.Body.String(), string(nonce)) {
				t.Errorf("the answer holds the whole nonce: %s", w.Body)
			}
			if c.status != 200 {
				if p := problemOf(t, w); p.Reason != c.reason {
					t.Errorf("reason %q, want %q", p.Reason, c.reason)
				}
				if again := w.Header().Get("Retry-After") != ""; again != (c.reason == "held" || c.status == 503) {
					t.Errorf("Retry-After given: %t", again)
				}
				return
			}
			c.want.NonceShort, c.want.OpID, c.want.Attempt, c.want.Detail, c.want.Since = "6f1c9a0e…", "0a1b", 2, "what happened", since
			if got := decode[httpapi.Settled](t, w); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestStatusSaysWhatBecameOfAVoid(t *testing.T) {
	for name, c := range map[string]struct {
		answer engine.Answer
		status int
		reason string
	}{
		"voided":                {answered(engine.Voided, op.StateVoided), 200, ""},
		"never seen and voided": {engine.Answer{Outcome: engine.Voided, Nonce: nonce, State: op.StateVoided, Since: since, Detail: "taken back"}, 200, ""},
		"started":               {answered(engine.InFlight, op.StateStarted), 409, "in-flight"},
		"launching":             {answered(engine.InFlight, op.StateLaunching), 409, "in-flight"},
		"succeeded":             {answered(engine.Succeeded, op.StateSucceeded), 409, "nonce-spent"},
		"failed with an effect": {failedAs(op.KindTaskFailed, op.EffectPartial, "lvremove failed"), 409, "nonce-spent"},
		"unavailable":           {engine.Answer{Outcome: engine.Unavailable, Nonce: nonce, Detail: "down"}, 503, "unavailable"},
		"corrupt":               {engine.Answer{Outcome: engine.Corrupt, Nonce: nonce, Detail: "broken chain"}, 500, "corrupt"},
		"no outcome":            {engine.Answer{}, 500, "corrupt"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.engine.void = func(n op.Nonce, by, reason string) engine.Answer {
				if n != nonce || by != "local" || reason != "wrong guest" {
					t.Errorf("the engine got %q, %q, %q", string(n), by, reason)
				}
				return c.answer
			}
			w := s.do(call{method: "POST", path: "/v1/ops/" + string(nonce) + "/void", body: `{"reason":"wrong guest"}`})
			wantStatus(t, w, c.status)
			if c.status != 200 {
				p := problemOf(t, w)
				if p.Reason != c.reason {
					t.Errorf("reason %q, want %q", p.Reason, c.reason)
				}
				if f := c.answer.Failure; f != nil && p.Effect != string(f.Effect) {
					t.Errorf("effect %q, want %q", p.Effect, f.Effect)
				}
				return
			}
			if got := decode[httpapi.Settled](t, w); got.State != "voided" || !got.Spent || got.NonceShort != "6f1c9a0e…" {
				t.Errorf("got %+v, want it voided and spent", got)
			}
		})
	}
}

// The site's engine fails the test if it is asked.
func TestBadResolutionsAndVoidsNeverReachTheEngine(t *testing.T) {
	path := "/v1/recovery/" + string(nonce) + "/resolve"
	void := "/v1/ops/" + string(nonce) + "/void"
	post := func(path, body string) call { return call{method: "POST", path: path, body: body} }
	for name, c := range map[string]struct {
		call   call
		status int
		says   string
	}{
		"of another op":         {resolve(viewtest.Nonce(7), resolution(t, nonce)), 409, "about op 6f1c9a0e…"},
		"no nonce":              {resolve("xyz", resolution(t, nonce)), 422, "path.nonce"},
		"a nonce in capitals":   {resolve(op.Nonce(strings.ToUpper(string(nonce))), resolution(t, nonce)), 422, "path.nonce"},
		"no body":               {post(path, ""), 400, "body"},
		"no envelope":           {post(path, `{}`), 422, "envelope"},
		"an empty envelope":     {post(path, `{"envelope":""}`), 422, "envelope"},
		"no base64":             {post(path, `{"envelope":"e30!"}`), 422, "body.envelope"},
		"an unknown member":     {post(path, `{"envelope":"e30=","force":true}`), 422, "body.force"},
		"an unknown parameter":  {post(path+"?force=1", `{"envelope":"e30="}`), 422, "query.force"},
		"10 MB":                 {post(path, `{"envelope":"`+strings.Repeat("A", 10<<20)+`"}`), 413, "262144"},
		"GET":                   {get(path), 405, "POST"},
		"void of no nonce":      {post("/v1/ops/xyz/void", `{"reason":"r"}`), 422, "path.nonce"},
		"void without body":     {post(void, ""), 400, "body"},
		"void without reason":   {post(void, `{}`), 422, "reason"},
		"void, an empty reason": {post(void, `{"reason":""}`), 422, "body.reason"},
		"void, a long reason":   {post(void, `{"reason":"`+strings.Repeat("x", 1025)+`"}`), 422, "body.reason"},
		"void, unknown member":  {post(void, `{"reason":"r","force":true}`), 422, "body.force"},
		"void, another type":    {call{method: "POST", path: void, body: `{"reason":"r"}`, header: map[string]string{"Content-Type": "text/plain"}}, 415, "application/json"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newSite(t).do(c.call)
			wantStatus(t, w, c.status)
			problemOf(t, w)
			if !strings.Contains(w.Body.String(), c.says) || strings.Contains(w.Body.String(), string(nonce)) {
				t.Errorf("answer %s, want it to say %q and not the whole nonce", w.Body, c.says)
			}
		})
	}
}

// What is no resolution at all reaches the gate, which refuses it on record.
func TestWhatIsNoResolutionIsForTheGateToRefuse(t *testing.T) {
	s := newSite(t)
	for _, raw := range []string{"{}", "\x00\xff"} {
		var got string
		s.engine.settle = func(raw []byte, _ string) engine.Answer {
			got = string(raw)
			return engine.Answer{Outcome: engine.RefusedByGate, Reason: gate.Malformed, Detail: "no envelope"}
		}
		wantStatus(t, s.do(resolve(nonce, []byte(raw))), 422)
		if got != raw {
			t.Errorf("the engine got %q, want %q", got, raw)
		}
	}
}
