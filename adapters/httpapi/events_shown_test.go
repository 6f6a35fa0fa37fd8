package httpapi_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"writ/adapters/httpapi"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
	"writ/projections/viewtest"
)

// signed gives an envelope that is valid from since on, for as long as is said.
func signed(t *testing.T, n op.Nonce, valid time.Duration) []byte {
	t.Helper()
	seed := sha256.Sum256([]byte("alice"))
	signer, err := signedop.NewRawSigner(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := signedop.Seal(signedop.Document{
		Version: 1, Nonce: n, Audience: "lab/" + string(ledger), Class: op.GuestDestroy,
		Target: op.Target{Node: "pve1", Guest: &op.Guest{Type: op.QEMU, VMID: 105}},
		Expect: signedop.Expect{SMBIOSUUID: "5c6f0f0e-7a3b-4d1c-9e2f-0a1b2c3d4e5f", Volumes: []string{"local-lvm:vm-105-disk-0"}},
		Role:   "operator", RequestedBy: "alice", NotBefore: since, ExpiresAt: since.Add(valid), Reason: "retire web-3",
	}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// claim begins the next attempt with an envelope.
func claim(s *viewtest.Story, envelope []byte) eventstore.Recorded {
	h := s.Header()
	h.Attempt++
	h.OpID = op.OpID(nonce, h.Attempt, op.Claim{1})
	return s.Append(&op.Started{
		Header: h, Claim: op.Claim{1}, Intent: op.Intent{Class: h.Class, Target: h.Target}, Envelope: envelope,
		PayloadSHA256: op.DigestOf([]byte("payload")), Signers: []op.Signer{{Person: "alice", Key: "SHA256:x"}}, Role: "operator",
	})
}

// seen gives all that a subscriber is sent of what is on record now, and the
// bytes it came in.
func (s *site) seen(t *testing.T) (events []httpapi.LedgerEvent, body []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	w := &untilCaughtUp{cancel: cancel, ResponseRecorder: newRecorder()}
	s.api.Handler().ServeHTTP(w, newRequest(t, "GET", "/v1/events").WithContext(ctx))
	if !strings.Contains(w.Body.String(), "event: caught-up") {
		t.Fatalf("the stream ended early: %s", w.Body)
	}
	for _, e := range parseEvents(w.Body.Bytes()) {
		if e.name == "" && e.data != "" {
			var v httpapi.LedgerEvent
			if err := json.Unmarshal([]byte(e.data), &v); err != nil {
				t.Fatal(err)
			}
			events = append(events, v)
		}
	}
	return events, w.Body.Bytes()
}

// What may still be submitted is not shown to whoever may read: they could
// deliver it again as soon as its attempt has ended without an effect.
func TestAnEnvelopeIsShownOnlyOnceItCanRunNoMore(t *testing.T) {
	const valid = time.Hour
	during, after := since.Add(30*time.Minute), since.Add(valid+gate.MaxClockSkew)
	for name, c := range map[string]struct {
		then  func(s *viewtest.Story) // what has happened after the claim
		now   time.Time
		shown bool
	}{
		"started":                                {func(*viewtest.Story) {}, during, false},
		"launching":                              {func(s *viewtest.Story) { s.Launching() }, during, false},
		"task running":                           {func(s *viewtest.Story) { s.Launching(); s.Running("u") }, during, false},
		"failed without an effect":               {func(s *viewtest.Story) { s.Launching(); s.Failed(op.KindRejected, op.EffectNone) }, during, false},
		"applied":                                {func(s *viewtest.Story) { s.Launching(); s.Running("u"); s.Succeeded() }, during, true},
		"failed in part":                         {func(s *viewtest.Story) { s.Launching(); s.Failed(op.KindTaskFailed, op.EffectPartial) }, during, true},
		"failed, and nobody knows":               {func(s *viewtest.Story) { s.Launching(); s.Failed(op.KindTaskFailed, op.EffectUnknown) }, during, true},
		"failed and voided":                      {func(s *viewtest.Story) { s.Failed(op.KindInterrupted, op.EffectNone); s.Voided() }, during, true},
		"in flight, expired":                     {func(s *viewtest.Story) { s.Launching() }, after, true},
		"failed without an effect, expired":      {func(s *viewtest.Story) { s.Failed(op.KindInterrupted, op.EffectNone) }, after, true},
		"failed, expired by this clock just now": {func(s *viewtest.Story) { s.Failed(op.KindInterrupted, op.EffectNone) }, since.Add(valid), false},
		"failed, a moment before":                {func(s *viewtest.Story) { s.Failed(op.KindInterrupted, op.EffectNone) }, after.Add(-1), false},
		"its stream is corrupt":                  {func(s *viewtest.Story) { s.Launching(); s.Write(op.TypeSucceeded, []byte(`{}`)) }, during, false},
		"its stream is corrupt, expired":         {func(s *viewtest.Story) { s.Launching(); s.Write(op.TypeSucceeded, []byte(`{}`)) }, after, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(cfg *httpapi.Config) { cfg.Now = func() time.Time { return c.now } })
			story := viewtest.NewStory(t, s.store, nonce)
			envelope := signed(t, nonce, valid)
			rec := claim(story, envelope)
			c.then(story)
			events, body := s.seen(t)
			got := events[0]
			secret := base64.StdEncoding.EncodeToString(envelope)
			if has := bytes.Contains(body, []byte(secret)); has != c.shown {
				t.Errorf("the envelope is shown: %t, want %t", has, c.shown)
			}
			if c.shown {
				if got.Withheld != "" || !bytes.Equal(got.Data, rec.Data) {
					t.Errorf("withheld %q, data %s; want the very bytes on record", got.Withheld, got.Data)
				}
				return
			}
			// All but the envelope is there, and the event says so.
			e, err := op.Decode(op.TypeStarted, got.Data)
			if err != nil || got.Withheld != "envelope" || bytes.Contains(got.Data, []byte(`"envelope"`)) {
				t.Fatalf("withheld %q, data %s (%v); want it without its envelope", got.Withheld, got.Data, err)
			}
			kept, ok := e.(*op.Started)
			if !ok || kept.SubmittedBy != "" || kept.Role != "operator" || len(kept.Signers) != 1 || kept.PayloadSHA256 != op.DigestOf([]byte("payload")) {
				t.Errorf("claim %+v, want all that is not the envelope", kept)
			}
			// One op is asked for by itself, and shown with no envelope ever.
			w := s.do(get("/v1/ops/" + string(nonce)))
			wantStatus(t, w, 200)
			if bytes.Contains(w.Body.Bytes(), []byte(secret)) {
				t.Errorf("the op is shown with its envelope: %s", w.Body)
			}
		})
	}
}

// An envelope in a later attempt is the same one: an earlier event must not
// give it away either, nor one that is not where it belongs.
func TestAnEnvelopeIsNotShownByAnyOtherWay(t *testing.T) {
	envelope := signed(t, nonce, time.Hour)
	secret := base64.StdEncoding.EncodeToString(envelope)
	for name, tell := range map[string]func(t *testing.T, s *site){
		"a second attempt": func(t *testing.T, s *site) {
			story := viewtest.NewStory(t, s.store, nonce)
			claim(story, envelope)
			story.Failed(op.KindInterrupted, op.EffectNone)
			claim(story, envelope)
		},
		"the stream of another op, which is spent": func(t *testing.T, s *site) {
			other := op.Nonce(strings.Repeat("ab", 16))
			rec := claim(viewtest.NewStory(t, storetest.NewMemory(ledger), nonce), envelope)
			story := viewtest.NewStory(t, s.store, other)
			story.Voided()
			write(t, s.store, eventstore.StreamID(other.Stream()), op.TypeStarted, rec.Data)
		},
		"a stream of another kind": func(t *testing.T, s *site) {
			rec := claim(viewtest.NewStory(t, storetest.NewMemory(ledger), nonce), envelope)
			write(t, s.store, "gate-i-1", op.TypeStarted, rec.Data)
		},
		"an event of another type": func(t *testing.T, s *site) {
			write(t, s.store, "gate-i-1", "OpEchoed", []byte(`{"envelope":"`+secret+`"}`))
		},
		"a member that is not known": func(t *testing.T, s *site) {
			write(t, s.store, "gate-i-1", op.TypeRefused, []byte(`{"agent":"lab","instance":"a","at":"2026-11-23T09:00:00Z","reason":"expired","detail":"","envelope":"`+secret+`"}`))
		},
		"a name twice": func(t *testing.T, s *site) {
			rec := claim(viewtest.NewStory(t, storetest.NewMemory(ledger), nonce), envelope)
			data := append(bytes.TrimSuffix(bytes.Clone(rec.Data), []byte("}")), `,"envelope":""}`...)
			write(t, s.store, eventstore.StreamID(nonce.Stream()), op.TypeStarted, data)
		},
		"more than one line": func(t *testing.T, s *site) {
			rec := claim(viewtest.NewStory(t, storetest.NewMemory(ledger), nonce), envelope)
			write(t, s.store, eventstore.StreamID(nonce.Stream()), op.TypeStarted, append([]byte("\n"), rec.Data...))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(cfg *httpapi.Config) { cfg.Now = func() time.Time { return since } })
			tell(t, s)
			events, body := s.seen(t)
			if bytes.Contains(body, []byte(secret)) {
				t.Errorf("the envelope is shown:\n%s", body)
			}
			if !slices.ContainsFunc(events, func(e httpapi.LedgerEvent) bool { return e.Withheld != "" }) {
				t.Errorf("events %+v, want one that says that something is withheld", events)
			}
		})
	}
}

