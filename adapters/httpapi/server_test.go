package httpapi_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"writ/adapters/httpapi"
	"writ/domain/engine"
	"writ/domain/op"
)

// A pipes is a listener whose connections never leave memory, so that their
// deadlines go by the clock of a synctest bubble.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// serveIn serves a site in a bubble; the result ends it.
func serveIn(t *testing.T, s *site) (*pipes, func()) {
	l := newPipes()
	srv := s.api.Server(nil)
	ended := make(chan error, 1)
	go func() { ended <- s.api.Serve(srv, l) }()
	return l, func() {
		_ = srv.Close()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	}
}

// The server's deadline for reading a request once also ended the wait for an
// op: net/http reads on to see whether the caller hangs up, takes a deadline
// that passes for just that, and cancels the request.
func TestWaitingOutlivesTheDeadlineForReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		s.engine.wait = func(ctx context.Context, _ op.Nonce) engine.Answer {
			select {
			case <-time.After(4 * time.Minute):
				return answered(engine.Succeeded, op.StateSucceeded)
			case <-ctx.Done():
				return inFlight()
			}
		}
		l, stop := serveIn(t, s)
		defer stop()
		conn := l.dial()
		defer conn.Close()
		fmt.Fprintf(conn, "POST /v1/ops?wait=5m HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(submission), submission)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("read the answer: %v", err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("status %d, want 200: the op had its end within the wait", resp.StatusCode)
		}
	})
}

func TestACallerWhoHangsUpEndsTheWaitAndNotTheOp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		ended := make(chan struct{})
		s.engine.wait = func(ctx context.Context, _ op.Nonce) engine.Answer {
			<-ctx.Done()
			close(ended)
			return inFlight()
		}
		l, stop := serveIn(t, s)
		defer stop()
		conn := l.dial()
		began := time.Now()
		fmt.Fprintf(conn, "POST /v1/ops?wait=5m HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(submission), submission)
		synctest.Wait()
		_ = conn.Close()
		<-ended
		if waited := time.Since(began); waited > time.Second {
			t.Errorf("the wait went on for %s after the caller had gone", waited)
		}
	})
}

func TestSlowRequestsAreCutOff(t *testing.T) {
	for name, c := range map[string]struct {
		sent   string
		within time.Duration
	}{
		"nothing at all":             {"", 16 * time.Second},
		"half a header":              {"POST /v1/ops HT", 6 * time.Second},
		"half a body":                {"POST /v1/ops HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{\"intent\"", 16 * time.Second},
		"a chunked body without end": {"POST /v1/ops HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", 16 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				l, stop := serveIn(t, s)
				defer stop()
				conn := l.dial()
				defer conn.Close()
				began := time.Now()
				if _, err := io.WriteString(conn, c.sent); err != nil {
					t.Fatal(err)
				}
				answer, _ := io.ReadAll(conn)
				if took := time.Since(began); took > c.within {
					t.Errorf("the connection was kept for %s, want no more than %s", took, c.within)
				}
				if len(answer) > 0 && !strings.HasPrefix(string(answer), "HTTP/1.1 4") {
					t.Errorf("answer %.60q, want a refusal or none", answer)
				}
				if n := len(s.engine.submissions()); n != 0 {
					t.Errorf("the engine got %d submissions, want none", n)
				}
			})
		})
	}
}

// Whoever asks for the claim is not kept waiting for ever by a ledger or a host
// that does not answer.
func TestAdmissionIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		s.engine.run = func(ctx context.Context, _ engine.Submission) engine.Answer {
			<-ctx.Done()
			return engine.Answer{Outcome: engine.Unavailable, Nonce: nonce, Detail: "the caller left before the claim was certain"}
		}
		began := time.Now()
		wantStatus(t, s.submit("?wait=5m"), 503)
		if took := time.Since(began); took > time.Minute {
			t.Errorf("admission took %s, want no more than a minute", took)
		}
	})
}

// Who takes an answer slowly must not hold a place that others wait for.
func TestSlowReadersOfAnswersAreCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		l, stop := serveIn(t, s)
		defer stop()
		conn := l.dial()
		defer conn.Close()
		began := time.Now()
		fmt.Fprint(conn, "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
		for !strings.Contains(s.log.String(), "path=/openapi.json") {
			if time.Since(began) > time.Hour {
				t.Fatal("the place is still held")
			}
			<-time.After(time.Second)
		}
		if took := time.Since(began); took > 35*time.Second {
			t.Errorf("the place was held for %s, want no more than 35s", took)
		}
	})
}

// Strangers who connect and say nothing must not use up the process's file
// handles, nor keep others out for longer than it takes to cut them off.
func TestConnectionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 20
		s := newSite(t, func(c *httpapi.Config) { c.MaxConnections = most })
		l, stop := serveIn(t, s)
		defer stop()
		for range most {
			conn := l.dial()
			defer conn.Close()
		}
		began := time.Now()
		conn := l.dial() // waits until it is accepted
		defer conn.Close()
		if waited := time.Since(began); waited < time.Second || waited > 16*time.Second {
			t.Errorf("one more was accepted after %s, want it as soon as the silent ones are cut off", waited)
		}
		fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("status %d, want 200", resp.StatusCode)
		}
	})
}
