package httpapi_test

import (
	"strings"
	"testing"

	"writ/domain/signedop"
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
