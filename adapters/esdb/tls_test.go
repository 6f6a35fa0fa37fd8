package esdb_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"writ/adapters/esdb"
	"writ/adapters/esdbserver"
	"writ/domain/eventstore"
)

// authority makes a certificate for the loopback address that vouches for
// itself, and a file that names it.
func authority(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

func TestTLSAndCredentials(t *testing.T) {
	t.Parallel()
	certificate, ca := authority(t)
	_, otherCA := authority(t)
	store := memory(t)
	server, err := esdbserver.New(esdbserver.Config{
		Store: store, Writer: store, Users: map[string]esdbserver.Password{"ann": "s3cret/@"},
		TLS: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		if err := server.Shutdown(t.Context()); err != nil {
			t.Log(err)
		}
		<-ended
	})
	_, port, _ := net.SplitHostPort(l.Addr().String())
	at := "@127.0.0.1:" + port + "?tlsCAFile="

	var logged bytes.Buffer
	o := esdb.Options{
		Connection: esdb.Secret("esdb://ann:s3cret%2F%40" + at + ca),
		Logger:     slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	s := create(t, o)
	if _, err := s.Append(t.Context(), "s", eventstore.NoStream(), happened(1)); err != nil {
		t.Error(err)
	}
	if got := ids(t, s, "s"); len(got) != 1 {
		t.Errorf("got %d events, want 1", len(got))
	}
	apart := esdb.Options{Connection: esdb.Secret("esdb://" + at[1:] + ca), Username: "ann", Password: "s3cret/@"}
	open(t, apart)

	for name, c := range map[string]struct {
		connection esdb.Secret
		says       string
	}{
		"a wrong password":       {esdb.Secret("esdb://ann:s3cret" + at + ca), "user or password"},
		"an unknown user":        {esdb.Secret("esdb://bob:s3cret" + at + ca), "user or password"},
		"no credentials":         {esdb.Secret("esdb://" + at[1:] + ca), ""},
		"another authority":      {esdb.Secret("esdb://ann:s3cret%2F%40" + at + otherCA), "certificate"},
		"another name":           {esdb.Secret("esdb://ann:s3cret%2F%40@localhost:" + port + "?tlsCAFile=" + ca), "certificate"},
		"no TLS to a TLS server": {esdb.Secret("esdb://127.0.0.1:" + port + "?tls=false"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := o
			o.Connection = c.connection
			s, err := esdb.Open(t.Context(), o)
			if err == nil {
				s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("got error %v, want one about %q without the password", err, c.says)
			}
		})
	}
	if strings.Contains(logged.String(), "s3cret") {
		t.Errorf("the password was logged:\n%s", logged.String())
	}
}
