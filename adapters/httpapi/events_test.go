package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"writ/adapters/httpapi"
	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/op"
	"writ/projections"
	"writ/projections/viewtest"
)

// A sent is one server-sent event, or a comment with what follows it.
type sent struct {
	name, id, data, comment string
}

// parseEvents reads what is whole in a stream of server-sent events.
func parseEvents(body []byte) []sent {
	var all []sent
	for block := range strings.SplitSeq(string(body), "\n\n") {
		if e := parseEvent(block); e != (sent{}) {
			all = append(all, e)
		}
	}
	return all
}

func parseEvent(block string) (e sent) {
	for line := range strings.SplitSeq(block, "\n") {
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "":
			e.comment = value
		case "event":
			e.name = value
		case "id":
			e.id = value
		case "data":
			e.data += value
		}
	}
	return e
}

// A listener follows a site's ledger over a connection of its own.
type listener struct {
	t    *testing.T
	conn net.Conn
	resp *http.Response
	body *bufio.Reader
}

// listen connects in a bubble. The answer must be a stream.
func (s *site) listen(l *pipes, query string, header ...string) *listener {
	s.t.Helper()
	conn := l.dial()
	fmt.Fprintf(conn, "GET /v1/events%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", query, strings.Join(append(header, ""), "\r\n"))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		s.t.Fatalf("read the answer: %v", err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		text, _ := io.ReadAll(resp.Body)
		s.t.Fatalf("answer %s, %s; want a stream: %s", resp.Status, resp.Header.Get("Content-Type"), text)
	}
	return &listener{t: s.t, conn: conn, resp: resp, body: bufio.NewReader(resp.Body)}
}

// next gives what comes next, however long that takes.
func (l *listener) next() sent {
	l.t.Helper()
	var block strings.Builder
	for {
		line, err := l.body.ReadString('\n')
		if err != nil {
			l.t.Fatalf("the stream ended: %v, after %q", err, block.String())
		}
		if line == "\n" {
			return parseEvent(strings.TrimSuffix(block.String(), "\n"))
		}
		block.WriteString(line)
	}
}

// word gives what comes next that is no comment. In a bubble nobody would ever
// tire of waiting for it.
func (l *listener) word() sent {
	l.t.Helper()
	for range 10 {
		if e := l.next(); e.comment == "" {
			return e
		}
	}
	l.t.Fatal("nothing but heartbeats came")
	return sent{}
}

// event gives the next event of the ledger, and checks its id.
func (l *listener) event() httpapi.LedgerEvent {
	l.t.Helper()
	e := l.word()
	var v httpapi.LedgerEvent
	if err := json.Unmarshal([]byte(e.data), &v); err != nil || e.name != "" {
		l.t.Fatalf("got %+v (%v), want an event of the ledger", e, err)
	}
	if v.Cursor != e.id || v.Cursor == "" {
		l.t.Errorf("id %q and cursor %q, want them the same", e.id, v.Cursor)
	}
	return v
}

// caughtUp checks that the next thing is the notice of that.
func (l *listener) caughtUp() sent {
	l.t.Helper()
	e := l.word()
	if e.name != "caught-up" || !strings.Contains(e.data, e.id) {
		l.t.Fatalf("got %+v, want caught-up", e)
	}
	return e
}

// bubble runs a test of a site that is served in a bubble.
func bubble(t *testing.T, test func(t *testing.T, s *site, l *pipes), opts ...func(*httpapi.Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, opts...)
		l, stop := serveIn(t, s)
		defer stop()
		test(t, s, l)
	})
}

// In a bubble time passes only while everybody waits: what is there at the
// very moment of the append was not found by looking now and then.
func TestEventsComeAsTheyAreRecorded(t *testing.T) {
	bubble(t, func(t *testing.T, s *site, l *pipes) {
		story := viewtest.NewStory(t, s.store, nonce)
		story.Started()
		sub := s.listen(l, "")
		defer sub.conn.Close()
		first := sub.event()
		if first.Type != "OpStarted" || first.Stream != nonce.Stream() || first.Revision != 0 || first.RecordedAt.IsZero() || first.ID == "" || first.Withheld != "" {
			t.Errorf("event %+v, want the OpStarted whole", first)
		}
		if e := sub.caughtUp(); e.id != first.Cursor {
			t.Errorf("caught up at %s, want it at the newest event, %s", e.id, first.Cursor)
		}
		began := time.Now()
		story.Launching()
		rec := story.Running("UPID:pve1:0:0:0:qmdestroy:105:writ@pve!writ:")
		if e := sub.event(); e.Type != "OpLaunching" || e.Revision != 1 {
			t.Errorf("event %+v, want OpLaunching", e)
		}
		e := sub.event()
		if took := time.Since(began); took != 0 {
			t.Errorf("the events came after %s, want them at once", took)
		}
		// Whoever wants to check the chain needs the very bytes.
		if !bytes.Equal(e.Data, rec.Data) || !bytes.Equal(e.Metadata, rec.Metadata) {
			t.Errorf("data %s metadata %s, want them as recorded: %s %s", e.Data, e.Metadata, rec.Data, rec.Metadata)
		}
	})
}