// An op that was tried again and again must not cost a look at all of its
// attempts for each of them.
func TestManyAttemptsCostOneLook(t *testing.T) {
	s := newSite(t, func(cfg *httpapi.Config) { cfg.Now = func() time.Time { return since } })
	story, envelope := viewtest.NewStory(t, s.store, nonce), signed(t, nonce, time.Hour)
	for range 50 {
		claim(story, envelope)
		story.Failed(op.KindInterrupted, op.EffectNone)
	}
	looks := 0
	s.store.OnRead = func(c storetest.ReadCall) (int, error) {
		if c.Stream != "" {
			looks++
		}
		return 0, nil
	}
	events, body := s.seen(t)
	if len(events) != 100 || looks != 1 || bytes.Contains(body, []byte(base64.StdEncoding.EncodeToString(envelope))) {
		t.Errorf("%d events after %d looks at the op, want 100 after one, and no envelope among them", len(events), looks)
	}
}

// Whether an envelope may be shown is asked of the record. Without an answer
// it is not shown, and the event is not left out either.
func TestWhenNobodyKnowsWhetherAnEnvelopeMayBeShown(t *testing.T) {
	bubble(t, func(t *testing.T, s *site, l *pipes) {
		envelope := signed(t, nonce, 24*365*100*time.Hour)
		claim(viewtest.NewStory(t, s.store, nonce), envelope)
		s.store.OnRead = func(c storetest.ReadCall) (int, error) {
			if c.Stream != "" {
				return 0, errors.New("disk on fire")
			}
			return -1, nil
		}
		sub := s.listen(l, "")
		defer sub.conn.Close()
		sub.next()
		if e := sub.next(); e.name != "end" || e.id != "" {
			t.Errorf("got %+v, want the end of the stream and no new place", e)
		}
	})
}

