package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// startPvesim runs the program's pvesim until interrupt is called, and gives
// what it said when it was ready.
func startPvesim(t *testing.T, args ...string) (ready simReady, interrupt func() (code int)) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, append([]string{"pvesim", "--json"}, args...), strings.NewReader(""), w, io.Discard)
		_ = w.Close()
	}()
	if err := json.NewDecoder(r).Decode(&ready); err != nil {
		cancel()
		t.Fatalf("pvesim said %v and ended with %d", err, <-ended)
	}
	return ready, func() int {
		cancel()
		return <-ended
	}
}

// guestsOf asks a cluster's own interface which guests there are.
func guestsOf(t *testing.T, client *http.Client, url string) int {
	t.Helper()
	defer client.CloseIdleConnections()
	resp, err := client.Get(url + "/sim/guests") //nolint:noctx // the server ends with the test
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var guests []map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&guests); err != nil {
		t.Fatal(err)
	}
	return len(guests)
}

func TestPvesimServesUntilInterrupted(t *testing.T) {
	ready, interrupt := startPvesim(t, "--nodes", "a,b", "--listen-each", "--guests", "7")
	pem, err := os.ReadFile(ready.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
	if len(ready.URLs) != 2 || len(ready.Fingerprints) != 2 {
		t.Errorf("%d URLs and %d fingerprints, want one for each of two nodes", len(ready.URLs), len(ready.Fingerprints))
	}
	for _, url := range ready.URLs {
		if got := guestsOf(t, client, url); got != 7 || len(ready.Guests) != 7 {
			t.Errorf("%d guests there, %d announced, want 7", got, len(ready.Guests))
		}
	}
	if info, err := os.Stat(ready.SecretFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("secret file: %v, %v, want mode 0600", info, err)
	}
	if code := interrupt(); code != exitOK {
		t.Errorf("exit code %d, want 0", code)
	}
	if _, err := os.Stat(filepath.Dir(ready.SecretFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary folder is still there (%v), want it gone", err)
	}
}

func TestPvesimKeepsTheFolderThatIsNamed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sim")
	for range 2 { // a second run replaces what the first left
		ready, interrupt := startPvesim(t, "--http", "--dir", dir, "--guests", "0")
		if ready.CAFile != "" || !strings.HasPrefix(ready.URL, "http://127.0.0.1:") {
			t.Errorf("CA %q and URL %s, want no TLS", ready.CAFile, ready.URL)
		}
		if got := guestsOf(t, &http.Client{Transport: &http.Transport{}}, ready.URL); got != 0 {
			t.Errorf("%d guests, want none", got)
		}
		if code := interrupt(); code != exitOK {
			t.Errorf("exit code %d, want 0", code)
		}
		if _, err := os.Stat(ready.SecretFile); err != nil {
			t.Errorf("secret file: %v, want it kept", err)
		}
	}
}

func TestPvesimRefusesWhatCannotBe(t *testing.T) {
	for name, args := range map[string][]string{
		"bad node name":       {"--nodes", "pve_1"},
		"one node twice":      {"--nodes", "a,a"},
		"too many guests":     {"--guests", "1000000"},
		"an address and name": {"--listen", "nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			var errs strings.Builder
			code := run(t.Context(), append([]string{"pvesim"}, args...), strings.NewReader(""), io.Discard, &errs)
			if code == exitOK || errs.Len() == 0 {
				t.Errorf("exit code %d with %q, want an error", code, errs.String())
			}
			leftNothing(t)
		})
	}
}