func TestASubscriberGoesOnWhereItWas(t *testing.T) {
	bubble(t, func(t *testing.T, s *site, l *pipes) {
		story := viewtest.NewStory(t, s.store, nonce)
		story.Started()
		story.Launching()
		story.Running("")
		story.Succeeded()
		sub := s.listen(l, "")
		var cursors []string
		for range 4 {
			cursors = append(cursors, sub.event().Cursor)
		}
		_ = sub.conn.Close()
		for name, c := range map[string]struct {
			query, header string
			want          string
		}{
			"from a cursor":                {"?from=" + cursors[1], "X: y", "OpTaskRunning"},
			"by the header":                {"", "Last-Event-ID: " + cursors[2], "OpSucceeded"},
			"the header counts":            {"?from=" + cursors[0], "Last-Event-ID: " + cursors[2], "OpSucceeded"},
			"from the start":               {"?from=start", "X: y", "OpStarted"},
			"an empty header is none":      {"?from=" + cursors[0], "Last-Event-ID:", "OpLaunching"},
			"from the start by its cursor": {"?from=3f9c2ab41d6e4a70:memory:0", "X: y", "OpStarted"},
		} {
			again := s.listen(l, c.query, c.header)
			if got := again.event().Type; got != c.want {
				t.Errorf("%s: first %s, want %s", name, got, c.want)
			}
			_ = again.conn.Close()
		}
		end := s.listen(l, "?from="+cursors[3])
		end.caughtUp()
		_ = end.conn.Close()
	})
}

func TestFollowingFromNow(t *testing.T) {
	bubble(t, func(t *testing.T, s *site, l *pipes) {
		story := viewtest.NewStory(t, s.store, nonce)
		rec := story.Started()
		s.lag = projections.Lag{Applied: eventstore.After(rec.Position)}
		sub := s.listen(l, "?from=now")
		defer sub.conn.Close()
		sub.caughtUp()
		story.Launching()
		if e := sub.event(); e.Type != "OpLaunching" {
			t.Errorf("event %+v, want OpLaunching", e)
		}
	})
}

func TestCursorsThatCantBeFollowed(t *testing.T) {
	s := newSite(t)
	viewtest.NewStory(t, s.store, nonce).Started()
	for name, c := range map[string]struct {
		cursor string
		status int
		reason string
	}{
		"another ledger":       {"0000000000000000:memory:1", 412, "foreign-cursor"},
		"another store":        {"3f9c2ab41d6e4a70:pebble:1", 412, "foreign-cursor"},
		"beyond the end":       {"3f9c2ab41d6e4a70:memory:999999", 412, "cursor-ahead"},
		"the largest position": {"3f9c2ab41d6e4a70:memory:18446744073709551615", 412, "cursor-ahead"},
		"no number":            {"3f9c2ab41d6e4a70:memory:x", 422, "bad-request"},
		"negative":             {"3f9c2ab41d6e4a70:memory:-1", 422, "bad-request"},
		"zeros before it":      {"3f9c2ab41d6e4a70:memory:01", 422, "bad-request"},
		"too large":            {"3f9c2ab41d6e4a70:memory:18446744073709551616", 422, "bad-request"},
		"two parts":            {"3f9c2ab41d6e4a70:1", 422, "bad-request"},
		"four parts":           {"3f9c2ab41d6e4a70:memory:1:2", 422, "bad-request"},
		"a word":               {"end", 422, "bad-request"},
		"enormous":             {strings.Repeat("a", 8000), 422, "bad-request"},
	} {
		t.Run(name, func(t *testing.T) {
			for what, call := range map[string]call{
				"from":   get("/v1/events?from=" + c.cursor),
				"header": {method: "GET", path: "/v1/events", header: map[string]string{"Last-Event-ID": c.cursor}},
			} {
				w := s.do(call)
				wantStatus(t, w, c.status)
				if p := problemOf(t, w); p.Reason != c.reason {
					t.Errorf("by %s: reason %q, want %q", what, p.Reason, c.reason)
				}
			}
		})
	}
}

