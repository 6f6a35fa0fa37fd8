package httpapi_test

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"writ/domain/signedop"
	"writ/projections/viewtest"
)

// Whatever is sent, the answer is one that the OpenAPI document announces, and
// what reaches the engine is within the bounds.
func FuzzSubmission(f *testing.F) {
	f.Add("", submission)
	f.Add("?wait=1s", strings.Replace(submission, "qemu", "lxc", 1))
	f.Add("?wait=%zz&wait=2s", `{"intent":{"class":"x","target":{"node":""}},"envelope":"!"}`)
	f.Add("?a=b", `{"intent":null,"intent":[1e999]}`)
	f.Fuzz(func(t *testing.T, query, body string) {
		if strings.ContainsFunc(query, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' }) || query != "" && query[0] != '?' {
			return // no request line
		}
		s := newSite(t)
		w := s.do(call{method: "POST", path: "/v1/ops" + query, body: body})
		if w.Code >= 500 {
			t.Errorf("status %d: %s", w.Code, w.Body)
		}
		for _, sub := range s.engine.submissions() {
			if len(sub.Envelope) > signedop.MaxEnvelopeBytes || len(sub.Intent.Class) > 64*4 || len(sub.Intent.Target.Node) > 63*4 {
				t.Errorf("the engine got %+v", sub)
			}
			if g := sub.Intent.Target.Guest; g != nil && (g.VMID < 100 || g.VMID > 999999999) {
				t.Errorf("the engine got VMID %d", g.VMID)
			}
		}
	})
}

// FuzzFollow: whatever stands in a cursor or a filter, the answer is a stream or
// a problem that names what is wrong.
func FuzzFollow(f *testing.F) {
	f.Add("3f9c2ab41d6e4a70:memory:1", "OpStarted", "op-")
	f.Add("start", "", "")
	f.Add("3f9c2ab41d6e4a70:memory:18446744073709551615", "OpStarted,OpFailed", "gate-,,")
	f.Add(":::", "%", "\x00\xff")
	f.Add("now", "OpTeleported", strings.Repeat("a", 300))
	f.Fuzz(func(t *testing.T, cursor, types, streams string) {
		s := newSite(t)
		viewtest.NewStory(t, s.store, nonce).Started()
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // a stream ends as soon as it has begun
		for _, header := range []string{"", cursor} {
			q := url.Values{"from": {cursor}, "types": {types}, "streams": {streams}}
			r := newRequest(t, "GET", "/v1/events?"+q.Encode()).WithContext(ctx)
			r.Header.Set("Last-Event-ID", header)
			w := s.serve(r)
			switch w.Code {
			case 200, 503: // or the ledger could not be asked any more
			case 412, 422:
				problemOf(t, w)
			default:
				t.Errorf("cursor %q, types %q, streams %q: %d %s", cursor, types, streams, w.Code, w.Body)
			}
		}
	})
}
