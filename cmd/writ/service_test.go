package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"writ/adapters/httpapi"
	"writ/adapters/pebblestore"
	"writ/adapters/pvesim"
	"writ/domain/engine"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/projections/viewtest"
)

// newServiceConfig gives the configuration of a fresh ledger on a simulated
// cluster.
func newServiceConfig(t *testing.T) *config {
	t.Helper()
	sim, err := pvesim.New(pvesim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	sim.AddUser("writ@pve", "")
	sim.Grant("/", "writ@pve", "Administrator", true)
	if _, err := sim.AddToken("writ@pve!writ", pvesim.Token{Secret: "secret"}); err != nil {
		t.Fatal(err)
	}
	server, err := sim.Start(pvesim.Listen{Addr: "127.0.0.1:0", Plain: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Close()
		sim.Close()
	})
	dir := filepath.Join(t.TempDir(), "w")
	if code := run(t.Context(), []string{"init", dir}, strings.NewReader(""), io.Discard, io.Discard); code != 0 {
		t.Fatalf("init: exit code %d", code)
	}
	c, err := loadConfig(filepath.Join(dir, configName), []string{
		"WRIT_HOST_PROXMOX_URL=" + server.URL, "WRIT_LISTEN=127.0.0.1:0", "WRIT_INSTANCE=test",
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Host.Proxmox.TokenSecretFile, c.Host.Proxmox.Secret = "", "secret"
	return c
}

func start(t *testing.T, c *config, l net.Listener) (*service, error) {
	t.Helper()
	return startService(t.Context(), serviceOptions{Config: c, Log: slog.New(slog.DiscardHandler), Listener: l, Version: "test"})
}

func stop(t *testing.T, s *service) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// mustBeFree checks that nobody holds the ledger.
func mustBeFree(t *testing.T, c *config) {
	t.Helper()
	store, err := pebblestore.Open(c.Store.Embedded.Path, pebblestore.Options{})
	if err != nil {
		t.Fatalf("the ledger is still held: %v", err)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

func TestAStartThatFailsHoldsNothing(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for name, spoil := range map[string]func(t *testing.T, c *config){
		"policy":  func(_ *testing.T, c *config) { c.Policy.Path += ".none" },
		"host":    func(_ *testing.T, c *config) { c.Host.Proxmox.URL = "http://pve.example:8006" },
		"secret":  func(_ *testing.T, c *config) { c.Host.Proxmox.Secret = "" },
		"views":   func(_ *testing.T, c *config) { c.Store.Views = filepath.Dir(c.Policy.Path) },
		"address": func(_ *testing.T, c *config) { c.Listen = busy.Addr().String() },
		"tls":     func(_ *testing.T, c *config) { c.TLS = tlsFiles{"none", "none"} },
	} {
		t.Run(name, func(t *testing.T) {
			good := newServiceConfig(t)
			bad := *good
			spoil(t, &bad)
			if s, err := start(t, &bad, nil); err == nil {
				stop(t, s)
				t.Fatal("it started")
			}
			mustBeFree(t, good)
			s, err := start(t, good, nil)
			if err != nil {
				t.Fatalf("put right, it does not start: %v", err)
			}
			stop(t, s)
			mustBeFree(t, good)
		})
	}
}

func TestAFailedReloadLeavesTheOldPolicyInForce(t *testing.T) {
	c := newServiceConfig(t)
	s, err := start(t, c, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, s)
	if err := os.WriteFile(c.Policy.Path, []byte("version: 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReloadPolicy(t.Context()); err == nil || !strings.Contains(err.Error(), "policy.yaml:1: version") {
		t.Errorf("reload: %v, want an error at line 1", err)
	}
	if p, err := s.book.Current(t.Context()); err != nil || p.Serial() != 1 {
		t.Errorf("in force: serial %d, %v; want 1", p.Serial(), err)
	}
	if rec, err := s.Store.Head(t.Context(), gate.PolicyStream); err != nil || rec.Revision != 0 {
		t.Errorf("on record: revision %d, %v; want the first alone", rec.Revision, err)
	}
	if err := os.WriteFile(c.Policy.Path, []byte("version: 1\npeople: {}\nroles: {}\nclock_skew: 10s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := s.ReloadPolicy(t.Context()); err != nil || p.Serial() != 2 {
		t.Errorf("reload: serial %d, %v; want 2", p.Serial(), err)
	}
}

func TestServingOverTLSOnAListenerOfOnesOwn(t *testing.T) {
	c := newServiceConfig(t)
	c.TLS = selfSigned(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := start(t, c, l)
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, s)
	if s.URL != "https://"+l.Addr().String() {
		t.Errorf("URL %s, want that of the listener", s.URL)
	}
	var out, errs strings.Builder
	if code := run(t.Context(), []string{"ops", "ls", "--url", s.URL, "--service-ca-file", c.TLS.CertFile}, strings.NewReader(""), &out, &errs); code != 0 {
		t.Errorf("ops ls: exit code %d: %s", code, errs.String())
	}
	if code := run(t.Context(), []string{"ops", "ls", "--url", s.URL}, strings.NewReader(""), &out, &errs); code != exitFailed {
		t.Errorf("without the authority: exit code %d, want %d", code, exitFailed)
	}
}

func selfSigned(t *testing.T) tlsFiles {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return tlsFiles{
		CertFile: writeFile(t, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))),
		KeyFile:  writeFile(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))),
	}
}

// What a service before left in flight is taken up by the next start, and what
// nobody can understand stops nothing else.
func TestAStartTakesUpWhatWasInFlight(t *testing.T) {
	c := newServiceConfig(t)
	store, err := pebblestore.Open(c.Store.Embedded.Path, pebblestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	claimed, corrupt := viewtest.NewStory(t, store, viewtest.Nonce(1)), viewtest.NewStory(t, store, viewtest.Nonce(2))
	claimed.Started()
	corrupt.Started()
	corrupt.Write("OpTeleported", []byte(`{}`))
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}

	s, err := start(t, c, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, s)
	select {
	case <-s.engine.Surveyed():
	case <-t.Context().Done():
		t.Fatal("what was in flight was never taken up")
	}
	if a := s.engine.Wait(t.Context(), claimed.Op.Nonce); a.Outcome != engine.Failed || a.Failure.Kind != op.KindInterrupted || a.Failure.Effect != op.EffectNone {
		t.Errorf("only claimed: got %+v, want it failed, interrupted, without effect", a)
	}
	var list httpapi.Recovery
	for {
		var out, errs strings.Builder
		if code := run(t.Context(), []string{"--json", "recovery", "ls", "--url", s.URL}, strings.NewReader(""), &out, &errs); code != 0 {
			t.Fatalf("recovery ls: exit code %d: %s", code, errs.String())
		}
		if err := json.Unmarshal([]byte(out.String()), &list); err != nil {
			t.Fatal(err)
		}
		if len(list.Ops) == 1 {
			break
		}
	}
	if it := list.Ops[0]; it.Nonce != string(corrupt.Op.Nonce) || it.Corrupt == "" || it.Revision != nil {
		t.Errorf("recovery: got %+v, want the corrupt op alone, with nothing to sign", it)
	}
	if left := s.engine.Left(); len(left) != 1 || left[0].Nonce != corrupt.Op.Nonce || left[0].Outcome != engine.Corrupt {
		t.Errorf("left in flight: got %+v, want the corrupt op alone", left)
	}
}