func TestFilters(t *testing.T) {
	bubble(t, func(t *testing.T, s *site, l *pipes) {
		other := op.Nonce(strings.Repeat("ab", 16))
		one, two := viewtest.NewStory(t, s.store, nonce), viewtest.NewStory(t, s.store, other)
		one.Started()
		two.Started()
		refuse(t, s.store)
		one.Launching()
		two.Failed(op.KindInterrupted, op.EffectNone)
		for query, want := range map[string]string{
			"":                                       "OpStarted OpStarted OpRefused OpLaunching OpFailed",
			"?types=OpStarted":                       "OpStarted OpStarted",
			"?types=OpLaunching,OpFailed":            "OpLaunching OpFailed",
			"?streams=gate-":                         "OpRefused",
			"?streams=op-6f,gate-":                   "OpStarted OpRefused OpLaunching",
			"?streams=op-&types=OpRefused,OpStarted": "OpStarted OpStarted",
			"?streams=policy":                        "",
		} {
			sub := s.listen(l, query)
			var got []string
			for e := sub.next(); e.name != "caught-up"; e = sub.next() {
				var v httpapi.LedgerEvent
				if e.comment == "" && json.Unmarshal([]byte(e.data), &v) == nil {
					got = append(got, v.Type)
				}
			}
			if text := strings.Join(got, " "); text != want {
				t.Errorf("%q: %s, want %s", query, text, want)
			}
			_ = sub.conn.Close()
		}
	})
	s := newSite(t)
	for query, location := range map[string]string{
		"?types=OpStartet": "query.types[0]", "?types=OpStarted,": "query.types[1]", "?streams=" + strings.Repeat("a", 300): "query.streams[0]", "?type=OpStarted": "query.type",
		"?types=" + strings.Repeat("OpStarted,", 40): "query.types",
	} {
		w := s.do(get("/v1/events" + query))
		wantStatus(t, w, 422)
		if p := problemOf(t, w); len(p.Errors) == 0 || p.Errors[0].Location != location {
			t.Errorf("%q: problem %+v, want one of %s", query, p, location)
		}
	}
}

// refuse puts a refusal on record in the stream of a gate.
func refuse(t *testing.T, store eventstore.Store) {
	t.Helper()
	data, err := op.Marshal(op.Refused{Agent: "lab", Instance: "i-1", At: since, Reason: "expired"})
	if err != nil {
		t.Fatal(err)
	}
	write(t, store, "gate-i-1", op.TypeRefused, data)
}

// write puts any bytes on record at the end of a stream.
func write(t *testing.T, store eventstore.Store, stream eventstore.StreamID, typ string, data []byte) {
	t.Helper()
	expected := eventstore.NoStream()
	head, err := store.Head(t.Context(), stream)
	switch {
	case err == nil:
		expected = eventstore.At(head.Revision)
	case !errors.Is(err, eventstore.ErrStreamNotFound):
		t.Fatal(err)
	}
	id := eventstore.EventID(op.EventID(string(stream), uint64(expected.Next()), typ, data))
	if _, err := store.Append(t.Context(), stream, expected, eventstore.Proposed{ID: id, Type: typ, Data: data}); err != nil {
		t.Fatal(err)
	}
}

// What passes no filter still moves the cursor on, or a subscriber of something
// rare would search the whole ledger again each time it connects.
func TestHeartbeatsMoveTheCursor(t *testing.T) {
	bubble(t, func(t *testing.T, s *site, l *pipes) {
		story := viewtest.NewStory(t, s.store, nonce)
		story.Started()
		sub := s.listen(l, "?types=OpVoided")
		defer sub.conn.Close()
		sub.next() // the greeting
		start := sub.caughtUp().id
		began := time.Now()
		if e := sub.next(); e.comment != "heartbeat" || e.id != "" || time.Since(began) != 15*time.Second {
			t.Errorf("%+v after %s, want a heartbeat after 15s without an id, as nothing has moved", e, time.Since(began))
		}
		story.Launching()
		e := sub.next()
		if e.comment != "heartbeat" || e.id == "" || e.id == start {
			t.Fatalf("%+v, want a heartbeat with a cursor behind %s", e, start)
		}
		_ = sub.conn.Close()
		again := s.listen(l, "", "Last-Event-ID: "+e.id)
		defer again.conn.Close()
		if got := again.caughtUp(); got.id != e.id {
			t.Errorf("going on from %s, at %s; want nothing again", e.id, got.id)
		}
	})
}

