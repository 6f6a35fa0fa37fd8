package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"time"

	"writ/adapters/httpapi"
	"writ/adapters/pvesim"
	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/op"
)

// A tale is what somebody is told over HTTP: the status, the word for what became
// of the order (an outcome, or the reason of a problem), and the text for people.
type tale struct {
	status       int
	word, detail string
	effect       string // of a failure
}

func toldAs(status int, word, detail string) tale {
	return tale{status: status, word: word, detail: detail}
}

// ask makes a request of the API and decodes its answer.
func (w *faultWorld) ask(method, path, body string, out any) int {
	w.t.Helper()
	r := httptest.NewRequestWithContext(w.t.Context(), method, path, strings.NewReader(body))
	r.Host = "127.0.0.1:7420"
	r.Header.Set("Authorization", "Bearer "+faultToken)
	r.Header.Set("Content-Type", "application/json")
	got := httptest.NewRecorder()
	w.api.Handler().ServeHTTP(got, r)
	if err := json.Unmarshal(got.Body.Bytes(), out); err != nil {
		w.t.Errorf("%s %s: %v in %s", method, path, err, got.Body) // not fatal: many may ask at once
	}
	return got.Code
}

// submit delivers the writ and waits for its end as long as the API lets one.
func (w *faultWorld) submit() tale {
	w.t.Helper()
	body := fmt.Sprintf(`{"intent":{"class":"guest-destroy","target":{"node":"pve1","guest":{"type":%q,"vmid":%d}}},"envelope":%q}`,
		w.guest.Kind, faultVMID, base64.StdEncoding.EncodeToString(w.writ))
	var a struct {
		Outcome, Reason, Detail, Effect string
	}
	status := w.ask("POST", "/v1/ops?wait=5m", body, &a)
	return tale{status, a.Outcome + a.Reason, a.Detail, a.Effect}
}

// recovery is what the queue tells of the op; nil if it is not there.
func (w *faultWorld) recovery() *httpapi.RecoveryItem {
	w.t.Helper()
	var r httpapi.Recovery
	if code := w.ask("GET", "/v1/recovery", "", &r); code != 200 || len(r.Ops) > 1 {
		w.t.Fatalf("recovery: got %d %+v, want 200 and at most one op", code, r)
	}
	if len(r.Ops) == 0 {
		return nil
	}
	return &r.Ops[0]
}

// onRecord folds the op from the ledger, so its chain and transitions are checked.
func (w *faultWorld) onRecord() op.Op {
	w.t.Helper()
	o, err := engine.LoadOp(w.t.Context(), w.store, faultLedger, faultNonce)
	w.must(err)
	return o
}

// eventTypes are those of the op's stream, without their prefix.
func (w *faultWorld) eventTypes() string {
	w.t.Helper()
	var types []string
	for e, err := range w.store.ReadStream(w.t.Context(), eventstore.StreamID(faultNonce.Stream()), 0) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			break
		}
		w.must(err)
		types = append(types, strings.TrimPrefix(e.Type, "Op"))
	}
	return strings.Join(types, " ")
}

// settle lets recovery try again and again for a while, until the op has ended.
func (w *faultWorld) settle(most time.Duration) {
	for end := time.Now().Add(most); time.Now().Before(end); letPass(5 * time.Second) {
		if w.eventTypes() == "" {
			return
		}
		if o := w.onRecord(); !o.State.InFlight() {
			return
		}
	}
}

// sent counts the orders to destroy the guest that reached the host.
func (w *faultWorld) sent() int {
	n := 0
	for _, q := range w.sim.Requests() {
		if q.Method == "DELETE" && strings.HasSuffix(q.Path, "/107") {
			n++
		}
	}
	return n
}

// done is what was done to guests with the VMID in truth, by whoever: how many of
// their volumes were removed, and how many of them destroyed; ours is how many by
// the op.
func (w *faultWorld) done() (volumes, guests, ours int) {
	for _, e := range w.sim.Effects() {
		if e.VMID != faultVMID {
			continue
		}
		mine := e.Auth == readToken || strings.HasPrefix(e.Auth, launcher+"!w-")
		switch e.Kind { //nolint:exhaustive // the others are not of a destroy
		case pvesim.VolumeFreed:
			volumes++
		case pvesim.GuestDestroyed:
			guests++
			if mine {
				ours++
			}
		case pvesim.ConfigEmptied, pvesim.GuestStopped, pvesim.GuestStarted:
		}
	}
	return volumes, guests, ours
}

// upids are the tasks of the op that the simulator knows to have had an effect.
func (w *faultWorld) upids() []string {
	var all []string
	for _, e := range w.sim.Effects() {
		if e.UPID != "" && e.VMID == faultVMID && !slices.Contains(all, e.UPID) {
			all = append(all, e.UPID)
		}
	}
	return all
}
