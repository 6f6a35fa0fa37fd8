package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"writ/adapters/httpapi"
)

// Below the reserve no op is claimed; with room again, it is.
func TestTheReserveOfTheDisk(t *testing.T) {
	c := newServiceConfig(t)
	s, err := start(t, c, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, s)
	room := s.guard().Room
	if err := room(); err != nil {
		t.Fatalf("with room: %v", err)
	}
	c.Limits.DiskReserve = 1 << 60
	if err := room(); err == nil || !strings.Contains(err.Error(), "limits.disk_reserve") || !strings.Contains(err.Error(), c.Store.Embedded.Path) {
		t.Errorf("without: got %v, want the key and the folder", err)
	}
	c.Limits.DiskReserve = 1
	if err := room(); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// Whoever watches the service learns how its ledger is.
func TestReadinessTellsOfTheLedger(t *testing.T) {
	s, err := start(t, newServiceConfig(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, s)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var r httpapi.Readiness
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil || r.Checks["ledger"] != "ok" {
		t.Errorf("checks: got %v (error %v), want the ledger ok", r.Checks, err)
	}
}
