package kills_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"testing"
	"time"
)

var ledgerKills = flag.Int("ledgerkills", 2, "how often TestLedgerKilled kills the ledger's own process")

// A remoteLedger is writ eventstore, as the database that the service uses.
type remoteLedger struct {
	t       *testing.T
	program string
	dir     string
	addr    string
	process *process
}

// newRemoteLedger makes a ledger that is always found at the same address.
func newRemoteLedger(t *testing.T, program string) *remoteLedger {
	t.Helper()
	l := &remoteLedger{t: t, program: program, dir: t.TempDir(), addr: freeAddress(t)}
	l.start("--create")
	return l
}

// freeAddress is one that no connection takes while nobody listens there: below
// the ports that are given to those.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(20_000+rand.IntN(10_000)))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

func (l *remoteLedger) start(more ...string) {
	l.t.Helper()
	address := l.dir + "/address"
	if err := os.RemoveAll(address); err != nil {
		l.t.Fatal(err)
	}
	args := append([]string{"eventstore", "--store", l.folder(), "--writable", "--listen", l.addr, "--address-file", address}, more...)
	l.process = run(l.t, l.program, nil, args...)
	if _, ok := l.process.address(address, 30*time.Second); !ok {
		l.process.kill()
		l.t.Fatalf("the ledger does not start:\n%s", l.process.log.text())
	}
}

func (l *remoteLedger) folder() string { return l.dir + "/events" }

// stop ends it in order.
func (l *remoteLedger) stop() {
	l.t.Helper()
	if err := l.process.cmd.Process.Signal(os.Interrupt); err != nil {
		l.t.Fatal(err)
	}
	<-l.process.ended
}

// The ledger is a process of its own, reached over EventStoreDB's protocol, and
// is killed while the service goes on: what it answered is on record, and of what
// it did not answer the service finds out.
func TestLedgerKilled(t *testing.T) {
	t.Parallel()
	program := build(t)
	ledger := newRemoteLedger(t, program)
	s := newSite(t, program, "--eventstoredb", fmt.Sprintf("esdb://%s?tls=false", ledger.addr))
	s.events, s.quick = ledger.folder(), *ledgerKills < few
	ctx, cancel := context.WithCancel(t.Context())
	s.load.run(ctx, callers)
	s.start()
	base := s.answers()
	for range *ledgerKills {
		s.load.serve(base, 4+s.rng.IntN(8))
		s.pause(time.Duration(s.rng.Int64N(int64(700 * time.Millisecond))))
		if !ledger.process.kill() {
			t.Fatalf("the ledger ended by itself:\n%s", ledger.process.log.text())
		}
		s.pause(time.Duration(s.rng.Int64N(int64(300 * time.Millisecond))))
		ledger.start()
		s.load.fall()
	}
	cancel()
	s.load.calls.Wait()
	t.Logf("the ledger was killed %d times", *ledgerKills)
	s.stop()

	left := s.settle()
	s.verifyAudit(left, "--url", s.load.base)
	s.stop()
	ledger.stop()
	s.account(left)
	for _, p := range append(s.processes, ledger.process) {
		for _, line := range p.log.wrong() {
			t.Errorf("logged: %s", line)
		}
	}
	s.report()
}