// A roomy ledger is one of a store that has events of its own: what was searched
// reaches behind the newest event of ours.
type roomy struct{ httpapi.Ledger }

func (r roomy) Subscribe(ctx context.Context, after eventstore.Cursor, filter eventstore.Filter) iter.Seq2[eventstore.Notice, error] {
	return func(yield func(eventstore.Notice, error) bool) {
		for n, err := range r.Ledger.Subscribe(ctx, after, filter) {
			if !yield(n, err) {
				return
			}
			if p, _ := n.At.Position(); n.Kind == eventstore.CaughtUp && !yield(eventstore.Notice{Kind: eventstore.Checkpoint, At: eventstore.After(p + 1000)}, nil) {
				return
			}
		}
	}
}

// No cursor is given out with which its holder would be told that this is an
// old copy.
func TestEveryCursorThatIsGivenOutIsTakenBack(t *testing.T) {
	var applied atomic.Uint64
	bubble(t, func(t *testing.T, s *site, l *pipes) {
		viewtest.NewStory(t, s.store, nonce).Started()
		sub := s.listen(l, "?streams=gate-")
		defer sub.conn.Close()
		sub.next()
		start := sub.caughtUp()
		if e := sub.next(); e.comment != "heartbeat" || e.id != "" && e.id != start.id {
			t.Errorf("got %+v, want a heartbeat without a place behind the newest event", e)
		}
		beyond := "3f9c2ab41d6e4a70:memory:" + strconv.Itoa(1000)
		wantStatus(t, s.do(get("/v1/events?from="+beyond)), 412)
		// A view has been there: it is no place that this ledger lacks.
		applied.Store(1_000_000)
		if e := sub.next(); e.comment != "heartbeat" || e.id == "" || e.id == start.id {
			t.Errorf("got %+v, want a heartbeat with a new place", e)
		}
		again := s.listen(l, "?from="+beyond)
		again.caughtUp()
		_ = again.conn.Close()
	}, func(c *httpapi.Config) {
		c.Ledger = roomy{c.Ledger}
		c.QueueLag = func() projections.Lag {
			return projections.Lag{Applied: eventstore.After(eventstore.Position(applied.Load()))}
		}
	})
}

// A subscriber that takes nothing is cut off, holds nothing up meanwhile, and
// loses nothing.
func TestASlowSubscriberIsCutOffAndCanGoOn(t *testing.T) {
	bubble(t, func(t *testing.T, s *site, l *pipes) {
		story := viewtest.NewStory(t, s.store, nonce)
		slow, quick := s.listen(l, ""), s.listen(l, "")
		defer slow.conn.Close()
		slow.caughtUp()
		quick.caughtUp()
		const attempts = 200
		began := time.Now()
		for range attempts {
			story.Started()
			story.Failed(op.KindInterrupted, op.EffectNone)
		}
		for i := range 2 * attempts {
			if e := quick.event(); int(e.Revision) != i {
				t.Fatalf("revision %d, want %d", e.Revision, i)
			}
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("a slow subscriber held the others up for %s", took)
		}
		_ = quick.conn.Close() // or it would be the next slow one
		for !strings.Contains(s.log.String(), "why=slow") {
			if time.Since(began) > time.Minute {
				t.Fatalf("the slow one was not cut off: %s", s.log)
			}
			<-time.After(time.Second)
		}
		if took := time.Since(began); took > 12*time.Second {
			t.Errorf("it was cut off after %s, want it within 12s", took)
		}
		// What had arrived whole before the cut, and then the rest.
		rest, _ := io.ReadAll(slow.body)
		have := 0
		last := ""
		whole := string(rest[:bytes.LastIndex(append([]byte("\n\n"), rest...), []byte("\n\n"))])
		for _, e := range parseEvents([]byte(whole)) {
			if e.id != "" {
				have, last = have+1, e.id
			}
		}
		if have >= 2*attempts {
			t.Fatalf("all %d events waited somewhere for the slow one", have)
		}
		header := "X: y"
		if last != "" {
			header = "Last-Event-ID: " + last
		}
		again := s.listen(l, "", header)
		defer again.conn.Close()
		for i := have; i < 2*attempts; i++ {
			if e := again.event(); int(e.Revision) != i {
				t.Fatalf("going on with revision %d, want %d", e.Revision, i)
			}
		}
		again.caughtUp()
	})
}

