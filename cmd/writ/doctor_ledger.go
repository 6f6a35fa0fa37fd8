package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"writ/adapters/highwater"
	"writ/adapters/httpapi"
	"writ/domain/eventstore"
	"writ/domain/gate"
	"writ/domain/op"
)

const (
	// fsyncs is how many are timed, fsyncSlow from when on they are slow: an op
	// waits for some ten of them.
	fsyncs    = 15
	fsyncSlow = 100 * time.Millisecond
	readyTime = 10 * time.Second // for the service's answer
)

// checkLedger looks at the ledger, or asks the service that holds it.
func (dr *doctor) checkLedger(ctx context.Context) {
	dr.progress("open the ledger")
	store, err := dr.c.openLedger(ctx, slog.New(slog.DiscardHandler))
	if err != nil {
		dr.checkHeld(ctx, err)
		return
	}
	dr.checkStore(ctx, store)
	if err := store.Close(); err != nil {
		dr.d.add(stateFail, "ledger", "", "close it: %v", err)
	}
	dr.checkFsync()
}

// checkHeld is for a ledger that could not be opened, most often because a
// service runs.
func (dr *doctor) checkHeld(ctx context.Context, cause error) {
	dr.progress("ask the service")
	f := dr.flags.client
	if !dr.flags.ask {
		scheme := "http://"
		if dr.c.TLS.CertFile != "" {
			scheme = "https://"
		}
		f.url = scheme + dr.c.Listen
	}
	ready, err := askReady(ctx, f)
	if err != nil {
		dr.d.add(stateFail, "ledger", "if a service runs, name it by --url", "%v; and no service answers for it: %v", cause, err)
		return
	}
	var failing []string
	for _, name := range slices.Sorted(maps.Keys(ready.Checks)) {
		if text := ready.Checks[name]; text != "ok" {
			failing = append(failing, name+": "+text)
		}
	}
	switch {
	case !ready.Ready || len(failing) > 0:
		dr.d.add(stateFail, "ledger", "the service's log says why", "held by the service at %s, which is not ready:\n%s", f.url, strings.Join(failing, "\n"))
	default:
		dr.d.ok("ledger", "held by the service at %s, which says that it is well", f.url)
	}
}

// askReady asks a service whether it is ready; it answers 503 if not.
func askReady(ctx context.Context, f clientFlags) (httpapi.Readiness, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	var ready httpapi.Readiness
	c, err := f.open()
	if err != nil {
		return ready, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/readyz", nil)
	if err != nil {
		return ready, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return ready, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(http.MaxBytesReader(nil, resp.Body, maxReplyBytes)).Decode(&ready); err != nil || len(ready.Checks) == 0 {
		return ready, fmt.Errorf("ask %s: the answer is not one of writ's (%s)", c.base, resp.Status)
	}
	return ready, nil
}

func (dr *doctor) checkStore(ctx context.Context, store *ledger) {
	if err := store.health(ctx); err != nil {
		dr.d.add(stateFail, "ledger", "see docs/operations.md, Alarms", "%v", err)
	} else {
		dr.d.ok("ledger", "%s can be used; no service holds it", store.LedgerID())
	}
	dr.checkInForce(ctx, store)
	if store.embedded == nil {
		return
	}
	dr.checkMark(ctx, store)
	free, _, err := store.embedded.Room()
	reserve := dr.c.Limits.DiskReserve
	switch {
	case err != nil:
		dr.d.add(stateFail, "disk", "", "%v", err)
	case byteSize(free) < reserve:
		dr.d.add(stateFail, "disk", "make room", "%s free, and %s are kept for the ends of ops (limits.disk_reserve): nothing is claimed", byteSize(free), reserve)
	case byteSize(free) < 2*reserve:
		dr.d.add(stateWarn, "disk", "make room", "%s free; below %s (limits.disk_reserve) nothing is claimed", byteSize(free), reserve)
	default:
		dr.d.ok("disk", "%s free, %s are kept for the ends of ops", byteSize(free), reserve)
	}
}

// checkInForce compares the policy file with the newest policy on record.
func (dr *doctor) checkInForce(ctx context.Context, store *ledger) {
	const check = "policy in force"
	rec, err := store.Head(ctx, gate.PolicyStream)
	if errors.Is(err, eventstore.ErrStreamNotFound) {
		dr.d.ok(check, "none yet: the first start puts the file in force")
		return
	}
	var l gate.Loaded
	if err == nil {
		err = op.Unmarshal(rec.Data, &l)
	}
	if err != nil {
		dr.d.add(stateFail, check, "writ audit verify", "stream %s: %v", gate.PolicyStream, err)
		return
	}
	file, err := readPolicyFile(dr.c.Policy.Path)
	if err != nil {
		return // said before
	}
	had, err := op.Marshal(l.Policy)
	want, failed := op.Marshal(file.Document)
	switch {
	case err != nil || failed != nil:
		dr.d.add(stateFail, check, "", "%v", errors.Join(err, failed))
	case string(had) == string(want):
		dr.d.ok(check, "serial %d, as in the file", l.Serial)
	default:
		dr.d.add(stateWarn, check, "the next start puts the file in force; look at it with writ policy check", "serial %d, since %s, says something else than the file",
			l.Serial, l.At.UTC().Format(time.RFC3339))
	}
}

// checkMark looks at the mark by which an old copy of the ledger is noticed.
func (dr *doctor) checkMark(ctx context.Context, store *ledger) {
	const check, remedy = "high-water mark", "see docs/operations.md, An old copy of the ledger"
	mark, found, err := highwater.At(dr.c.Store.HighWater).Seen(ctx)
	switch {
	case err != nil:
		dr.d.add(stateFail, check, remedy, "%v", err)
	case !found:
		dr.d.add(stateFail, check, remedy, "%s is missing: nothing is launched", dr.c.Store.HighWater)
	case mark.Ledger != store.LedgerID():
		dr.d.add(stateFail, check, remedy, "%s is of ledger %s: nothing is launched", dr.c.Store.HighWater, mark.Ledger)
	default:
		dr.d.ok(check, "of this ledger, kept in %s", dr.c.Store.HighWater)
	}
}

// checkFsync times what every step of an op waits for, beside the ledger.
func (dr *doctor) checkFsync() {
	if dr.c.Store.remote() {
		return
	}
	dr.progress("time the disk")
	took, err := timeFsync(filepath.Dir(dr.c.Store.Embedded.Path), dr.now)
	switch {
	case err != nil:
		dr.d.add(stateWarn, "fsync", "", "could not be timed: %v", err)
	case took > fsyncSlow:
		dr.d.add(stateWarn, "fsync", "put the ledger on a faster disk: an op waits for some ten of them", "%s", took.Round(time.Millisecond))
	default:
		dr.d.ok("fsync", "under %s", max(time.Millisecond, took.Round(time.Millisecond)+time.Millisecond))
	}
}

// timeFsync writes to a file of its own and removes it again. It gives the
// median.
func timeFsync(dir string, now func() time.Time) (_ time.Duration, err error) {
	f, err := os.CreateTemp(dir, ".writ-doctor-*")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	var took []time.Duration
	for range fsyncs {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			return 0, err
		}
		began := now()
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took = append(took, now().Sub(began))
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}