// Whoever adds a type of events must say here whether it may be shown, or those
// who follow the ledger would never see it.
func TestEveryTypeOfEventsIsKnown(t *testing.T) {
	declared := regexp.MustCompile(`\bType[A-Z][A-Za-z]* += "([A-Z][A-Za-z]+)"`)
	n := 0
	for _, dir := range []string{"op", "gate"} {
		files, err := filepath.Glob(filepath.Join("..", "..", "domain", dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, m := range declared.FindAllSubmatch(text, -1) {
				n++
				// Only a type that is known may be filtered for.
				s := newSite(t)
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				r := newRequest(t, "GET", "/v1/events?types="+string(m[1])).WithContext(ctx)
				if w := s.serve(r); w.Code != 200 {
					t.Errorf("%s: %s is not known to those who follow the ledger: %d", file, m[1], w.Code)
				}
			}
		}
	}
	if n < 14 {
		t.Errorf("found %d types of events, want all there are", n)
	}
}

func TestEventsOfAllKindsAreShownAsRecorded(t *testing.T) {
	s := newSite(t)
	want := map[string][]byte{}
	for typ, v := range map[string]any{
		op.TypeRefused:          op.Refused{Agent: "lab", Instance: "i-1", At: since, Reason: "expired"},
		op.TypeRefusalsCounted:  op.RefusalsCounted{Agent: "lab", Instance: "i-1", From: since, To: since, ByReason: map[string]int{"expired": 3}},
		op.TypeContested:        op.Contested{Agent: "lab", Instance: "i-1", At: since, NonceShort: "6f1c9a0e…"},
		op.TypeUPIDAdopted:      op.UPIDAdopted{UPID: "UPID:x", OpID: "0a"},
		op.TypeTookOver:         op.TookOver{Agent: "lab", Instance: "i-1", Epoch: 1, At: since},
		op.TypeAlive:            op.Alive{},
		op.TypeRollbackAccepted: op.RollbackAccepted{},
		op.TypeStoreClosed:      op.StoreClosed{},
		gate.TypeLoaded:         gate.Loaded{Serial: 1, Agent: "lab", Instance: "i-1", At: since},
	} {
		data, err := op.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		write(t, s.store, "a-stream", typ, data)
		want[typ] = data
	}
	events, _ := s.seen(t)
	if len(events) != len(want) {
		t.Errorf("%d events, want %d", len(events), len(want))
	}
	for _, e := range events {
		if e.Withheld != "" || !bytes.Equal(e.Data, want[e.Type]) {
			t.Errorf("%s: withheld %q, data %s; want it as recorded: %s", e.Type, e.Withheld, e.Data, want[e.Type])
		}
	}
}
