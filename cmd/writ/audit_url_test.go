package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/projections/audit"
)

// TestAuditOfAService reads the export of a service over HTTP, and says what
// the service says if there is none.
func TestAuditOfAService(t *testing.T) {
	store := storetest.NewMemory("3f9c2ab41d6e4a70")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/audit/export", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Errorf("authorization: got %q, want none", r.Header.Get("Authorization"))
		}
		if _, err := audit.NewExporter(w, store.LedgerID(), eventstore.Cursor{}).Export(r.Context(), store, nil); err != nil {
			t.Error(err)
		}
	})
	good, none := httptest.NewServer(mux), httptest.NewServer(http.NotFoundHandler())
	defer good.Close()
	defer none.Close()
	tests := map[string]struct {
		url  string
		code int
		says string
	}{
		"a service":                    {good.URL, exitOK, "SOUND: 0 events"},
		"a service without an export":  {none.URL, exitFailed, "404"},
		"a URL that is that of none":   {"ftp://example.org", exitUsage, "--url"},
		"a service that can't be had":  {"http://127.0.0.1:1", exitFailed, "127.0.0.1:1"},
		"a service with a path behind": {good.URL + "/v1", exitUsage, "--url"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			code := run(context.Background(), []string{"audit", "verify", "--url", tt.url}, strings.NewReader(""), &out, &out)
			if code != tt.code || !strings.Contains(out.String(), tt.says) {
				t.Errorf("got exit code %d and\n%s\nwant %d and %q", code, &out, tt.code, tt.says)
			}
		})
	}
}