// Neither the deadline for reading a request nor the one for writing an answer
// is one for following.
func TestASubscriberMayStay(t *testing.T) {
	bubble(t, func(t *testing.T, s *site, l *pipes) {
		sub := s.listen(l, "")
		defer sub.conn.Close()
		sub.caughtUp()
		for began := time.Now(); time.Since(began) < 24*time.Hour; {
			if e := sub.next(); e.comment != "heartbeat" {
				t.Fatalf("got %+v, want nothing but heartbeats", e)
			}
		}
		viewtest.NewStory(t, s.store, nonce).Started()
		sub.event()
	})
}

// Over HTTP/2 a deadline that passes ends a stream though nothing is being
// written, which once cut off every subscriber between two heartbeats.
func TestASubscriberMayStayOverHTTP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := newSite(t), newPipes()
		srv := s.api.Server(nil)
		srv.Protocols = new(http.Protocols)
		srv.Protocols.SetUnencryptedHTTP2(true)
		ended := make(chan error, 1)
		go func() { ended <- s.api.Serve(srv, l) }()
		transport := &http.Transport{
			Protocols:   srv.Protocols,
			DialContext: func(context.Context, string, string) (net.Conn, error) { return l.dial(), nil },
		}
		defer func() {
			transport.CloseIdleConnections()
			_ = srv.Close()
			if err := <-ended; err != nil {
				t.Errorf("serve: %v", err)
			}
		}()
		follow := func() *http.Response {
			r, err := http.NewRequestWithContext(t.Context(), "GET", "http://localhost/v1/events", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := transport.RoundTrip(r)
			if err != nil || resp.StatusCode != 200 || resp.ProtoMajor != 2 {
				t.Fatalf("answer %+v, %v; want 200 over HTTP/2", resp, err)
			}
			return resp
		}
		resp := follow()
		defer resp.Body.Close()
		sub := &listener{t: t, body: bufio.NewReader(resp.Body)}
		sub.caughtUp()
		for began := time.Now(); time.Since(began) < time.Hour; {
			if e := sub.next(); e.comment != "heartbeat" {
				t.Fatalf("got %+v after %s, want nothing but heartbeats", e, time.Since(began))
			}
		}
		viewtest.NewStory(t, s.store, nonce).Started()
		sub.event()

		// One that takes nothing: more is on record than the windows of HTTP/2 hold.
		for i := range 8 {
			write(t, s.store, "gate-i-1", op.TypeRefused, fmt.Appendf(nil, `{"agent":"lab","instance":"i","at":"2026-11-23T09:00:00Z","reason":"expired","detail":"%d%s",`+
				`"envelope_sha256":"%064d","intent":{"class":"","target":{"node":""},"params":{}},"policy_serial":0}`, i, strings.Repeat("x", 900<<10), 0))
		}
		_ = resp.Body.Close()
		slow := follow()
		began := time.Now()
		for !strings.Contains(s.log.String(), "why=slow") {
			if time.Since(began) > time.Minute {
				t.Fatalf("the slow one was not cut off: %s", s.log)
			}
			<-time.After(time.Second)
		}
		if rest, err := io.ReadAll(slow.Body); err == nil || len(rest) > 7<<20 {
			t.Errorf("the slow one was given %d bytes, and then %v; want it cut off", len(rest), err)
		}
	})
}

func TestTheServiceSaysWhyItEndsAStream(t *testing.T) {
	for name, c := range map[string]struct {
		end    func(s *site)
		reason string
	}{
		"it stops":                 {func(s *site) { s.api.Drain() }, "stopping"},
		"the token was revoked":    {func(s *site) { _ = s.api.SetTokens(nil) }, "unauthorized"},
		"the token lost the scope": {func(s *site) { _ = s.api.SetTokens(tokenWith(httpapi.Submit)) }, "scope-missing"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *site, l *pipes) {
				sub := s.listen(l, "", "Authorization: Bearer "+token)
				defer sub.conn.Close()
				sub.caughtUp()
				began := time.Now()
				c.end(s)
				e := sub.next()
				if e.name != "end" || !strings.Contains(e.data, `"reason":"`+c.reason+`"`) || time.Since(began) > 15*time.Second {
					t.Errorf("%+v after %s, want end with reason %s within a heartbeat", e, time.Since(began), c.reason)
				}
				if rest, err := io.ReadAll(sub.body); err != nil || len(rest) > 0 {
					t.Errorf("then %q, %v; want an orderly end", rest, err)
				}
			}, withToken(httpapi.Read))
		})
	}
}

