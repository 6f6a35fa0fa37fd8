package proxmox_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"writ/adapters/proxmox"
	"writ/domain/engine"
	"writ/domain/op"
)

func TestSecretIsNeverShown(t *testing.T) {
	s := proxmox.Secret("hunter2hunter2")
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T%%%v"} {
		fmt.Fprintf(&out, verb+"\n", s)
		fmt.Fprintf(&out, verb+"\n", proxmox.Config{Secret: s, ServicePassword: s, WipePassword: s})
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "secret", s, "config", proxmox.Config{Secret: s})
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "secret", s, "config", proxmox.Config{Secret: s})
	if err := json.NewEncoder(&out).Encode(proxmox.Config{Secret: s}); err != nil {
		t.Fatal(err)
	}
	h := newHost(t, proxmox.Config{BaseURL: "http://127.0.0.1:1", ServiceUser: "writ@pve", ServicePassword: s, WipePassword: s})
	fmt.Fprintf(&out, "%+v %#v", h, h)
	for _, hidden := range []string{"hunter2", "68756e74657232", "68756E74657232", secret} {
		if strings.Contains(out.String(), hidden) {
			t.Errorf("shown: %s", out.String())
		}
	}
	if !strings.Contains(out.String(), "[redacted]") {
		t.Errorf("got %s, want [redacted]", out.String())
	}
}

func TestConfigIsRefused(t *testing.T) {
	good := func() proxmox.Config {
		return proxmox.Config{BaseURL: "https://pve1:8006", TokenID: token, Secret: secret}
	}
	if _, err := proxmox.New(good(), nil); err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		change func(*proxmox.Config)
		field  string
	}{
		"no URL":                    {func(c *proxmox.Config) { c.BaseURL = "" }, "BaseURL"},
		"clear text":                {func(c *proxmox.Config) { c.BaseURL = "http://pve1:8006" }, "BaseURL"},
		"no host":                   {func(c *proxmox.Config) { c.BaseURL = "pve1:8006" }, "BaseURL"},
		"a foreign path":            {func(c *proxmox.Config) { c.BaseURL += "/pve" }, "BaseURL"},
		"a password in the URL":     {func(c *proxmox.Config) { c.BaseURL = "https://root:pw@pve1:8006" }, "BaseURL"},
		"a password in no URL":      {func(c *proxmox.Config) { c.BaseURL = "https://root:pw@%zz" }, "BaseURL"},
		"a node's bad URL":          {func(c *proxmox.Config) { c.Nodes = map[string]string{"pve2": "ftp://x"} }, "Nodes[pve2]"},
		"a node's bad name":         {func(c *proxmox.Config) { c.Nodes = map[string]string{"a/b": "https://x"} }, "Nodes"},
		"a user, not a token":       {func(c *proxmox.Config) { c.TokenID = "root@pam" }, "TokenID"},
		"a token with a line feed":  {func(c *proxmox.Config) { c.TokenID += "\n" }, "TokenID"},
		"no secret":                 {func(c *proxmox.Config) { c.Secret = "" }, "Secret"},
		"a secret with a line feed": {func(c *proxmox.Config) { c.Secret = secret + "\n" }, "Secret"},
		"polls too short":           {func(c *proxmox.Config) { c.PollTimeout = 30 * time.Second }, "PollTimeout"},
		"launches too short":        {func(c *proxmox.Config) { c.LaunchTimeout = -time.Second }, "LaunchTimeout"},
		"pin and authority":         {func(c *proxmox.Config) { c.Fingerprints, c.CAPEM = []string{"x"}, []byte("x") }, "Fingerprints"},
		"a pin that is none":        {func(c *proxmox.Config) { c.Fingerprints = []string{"AB:CD"} }, "Fingerprints"},
		"an authority that is none": {func(c *proxmox.Config) { c.CAPEM = []byte("x") }, "CAPEM"},
		"a service user without":    {func(c *proxmox.Config) { c.ServiceUser = "writ@pve" }, "ServicePassword"},
		"a password without a user": {func(c *proxmox.Config) { c.ServicePassword = "pw@" }, "ServiceUser"},
		"a service token":           {func(c *proxmox.Config) { c.ServiceUser, c.ServicePassword = token, "pw@" }, "ServiceUser"},
		"a service user too long": {func(c *proxmox.Config) {
			c.ServiceUser, c.ServicePassword = strings.Repeat("u", 61)+"@pve", "pw@"
		}, "ServiceUser"},
		"root as the service user": {func(c *proxmox.Config) { c.ServiceUser, c.ServicePassword = "root@pam", "pw@" }, "ServiceUser"},
		"a role that is none": {func(c *proxmox.Config) {
			c.ServiceUser, c.ServicePassword, c.AttemptRole = "writ@pve", "pw@", "a,b"
		}, "AttemptRole"},
		"a lease too short": {func(c *proxmox.Config) {
			c.ServiceUser, c.ServicePassword, c.AttemptLease = "writ@pve", "pw@", time.Second
		}, "AttemptLease"},
		"a lease too long": {func(c *proxmox.Config) {
			c.ServiceUser, c.ServicePassword, c.AttemptLease = "writ@pve", "pw@", time.Hour
		}, "AttemptLease"},
		"no such file": {func(c *proxmox.Config) { c.CAFile = "testdata/absent.pem" }, "CAFile"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := good()
			tc.change(&c)
			_, err := proxmox.New(c, nil)
			if err == nil || !strings.Contains(err.Error(), tc.field) {
				t.Fatalf("got %v, want an error about %s", err, tc.field)
			}
			if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "pw@") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

// A node is trusted by its certificate's fingerprint or by its authority, and
// whoever is not trusted never sees the request.
func TestTrust(t *testing.T) {
	var served int
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		served++
		if req.ProtoMajor != 1 {
			t.Errorf("protocol: got %s, want HTTP/1.1", req.Proto)
		}
		_, _ = io.WriteString(w, `{"data":"`+upid105+`"}`)
	}))
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	sum := sha256.Sum256(srv.Certificate().Raw)
	right := colonHex(sum[:])
	sum[31] ^= 1
	wrong := colonHex(sum[:])
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name    string
		conf    proxmox.Config
		trusted bool
	}{
		{"pinned", proxmox.Config{Fingerprints: []string{wrong, right}}, true},
		{"pinned in lower case", proxmox.Config{Fingerprints: []string{strings.ToLower(right)}}, true},
		{"another pinned", proxmox.Config{Fingerprints: []string{wrong}}, false},
		{"authority", proxmox.Config{CAPEM: ca}, true},
		{"authority from a file", proxmox.Config{CAFile: file}, true},
		{"authorities of the system", proxmox.Config{}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			served = 0
			c.conf.BaseURL = srv.URL
			_, err := launch(t.Context(), newHost(t, c.conf).Executors()[op.GuestDestroy], launching(vm105, ""))
			switch {
			case c.trusted && (err != nil || served != 1):
				t.Errorf("got %v and %d requests, want one", err, served)
			case !c.trusted && (!engine.IsDefinite(err) || served != 0):
				t.Errorf("got %v and %d requests, want a definite error and none", err, served)
			}
		})
	}
}

func colonHex(b []byte) string {
	return strings.ReplaceAll(fmt.Sprintf("% X", b), " ", ":")
}
