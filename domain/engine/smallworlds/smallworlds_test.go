package smallworlds_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"writ/domain/engine/enginetest"
	"writ/domain/op"
)

var (
	everything = flag.Bool("whole", false, "enumerate the large worlds, too")
	update     = flag.Bool("update", false, "rewrite testdata/ends.txt, and with -whole the table in docs/robustness.md")
)

// The worlds, of guest-destroy where no class is named. A world that is not small is
// enumerated with -whole alone.
var worlds = []struct {
	name   string
	large  bool
	class  op.Class
	bounds bounds
}{
	{"one launcher, nothing goes wrong but tasks", false, op.GuestDestroy, bounds{Deliver: [2]uint8{2, 0}, Passes: 1}},
	{"one launcher, two faults of the store", false, op.GuestDestroy, bounds{Deliver: [2]uint8{2, 0}, Passes: 1, Store: 2}},
	{"one launcher, a fault each of store and host, a question", false, op.GuestDestroy, bounds{Deliver: [2]uint8{2, 0}, Passes: 1, Store: 1, Net: 1, Ask: 1, Lift: 1}},
	{"one launcher, two crashes", false, op.GuestDestroy, bounds{Deliver: [2]uint8{2, 0}, Passes: 1, Crash: 2}},
	{"one launcher, a crash, a fault of the host, a task forgotten", false, op.GuestDestroy, bounds{Deliver: [2]uint8{2, 0}, Crash: 1, Net: 1, Forget: 1, Lift: 1}},
	{"a successor, a fault of the host", false, op.GuestDestroy, bounds{Deliver: [2]uint8{1, 1}, Passes: 1, Over: 1, Net: 1}},
	{"a successor, a fault of the store", false, op.GuestDestroy, bounds{Deliver: [2]uint8{1, 1}, Passes: 1, Over: 1, Store: 1}},
	{"a shared token, one launcher, a fault each of store and host, a question", false, op.GuestDestroy, bounds{Shared: true, Deliver: [2]uint8{2, 0}, Passes: 1, Store: 1, Net: 1, Ask: 1, Lift: 1}},
	{"a shared token, one launcher, a crash, a fault of the host", false, op.GuestDestroy, bounds{Shared: true, Deliver: [2]uint8{2, 0}, Passes: 1, Crash: 1, Net: 1, Lift: 1}},
	{"a shared token, a successor, a fault of the host", true, op.GuestDestroy, bounds{Shared: true, Deliver: [2]uint8{1, 1}, Passes: 1, Over: 1, Net: 1, Lift: 1}},
	{"one launcher, a crash, a fault each of store and host", true, op.GuestDestroy, bounds{Deliver: [2]uint8{2, 0}, Crash: 1, Store: 1, Net: 1}},
	{"a successor, a fault of the host, a question", true, op.GuestDestroy, bounds{Deliver: [2]uint8{1, 1}, Passes: 1, Over: 1, Net: 1, Ask: 1, Lift: 1}},
	{"a successor, a fault each of store and host", true, op.GuestDestroy, bounds{Deliver: [2]uint8{1, 1}, Over: 1, Store: 1, Net: 1}},
	{"two successions", true, op.GuestDestroy, bounds{Deliver: [2]uint8{1, 1}, Passes: 1, Over: 2}},
	{"a successor, a crash", true, op.GuestDestroy, bounds{Deliver: [2]uint8{1, 1}, Passes: 1, Over: 1, Crash: 1}},
	{"a successor, a crash, a fault of the store", true, op.GuestDestroy, bounds{Deliver: [2]uint8{1, 1}, Over: 1, Crash: 1, Store: 1}},

	// A class that has a fence, and whose effect is not proven by the state alone.
	{"restore-overwrite: one launcher, a crash, a fault of the host, a task forgotten", true, op.RestoreOverwrite, bounds{Deliver: [2]uint8{2, 0}, Crash: 1, Net: 1, Forget: 1, Lift: 1}},
	{"restore-overwrite: a successor, a fault of the host", true, op.RestoreOverwrite, bounds{Deliver: [2]uint8{1, 1}, Passes: 1, Over: 1, Net: 1}},
	// No fence, and a request that is late would act again.
	{"snapshot-rollback: one launcher, a crash, a fault of the host, others do it", false, op.SnapshotRollback, bounds{Deliver: [2]uint8{2, 0}, Crash: 1, Net: 1, Others: 1}},
	{"snapshot-rollback: a successor, a fault of the host, a question", true, op.SnapshotRollback, bounds{Deliver: [2]uint8{1, 1}, Passes: 1, Over: 1, Net: 1, Ask: 1}},
	// No fence, and what others have done is told from the op's doing by their task.
	{"snapshot-delete: one launcher, faults of store and host, others do it and undo it", true, op.SnapshotDelete, bounds{Deliver: [2]uint8{2, 0}, Store: 1, Net: 1, Others: 1, Undo: 1, Passes: 1}},
	// No fence; that it is gone counts if the attempt had a task.
	{"volume-delete: one launcher, a crash, a fault of the host, a task forgotten, others do it and undo it", true, op.VolumeDelete, bounds{Deliver: [2]uint8{2, 0}, Crash: 1, Net: 1, Forget: 1, Others: 1, Undo: 1}},
	{"storage-wipe: a successor, a crash", true, op.StorageWipe, bounds{Deliver: [2]uint8{1, 1}, Over: 1, Crash: 1}},
	// The state says nothing of who brought it about, and people bring it about and
	// take it back.
	{"guest-stop: one launcher, a crash, a fault of the host, others do it and undo it", false, op.GuestStop, bounds{Deliver: [2]uint8{2, 0}, Crash: 1, Net: 1, Others: 1, Undo: 1}},
	{"guest-stop: a successor, a fault of the host, others do it and undo it", true, op.GuestStop, bounds{Deliver: [2]uint8{1, 1}, Passes: 1, Over: 1, Net: 1, Others: 1, Undo: 1}},
	{"guest-reboot: a shared token, a successor, a fault of the host", true, op.GuestReboot, bounds{Shared: true, Deliver: [2]uint8{1, 1}, Passes: 1, Over: 1, Net: 1}},
	// Nobody has signed it: one delivery, which nothing can deliver again.
	{"guest-start: a successor, faults of store and host, others do it", false, op.GuestStart, bounds{Deliver: [2]uint8{1, 0}, Passes: 1, Over: 1, Store: 1, Net: 1, Others: 1}},
	{"backup-create: a successor, two crashes, a fault of the host, a question, others do it", true, op.BackupCreate, bounds{Deliver: [2]uint8{1, 0}, Over: 1, Crash: 2, Net: 1, Ask: 1, Others: 1}},
	{"snapshot-create: a shared token, a successor, a crash, faults of store and host", true, op.SnapshotCreate, bounds{Shared: true, Deliver: [2]uint8{1, 0}, Over: 1, Crash: 1, Store: 1, Net: 1}},
}

// most is how many states a world may have. One that has more has got out of
// hand: a counter that only ever grows makes each round of a wait a new state.
const most = 5_000_000

// In every history of every world the invariants hold, every op ends or waits in
// the recovery queue, and no end is of a kind that was not seen before.
func TestSmallWorlds(t *testing.T) {
	known := readEnds(t)
	var table strings.Builder
	type kind struct {
		class  op.Class
		shared bool
	}
	casts := make(map[kind]*cast)
	for i, x := range worlds {
		if x.large && !*everything || testing.Short() && i > 1 {
			continue
		}
		t.Run(x.name, func(t *testing.T) {
			k := kind{x.class, x.bounds.Shared}
			if casts[k] == nil {
				casts[k] = newCast(t, x.class)
			}
			r := newWorld(casts[k], x.bounds, 0).explore(most)
			if r.wrong != "" {
				t.Fatalf("%s", r.tell())
			}
			t.Log(r)
			fmt.Fprintf(&table, "| %s | %s | %s | %s | %.1e | %s |\n", x.name, x.bounds, enginetest.Grouped(r.states), enginetest.Grouped(r.moves), r.histories, enginetest.Grouped(r.quiet))
			ends := slices.Sorted(maps.Keys(r.ends))
			if *update {
				known[x.name] = ends
			}
			if !slices.Equal(ends, known[x.name]) {
				t.Errorf("ends: got\n\t%s\nwant (-update, if they are meant to change)\n\t%s", strings.Join(ends, "\n\t"), strings.Join(known[x.name], "\n\t"))
			}
		})
	}
	if *update && !t.Failed() {
		writeEnds(t, known)
	}
	if *update && *everything && !t.Failed() {
		writeTable(t, table.String())
	}
}

// A world that is wrong in one thing is found out: the checker can fail, and
// what the world leaves out is needed.
func TestTheCheckerFindsWhatIsWrong(t *testing.T) {
	one, two, succession := bounds{Deliver: [2]uint8{1, 0}}, bounds{Deliver: [2]uint8{2, 0}}, bounds{Deliver: [2]uint8{1, 1}, Over: 1}
	with := func(b bounds, change func(b *bounds)) bounds { change(&b); return b }
	aLoss := func(b *bounds) { b.Net = 1 }
	byOthers := func(b *bounds) { b.Others = 1 }
	aLossAndALift := func(b *bounds) { b.Net, b.Lift = 1, 1 }
	cases := map[string]struct {
		wrong  wrong
		class  op.Class
		bounds bounds
		want   string
	}{
		"claimants that draw the same claim":                     {sameClaims, op.GuestDestroy, two, "two claimants were told that they have the op"},
		"a store that forgets what it has answered":              {loseAfterAnswer, op.GuestDestroy, one, "its announcement is not on record"},
		"a timeout that passes for proof":                        {timeoutIsProof, op.GuestDestroy, with(one, aLoss), "its request may still have one"},
		"no fence":                                               {noFence, op.GuestDestroy, with(one, aLoss), "its request may still have one"},
		"a fence that leaves the token alone":                    {fenceNoToken, op.GuestDestroy, with(one, aLoss), "its request may still have one"},
		"a fence that leaves the guest unprotected":              {fenceNoProtect, op.GuestDestroy, with(one, aLoss), "its request may still have one"},
		"a fence that leaves the name of the token free":         {fenceNoTombstone, op.GuestDestroy, with(succession, func(b *bounds) { b.Lift = 1 }), "its request may still have one"},
		"the task of another attempt is adopted":                 {anyTask, op.GuestDestroy, with(two, aLoss), "its request may still have one"},
		"the task's word is believed":                            {believesTask, op.GuestDestroy, one, "its request has had one"},
		"who was superseded recovers what his successor claimed": {recoversLater, op.GuestDestroy, with(succession, func(b *bounds) { b.Passes = 1 }), "another copy of the ledger is suspected"},
		"protection is lifted while a request stalls":            {liftsEarly, op.GuestDestroy, with(one, aLossAndALift), "its request may still have one"},
		"a fence of a class that has none":                       {noFence, op.SnapshotRollback, with(one, aLoss), "its request may still have one"},
		"a timeout that passes for proof, of a benign class":     {timeoutIsProof, op.GuestStart, with(one, aLoss), "its request may still have one"},
		"the task's word is believed, of a benign class":         {believesTask, op.SnapshotCreate, one, "its request has had one"},
		"a guest that others stopped passes for stopped by us":   {takesOthers, op.GuestStop, with(one, byOthers), "its request has had no effect"},
		"somebody else's backup passes for ours":                 {takesOthers, op.BackupCreate, with(one, byOthers), "its request has had no effect"},
	}
	for name, x := range cases {
		if testing.Short() && x.bounds.Over > 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			r := newWorld(newCast(t, x.class), x.bounds, x.wrong).explore(most)
			if !strings.Contains(r.wrong, x.want) {
				t.Fatalf("got %q after %d states, want %q", r.wrong, r.states, x.want)
			}
			t.Log(r.tell())
		})
	}
}

// What is not promised: should anything between writ and the host's daemon
// deliver a request twice, the answer to one copy may prove nothing about the
// other. This is the shortest history; docs/robustness.md tells of it.
func TestRequestsDeliveredTwiceAreNotCovered(t *testing.T) {
	r := newWorld(newCast(t, op.GuestDestroy), bounds{Deliver: [2]uint8{1, 0}, Twice: 1}, 0).explore(most)
	if !strings.Contains(r.wrong, "without effect") {
		t.Fatalf("got %q, want a request that has an effect against the record: if this is covered by now, say so in docs/robustness.md", r.wrong)
	}
	t.Log(r.tell())
}

const endsFile = "testdata/ends.txt"

// readEnds gives the ends that are known of each world.
func readEnds(t *testing.T) map[string][]string {
	t.Helper()
	known := make(map[string][]string)
	raw, err := os.ReadFile(endsFile)
	if err != nil && !*update {
		t.Fatal(err)
	}
	for section := range strings.SplitSeq(strings.TrimSpace(string(raw)), "\n\n") {
		name, ends, _ := strings.Cut(section, "\n\t")
		known[name] = strings.Split(ends, "\n\t")
	}
	return known
}

func writeEnds(t *testing.T, known map[string][]string) {
	t.Helper()
	var b strings.Builder
	for _, x := range worlds {
		if ends, ok := known[x.name]; ok {
			fmt.Fprintf(&b, "%s\n\t%s\n\n", x.name, strings.Join(ends, "\n\t"))
		}
	}
	if err := os.WriteFile(endsFile, []byte(strings.TrimSpace(b.String())+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

const page = "../../../docs/robustness.md"

// writeTable puts the counts into the documentation.
func writeTable(t *testing.T, rows string) {
	t.Helper()
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	const head = "| world | at most | states | moves | histories | states with nothing under way |\n| --- | --- | --- | --- | --- | --- |\n"
	is, err := enginetest.InSection(string(raw), "smallworlds", head+rows)
	if err != nil {
		t.Fatalf("%s: %v", page, err)
	}
	if err := os.WriteFile(page, []byte(is), 0o644); err != nil {
		t.Fatal(err)
	}
}

// String says what may happen, and how often.
func (b bounds) String() string {
	parts := []string{fmt.Sprintf("deliveries %d+%d", b.Deliver[0], b.Deliver[1])}
	for _, x := range []struct {
		what string
		n    uint8
	}{
		{"take-overs", b.Over},
		{"crashes", b.Crash},
		{"store", b.Store},
		{"host", b.Net},
		{"delivered twice", b.Twice},
		{"questions", b.Ask},
		{"forgotten", b.Forget},
		{"lifts", b.Lift},
		{"done by others", b.Others},
		{"undone by others", b.Undo},
		{"more passes", b.Passes},
	} {
		if x.n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", x.what, x.n))
		}
	}
	return strings.Join(parts, ", ")
}
