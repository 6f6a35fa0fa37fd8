package audit_test

import (
	"strings"
	"testing"

	"writ/projections/audit"
)

// A launch under an expected plan is sound if that plan was seen, and none other.
func TestExpectedPlanIsComparedAgain(t *testing.T) {
	signed, other := strings.Repeat("0a", 32), strings.Repeat("0b", 32)
	for name, c := range map[string]struct{ expected, seen, found string }{
		"the plan that was signed":   {signed, signed, ""},
		"another plan":               {signed, other, "plan " + other},
		"no plan":                    {signed, "", "no plan read"},
		"a plan that nobody expects": {"", other, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRecord(t)
			r.policy("100-199")
			s := r.story("planned", 105)
			s.doc.Expect.Plan = c.expected
			s.put(s.started())
			l := s.launching()
			l.Observed.Plan = c.seen
			s.put(l).put(s.running()).put(s.succeeded())
			report := verify(t, r.memory, audit.Options{})
			if c.found == "" {
				if !report.Sound || len(report.Findings) > 0 {
					t.Errorf("findings: got %+v, want none", report.Findings)
				}
				return
			}
			if len(report.Findings) != 1 {
				t.Fatalf("findings: got %+v, want one", report.Findings)
			}
			if f := report.Findings[0]; f.Kind != audit.ExpectationUnmet || f.Expected != "plan "+signed || f.Found != c.found {
				t.Errorf("got %+v, want %s: plan %s, found %s", f, audit.ExpectationUnmet, signed, c.found)
			}
		})
	}
}

// Damage that is planted into a sound record is found.
func TestAPlanThatWasTamperedWith(t *testing.T) {
	signed, other := strings.Repeat("0a", 32), strings.Repeat("0b", 32)
	r := newRecord(t)
	r.policy("100-199")
	s := r.story("planned", 105)
	s.doc.Expect.Plan = signed
	s.put(s.started())
	l := s.launching()
	l.Observed.Plan = signed
	s.put(l).put(s.running()).put(s.succeeded())
	events := list(r.events())
	e := &events[events.find(t, s.doc.Nonce.Stream(), 1)]
	e.Data = []byte(strings.Replace(string(e.Data), `"plan":"`+signed, `"plan":"`+other, 1))
	events.reseal(t, s.doc.Nonce.Stream())
	report := verify(t, events, audit.Options{})
	if len(report.Findings) != 1 || report.Findings[0].Kind != audit.ExpectationUnmet || report.Findings[0].Found != "plan "+other {
		t.Errorf("findings: got %+v, want one of an expectation that was not met: plan %s", report.Findings, other)
	}
}
