package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"writ/adapters/proxmox"
	"writ/adapters/pvesim"
	"writ/domain/op"
)

// A faultWay is one way in which a fault shows itself, and all that must come of
// it.
type faultWay struct {
	name string
	kind pvesim.Kind // of the guest; empty: QEMU
	conf func(*proxmox.Config)
	// set puts the fault in force, before the writ is delivered.
	set func(w *faultWorld)
	// told is the answer to the delivery: status, word, and a part of the text.
	told tale
	// queue is a part of what the recovery queue then says of the op: what is
	// known of it if it is indeterminate, else what it waits for. Empty: it is not
	// there.
	queue string
	// then is what happens later, before recovery gets half an hour.
	then func(w *faultWorld)
	// events are the types on record in the end; empty: nothing was recorded.
	events string
	// end is kind and effect of a failure, "done" of a success; "open" if the op
	// waits for a person.
	end string
	// because is a part of the evidence on record, or of the queue's words if it
	// is open.
	because string
	// What was really done to guests with the VMID, by whoever: volumes removed
	// and guests destroyed; ours are those destroyed by the op.
	volumes, guests, ours int
	// unsent: no order to destroy reached the host. Else exactly one did, or as
	// many as sends says.
	unsent bool
	sends  int
}

// A faultRow is one fault that a real cluster shows.
type faultRow struct {
	name string
	ways []faultWay
}

// Every fault in the list has its case, and every case is in the list: what is
// recorded of it, and what a person is told.
func TestFaultsOfARealCluster(t *testing.T) {
	rows := slices.Concat(faultsOfNodes(), faultsOfReplies(), faultsOfTasks(), faultsOfGuests())
	var names []string
	for _, row := range rows {
		names = append(names, row.name)
		if len(row.ways) == 0 {
			t.Errorf("%s: no case", row.name)
		}
	}
	slices.Sort(names)
	listed := slices.Sorted(slices.Values(faultsListed))
	if !slices.Equal(names, listed) {
		t.Fatalf("cases: got %d, %q; want %d, %q", len(names), names, len(listed), listed)
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			for _, way := range row.ways {
				t.Run(way.name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { way.run(t) })
				})
			}
		})
	}
}

func (f *faultWay) run(t *testing.T) {
	t.Helper()
	kind := f.kind
	if kind == "" {
		kind = pvesim.QEMU
	}
	w := newFaultWorld(t, kind, f.conf)
	f.set(w)
	got := w.submit()
	if got.status != f.told.status || got.word != f.told.word || !strings.Contains(got.detail, f.told.detail) {
		t.Errorf("told: got %d %s: %s; want %d %s: …%s…", got.status, got.word, got.detail, f.told.status, f.told.word, f.told.detail)
	}
	if kind, effect, ended := strings.Cut(f.end, " "); ended && got.word == kind && got.effect != effect {
		t.Errorf("told: got effect %q, want %q", got.effect, effect)
	}
	f.checkQueue(w, f.queue, got.word == "indeterminate")
	if f.then != nil {
		f.then(w)
	}
	w.settle(30 * time.Minute)
	f.checkRecord(w)
	f.checkTruth(w)
}

// checkQueue looks the op up in the recovery queue.
func (f *faultWay) checkQueue(w *faultWorld, want string, indeterminate bool) {
	w.t.Helper()
	item := w.recovery()
	if item == nil || want == "" {
		if (item == nil) != (want == "") {
			w.t.Errorf("recovery queue: got %+v, want …%s…", item, want)
		}
		return
	}
	says := item.WaitsFor
	if indeterminate {
		says = item.Detail
	}
	if item.Indeterminate != indeterminate || !strings.Contains(says, want) || len(item.Look) == 0 || item.Revision == nil {
		w.t.Errorf("recovery queue: got indeterminate: %v, %s (waits for %s), look %q; want indeterminate: %v, …%s…, and what to look at",
			item.Indeterminate, item.Detail, item.WaitsFor, item.Look, indeterminate, want)
	}
}

// checkRecord compares the op's stream, and that a later delivery of the writ
// tells the same.
func (f *faultWay) checkRecord(w *faultWorld) {
	w.t.Helper()
	if got := w.eventTypes(); got != f.events {
		w.t.Errorf("events: got %s, want %s", got, f.events)
	}
	if f.events == "" {
		f.checkQueue(w, "", false)
		return
	}
	o := w.onRecord()
	end, because := "open", ""
	switch {
	case o.Succeeded != nil:
		end = "done"
		because = strings.Join(o.Succeeded.Evidence.Reasons, "; ") + leftBehind(o.Succeeded.Residue)
	case o.Failed != nil:
		end = fmt.Sprintf("%s %s", o.Failed.Kind, o.Failed.Effect)
		because = o.Failed.Message
		if o.Failed.Evidence != nil {
			because += ": " + strings.Join(o.Failed.Evidence.Reasons, "; ")
		}
	}
	if end != f.end || !strings.Contains(because, f.because) && end != "open" {
		w.t.Errorf("on record: got %s, because %s; want %s, because …%s…", end, because, f.end, f.because)
	}
	if f.end == "open" {
		f.checkQueue(w, f.because, true)
		return
	}
	f.checkQueue(w, "", false)
}

func leftBehind(volumes []string) string {
	if len(volumes) == 0 {
		return ""
	}
	return "; left: " + strings.Join(volumes, ", ")
}

// checkTruth compares the record with what was really done, whoever was told
// what.
func (f *faultWay) checkTruth(w *faultWorld) {
	w.t.Helper()
	volumes, guests, ours := w.done()
	if volumes != f.volumes || guests != f.guests || ours != f.ours {
		w.t.Errorf("in truth: got %d volumes removed, %d guests destroyed, %d by the op; want %d, %d, %d",
			volumes, guests, ours, f.volumes, f.guests, f.ours)
	}
	want := max(f.sends, 1)
	if f.unsent {
		want = 0
	}
	if got := w.sent(); got != want {
		w.t.Errorf("orders to destroy that reached the host: got %d, want %d", got, want)
	}
	if f.events == "" {
		return
	}
	o := w.onRecord()
	switch acted := w.upids(); {
	case ours > 1 || len(acted) > 1:
		w.t.Errorf("the op acted more than once: %q", acted)
	case len(acted) > 0 && o.Launching == nil:
		w.t.Errorf("effects without an announcement: %q", acted)
	case o.Succeeded != nil && ours != 1:
		w.t.Errorf("succeeded on record, and in truth %d guests were destroyed by it", ours)
	case o.Failed != nil && o.Failed.Effect == op.EffectNone && len(acted) > 0:
		w.t.Errorf("without effect on record, and in truth the task acted: %q", acted)
	}
}
