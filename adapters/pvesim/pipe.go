package pvesim

import (
	"context"
	"net"
	"sync"
	"syscall"
)

// pipes is a network within the process: addresses, and who listens there. Its
// connections are of [net.Pipe], so that inside a testing/synctest bubble time
// passes for whoever waits on one.
type pipes struct {
	mu    sync.Mutex // guards the field below
	heard map[string]*pipeListener
}

func newPipes() *pipes { return &pipes{heard: map[string]*pipeListener{}} }

func (p *pipes) listen(addr string) net.Listener {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := &pipeListener{network: p, addr: addr, incoming: make(chan net.Conn), closed: make(chan struct{})}
	p.heard[addr] = l
	return l
}

// dial connects as package net would: where nobody listens it is refused.
func (p *pipes) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	p.mu.Lock()
	l := p.heard[addr]
	p.mu.Unlock()
	refused := &net.OpError{Op: "dial", Net: network, Addr: pipeAddr(addr), Err: syscall.ECONNREFUSED}
	if l == nil {
		return nil, refused
	}
	near, far := net.Pipe()
	select {
	case l.incoming <- far:
		return near, nil
	case <-l.closed:
		return nil, refused
	case <-ctx.Done():
		return nil, &net.OpError{Op: "dial", Net: network, Addr: pipeAddr(addr), Err: ctx.Err()}
	}
}

type pipeListener struct {
	network  *pipes
	addr     string
	incoming chan net.Conn
	once     sync.Once
	closed   chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.incoming:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.network.mu.Lock()
		defer l.network.mu.Unlock()
		if l.network.heard[l.addr] == l {
			delete(l.network.heard, l.addr)
		}
	})
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr(l.addr) }

type pipeAddr string

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }
