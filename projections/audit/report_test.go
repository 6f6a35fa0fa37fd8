package audit_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"writ/domain/gate"
	"writ/domain/op"
	"writ/projections/audit"
)

// shown are the three forms of a report.
func shown(t *testing.T, name string, r *audit.Report) {
	t.Helper()
	var text, html bytes.Buffer
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteHTML(&html); err != nil {
		t.Fatal(err)
	}
	data, err := r.JSON()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, name+".txt", text.Bytes())
	golden(t, name+".html", html.Bytes())
	golden(t, name+".json", append(data, '\n'))
	for form, got := range map[string]string{"text": text.String(), "html": html.String(), "json": string(data)} {
		for _, n := range []string{"done", "in flight", "second attempt"} {
			if strings.Contains(got, string(nonce(n))) {
				t.Errorf("the %s shows a nonce whole", form)
			}
		}
	}
}

func TestReports(t *testing.T) {
	t.Run("sound", func(t *testing.T) {
		shown(t, "sound", verify(t, wholeRecord(t).memory, audit.Options{}))
	})
	t.Run("damaged", func(t *testing.T) {
		l := wholeEvents(t)
		l[l.find(t, nonce("done").Stream(), 3)].Data = []byte("<script>alert(1)</script>\x1b[2J")
		i := l.find(t, nonce("in flight").Stream(), 0)
		l[i].Type = "<b>\x1b]0;title\a"
		shown(t, "damaged", verify(t, l, audit.Options{}))
	})
	t.Run("today", func(t *testing.T) {
		doc := policyDocument("100-107")
		p, err := gate.Compile(doc, 3)
		if err != nil {
			t.Fatal(err)
		}
		r := verify(t, wholeRecord(t).memory, audit.Options{Today: p, Limit: 3})
		if r.Today.Allowed != 4 || r.Today.Refused != 7 || r.Today.ByReason["out-of-scope"] != 7 || len(r.Today.Ops) != 3 {
			t.Errorf("got %+v, want 4 allowed and 7 out of scope, three of them listed", r.Today)
		}
		if !r.Sound {
			t.Error("what today's policy says makes the record unsound")
		}
		shown(t, "today", r)
	})
}

func TestFindingsBeyondTheLimitAreCounted(t *testing.T) {
	l := wholeEvents(t)
	for i := range l {
		l[i].ID[0]++
	}
	r := verify(t, l, audit.Options{Limit: 2})
	if len(r.Findings) != 2 || r.Omitted() != r.FindingsByKind[audit.WrongID]-2 || r.Omitted() < 10 {
		t.Errorf("listed %d, omitted %d of %v, want 2 listed and the rest counted", len(r.Findings), r.Omitted(), r.FindingsByKind)
	}
	if r.Findings[0].Position >= r.Findings[1].Position {
		t.Errorf("positions %d and %d, want the first ones in order", r.Findings[0].Position, r.Findings[1].Position)
	}
}

func TestEveryKindHasAMeaning(t *testing.T) {
	for _, k := range audit.Kinds() {
		if k.Meaning() == "unknown kind" {
			t.Errorf("%s: no meaning", k)
		}
	}
}

func TestWhy(t *testing.T) {
	rec := wholeRecord(t)
	data := export(t, rec.memory)
	for _, name := range []string{"done", "second attempt", "on people's word", "nobody knows", "in flight", "adopted", "voided", "too late", "after the rollback"} {
		t.Run(name, func(t *testing.T) {
			n := string(nonce(name))
			s, err := audit.Why(context.Background(), audit.OfStore(rec.memory), n)
			if err != nil {
				t.Fatal(err)
			}
			var text bytes.Buffer
			if err := s.WriteText(&text); err != nil {
				t.Fatal(err)
			}
			golden(t, "why-"+strings.NewReplacer(" ", "-", "'", "").Replace(name)+".txt", text.Bytes())
			if len(s.Findings) != 0 || strings.Contains(text.String(), n) {
				t.Errorf("findings %+v (want none), nonce shown whole: %t", s.Findings, strings.Contains(text.String(), n))
			}
			for from, given := range map[string]string{"the export": n, "the beginning of its nonce": n[:8], "a shortened nonce": n[:8] + "…"} {
				src, err := audit.OpenExport(bytes.NewReader(data), 0)
				if err != nil {
					t.Fatal(err)
				}
				same, err := audit.Why(context.Background(), src, given)
				if err != nil {
					t.Fatalf("from %s: %v", from, err)
				}
				var got bytes.Buffer
				if err := same.WriteText(&got); err != nil {
					t.Fatal(err)
				}
				if got.String() != text.String() {
					t.Errorf("from %s: got\n%s\nwant\n%s", from, &got, &text)
				}
			}
		})
	}
}

func TestWhyOfADamagedOp(t *testing.T) {
	l := wholeEvents(t)
	i := l.find(t, nonce("done").Stream(), 1)
	l[i].Data = bytes.Replace(l[i].Data, []byte("/qemu/105"), []byte("/qemu/106"), 1)
	s, err := audit.Why(context.Background(), audit.OfStore(l), string(nonce("done")))
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Findings) != 1 || s.Findings[0].Kind != audit.Altered || len(s.Steps) != 4 || !strings.Contains(s.Headline, "damaged") {
		t.Errorf("got %+v, want one finding and all four steps", s)
	}
}

func TestWhyOfNothing(t *testing.T) {
	src := audit.OfStore(wholeRecord(t).memory)
	if _, err := audit.Why(context.Background(), src, "00000000"); !errors.Is(err, audit.ErrNotOnRecord) {
		t.Errorf("got %v, want %v", err, audit.ErrNotOnRecord)
	}
	for _, given := range []string{"", "abc", "ABCDEF0123", "zzzzzzzz", strings.Repeat("0", op.MaxNonceDigits+1)} {
		if _, err := audit.Why(context.Background(), src, given); err == nil || errors.Is(err, audit.ErrNotOnRecord) {
			t.Errorf("%q: got %v, want that it is no nonce", given, err)
		}
	}
}
