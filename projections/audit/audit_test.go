package audit_test

import (
	"bytes"
	"maps"
	"testing"
	"time"

	"writ/domain/gate"
	"writ/domain/op"
	"writ/projections/audit"
)

func TestAWholeRecordIsSound(t *testing.T) {
	r := verify(t, wholeRecord(t).memory, audit.Options{})
	if !r.Sound || !r.Complete {
		t.Fatalf("sound %t, complete %t, want both; findings %+v", r.Sound, r.Complete, r.Findings)
	}
	wantOps := audit.Ops{Total: 11, Succeeded: 6, Failed: 2, FailedClean: 1, Voided: 1, InFlight: 1}
	if r.Counts.Ops != wantOps {
		t.Errorf("ops: got %+v, want %+v", r.Counts.Ops, wantOps)
	}
	want := audit.Counts{
		Events: 52, Policies: 2, TakeOvers: 2, Adoptions: 1, Alive: 2, Ops: wantOps, Attempts: 11, Launches: 9, Refused: 11,
		Claims: 11, LaunchDecisions: 9, Refusals: 4, Resolutions: 2, Signatures: 24,
	}
	if r.Counts != want {
		t.Errorf("counts:\n got %+v\nwant %+v", r.Counts, want)
	}
	if len(r.Rollbacks) != 1 || r.Rollbacks[0].Audience != "00112233445566ff" || len(r.Notes) != 1 {
		t.Errorf("got rollbacks %+v and notes %v, want one of each", r.Rollbacks, r.Notes)
	}
	if len(r.InFlight) != 1 || r.InFlight[0].State != op.StateLaunching {
		t.Errorf("in flight: got %+v, want one that is launching", r.InFlight)
	}
}

func TestTheReportDoesNotDependOnTheWorkers(t *testing.T) {
	events := wholeEvents(t)
	for i := range events { // damage everywhere
		if i%3 == 2 {
			events[i].Data = bytes.Replace(events[i].Data, []byte(`"attempt":1`), []byte(`"attempt":2`), 1)
		}
	}
	var first []byte
	for _, workers := range []int{1, 2, 7} {
		r := verify(t, events, audit.Options{Workers: workers, Limit: 5})
		got, err := op.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = got
		}
		if !bytes.Equal(got, first) {
			t.Errorf("with %d workers: got\n%s\nwant\n%s", workers, got, first)
		}
	}
}

// TestAPolicyThatChangesWhileAnOpWaits shows which policy counts right before a
// launch: the newest, and for a moment the one before it.
func TestAPolicyThatChangesWhileAnOpWaits(t *testing.T) {
	revoked := func(r *record) {
		doc := policyDocument("100-199")
		key := doc.People["bob"].Keys[0]
		key.RevokedAt = r.now.Format("2006-01-02T15:04:05Z")
		doc.People["bob"] = gate.Person{Keys: []gate.Key{key}}
		r.load(doc)
	}
	refusal := func(s *story) *op.Failed {
		f := s.failed(op.KindRefused, op.EffectNone, "the key of bob is revoked")
		f.Reason = string(gate.KeyRevoked)
		return f
	}
	tests := map[string]struct {
		tell func(*record, *story)
		want map[audit.Kind]int
	}{
		"refused by the new one":     {func(_ *record, s *story) { s.put(refusal(s)) }, nil},
		"launched by the one before": {func(_ *record, s *story) { s.put(s.launching()) }, nil},
		"launched by it, long after": {func(r *record, s *story) { r.now = r.now.Add(time.Minute); s.put(s.launching()) }, map[audit.Kind]int{audit.LaunchNotAllowed: 1}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRecord(t)
			r.policy("100-199")
			s := r.story("waits", 105)
			s.put(s.started())
			revoked(r)
			tt.tell(r, s)
			if rep := verify(t, r.memory, audit.Options{}); !maps.Equal(rep.FindingsByKind, tt.want) {
				t.Errorf("got %+v, want %v", rep.Findings, tt.want)
			}
		})
	}
}

// TestPoliciesOfLongAgoAreForgotten puts more policies on record than an audit
// keeps ready.
func TestPoliciesOfLongAgoAreForgotten(t *testing.T) {
	r := newRecord(t)
	r.policy("100-199")
	first := r.story("waits", 105)
	claimed := first.started() // and put on record long after
	for range 40 {
		r.policy("100-199")
	}
	r.story("by the newest", 106).done()
	if rep := verify(t, r.memory, audit.Options{}); !rep.Sound || rep.Counts.Claims != 1 || rep.Counts.Policies != 41 {
		t.Errorf("got %+v, want one claim by the 41st policy", rep)
	}
	first.put(claimed)
	want := map[audit.Kind]int{audit.PolicySuperseded: 1}
	if rep := verify(t, r.memory, audit.Options{}); !maps.Equal(rep.FindingsByKind, want) || len(rep.NotRerun) != 1 {
		t.Errorf("got %+v and %v, want %v and one decision that can't be taken again", rep.Findings, rep.NotRerun, want)
	}
}

// TestKnownPolicies shows that a forged policy, which the signatures under it
// fit, is told by an auditor who knows the true ones.
func TestKnownPolicies(t *testing.T) {
	var known []op.Digest
	for _, vmids := range []string{"100-199", "100-149"} {
		d, err := audit.PolicyDigest(policyDocument(vmids))
		if err != nil {
			t.Fatal(err)
		}
		known = append(known, d)
	}
	m := wholeRecord(t).memory
	if r := verify(t, m, audit.Options{Known: known}); !r.Sound {
		t.Errorf("with both known: got %+v, want it sound", r.Findings)
	}
	want := map[audit.Kind]int{audit.UnknownPolicy: 1}
	if r := verify(t, m, audit.Options{Known: known[:1]}); !maps.Equal(r.FindingsByKind, want) || r.Sound {
		t.Errorf("with one known: got %v, want %v", r.FindingsByKind, want)
	}
}