func tokenWith(scopes ...httpapi.Scope) []httpapi.Token {
	return []httpapi.Token{{Name: "controller", SHA256: op.DigestOf([]byte(token)), Scopes: scopes}}
}

func TestALedgerThatCantBeFollowedOn(t *testing.T) {
	bubble(t, func(t *testing.T, s *site, l *pipes) {
		viewtest.NewStory(t, s.store, nonce).Started()
		s.store.OnRead = func(storetest.ReadCall) (int, error) { return 0, errors.New("disk on fire at /var/lib") }
		sub := s.listen(l, "")
		defer sub.conn.Close()
		sub.next()
		e := sub.next()
		if e.name != "end" || !strings.Contains(e.data, `"reason":"unavailable"`) || strings.Contains(e.data, "/var/lib") {
			t.Errorf("%+v, want end with reason unavailable and nothing of the inside", e)
		}
	})
}

func TestSubscribersAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, s *site, l *pipes) {
		auth := "Authorization: Bearer " + token
		var subs []*listener
		for range 2 {
			subs = append(subs, s.listen(l, "", auth))
		}
		w := s.do(call{method: "GET", path: "/v1/events", header: map[string]string{"Authorization": "Bearer " + token}})
		wantStatus(t, w, 429)
		if p := problemOf(t, w); p.Reason != "rate-limited" {
			t.Errorf("reason %s, want rate-limited", p.Reason)
		}
		// They take no places of requests.
		wantStatus(t, s.do(call{method: "GET", path: "/v1/ops", header: map[string]string{"Authorization": "Bearer " + token}}), 200)
		_ = subs[0].conn.Close()
		synctest.Wait()
		again := s.listen(l, "", auth)
		again.caughtUp()
		_ = again.conn.Close()
		_ = subs[1].conn.Close()
	}, withToken(httpapi.Read), func(c *httpapi.Config) { c.MaxSubscribers, c.MaxConcurrent = 8, 1 })
	bubble(t, func(t *testing.T, s *site, l *pipes) {
		sub := s.listen(l, "")
		defer sub.conn.Close()
		w := s.do(get("/v1/events"))
		wantStatus(t, w, 503)
		if p := problemOf(t, w); p.Reason != "busy" || w.Header().Get("Retry-After") == "" {
			t.Errorf("problem %+v, want busy and when to try again", p)
		}
	}, func(c *httpapi.Config) { c.MaxSubscribers = 1 })
}

func TestEventsConformToTheirSchema(t *testing.T) {
	s := newSite(t)
	story := viewtest.NewStory(t, s.store, nonce)
	story.Started()
	refuse(t, s.store)
	write(t, s.store, "other", "OpTeleported", []byte(`{"secret":1}`))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	w := s.serve(newRequest(t, "GET", "/v1/events").WithContext(ctx))
	wantStatus(t, w, 200)
	if n := len(parseEvents(w.Body.Bytes())); n < 5 {
		t.Errorf("%d events, want a greeting, three events and caught-up: %s", n, w.Body)
	}
	w = s.do(call{method: "HEAD", path: "/v1/events"})
	if w.Code != 200 || w.Body.Len() > 0 {
		t.Errorf("HEAD: %d %q, want 200 and nothing", w.Code, w.Body)
	}
}

// The whole service: what a subscriber has seen of an op's life is what its
// stream holds.
func TestASubscriberSeesAnOpRun(t *testing.T) {
	w := newWhole(t)
	r, err := http.NewRequestWithContext(t.Context(), "GET", w.url+"/v1/events?streams=op-", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	sub := &listener{t: t, body: bufio.NewReader(resp.Body)}
	sub.caughtUp()
	close(w.host.hold)
	var a httpapi.Answer
	if code := w.submit(w.order(), "?wait=1m", &a); code != 200 || a.Outcome != engine.Succeeded.String() {
		t.Fatalf("submit: %d %+v", code, a)
	}
	var types []string
	for range 4 {
		types = append(types, sub.event().Type)
	}
	if got, want := strings.Join(types, " "), "OpStarted OpLaunching OpTaskRunning OpSucceeded"; got != want {
		t.Errorf("seen %s, want %s", got, want)
	}
}
