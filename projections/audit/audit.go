// Package audit replays a ledger and says what in it does not hold, without
// trusting the service that wrote it.
//
// Verify reads every event of a Source, which is a store (OfStore) or an export
// of one (OpenExport), and checks:
//
//   - every event: readable, in order, with the id and the chain hash that
//     belong to its bytes at its place, of a known type and form;
//   - every op: each transition, by the same fold that the service uses; no
//     event after the end, so no nonce applied twice and no effect without the
//     OpLaunching before it; the request announced is for what was signed;
//   - every decision: the gate's two steps run again on the envelope, the
//     facts and the policy on record, at the time on record, and must give the
//     same answer, signers and role; again at the launch, together with what
//     the signers expected of the target; resolutions likewise; refusals as far
//     as they are recorded;
//   - the other streams: policies with growing serials, take-overs with growing
//     epochs, tasks adopted by one op alone.
//
// What does not hold is a Finding. What can't be decided again, because only a
// digest of it is on record, is counted with its reason and never passed over
// in silence. A ledger's bytes are foreign here: none of them makes a panic.
//
// Why tells the story of one op. An Exporter writes the record as lines of JSON
// that Verify reads again.
//
// Memory grows, beside the batches under way, with what an audit can't forget:
// about 20 bytes for each op that has ended, as much again for each task id,
// some 200 bytes for each op that failed with effect none (another attempt may
// follow), a few KiB for each op in flight, and some hundred bytes for each
// policy, take-over, instance and adopted task.
package audit

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"sync"

	"writ/domain/eventstore"
	"writ/domain/gate"
	"writ/domain/op"
)

// A Source gives the events of one ledger.
type Source interface {
	LedgerID() eventstore.LedgerID
	// Events gives the events that pass the filter, in order of position. An
	// *UnreadableError stands in the place of an event that is damaged, and
	// others may follow it; any other error is the last element.
	Events(ctx context.Context, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error]
	// Progress tells how much of all there is to read has been read, in a unit
	// of the source's own; a total of 0 is not known. It is called by whoever
	// ranges over Events, between two elements.
	Progress() (done, total uint64)
	// Name says in a word what the source is: "store", "export".
	Name() string
}

// Options of Verify. The zero value is good.
type Options struct {
	// Workers is how many goroutines check events; 0: one for each core.
	Workers int
	// Limit bounds each list of the report: findings, ops in flight, ops that
	// today's policy would refuse. What is beyond it is counted. 0: 1000.
	Limit int
	// Today, if given, is a policy by which every claim is decided once more,
	// at its time and with its facts: would it have been allowed?
	Today *gate.Policy
	// Known, if given, are the policies that the auditor knows from elsewhere, as
	// PolicyDigest gives them: any other one on record is a finding. Nobody
	// signs policies, so nothing else tells that the service's were these.
	Known []op.Digest
	// Progress, if given, is called now and then, by one goroutine at a time.
	Progress func(Progress)
}

// PolicyDigest identifies what a policy says, however its file is laid out.
func PolicyDigest(doc gate.PolicyDocument) (op.Digest, error) {
	data, err := op.Marshal(doc)
	if err != nil {
		return op.Digest{}, fmt.Errorf("policy: %w", err)
	}
	return op.DigestOf(data), nil
}

// Progress is how far Verify or an Exporter has come.
type Progress struct {
	Events      uint64
	Done, Total uint64 // in the source's unit; Total 0: not known
}

// progressEvery is the number of events between two calls of a progress
// function.
const progressEvery = 4096

// Verify reads the whole source and reports. The error is of the source or of
// ctx, and the report then covers what was read until there and says so in
// Complete; it is never nil.
//
// Each op is checked by one goroutine, in the order of its events; different
// ops in parallel. The report is the same whatever the number of workers, but
// for which of two ops is named that have one task on record.
func Verify(ctx context.Context, src Source, o Options) (*Report, error) {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Limit <= 0 {
		o.Limit = 1000
	}
	a := &auditor{ledger: string(src.LedgerID()), limit: o.Limit, today: o.Today, known: o.Known, seen: newMemory()}
	a.main = a.newTally()
	for range o.Workers {
		w := &worker{auditor: a, tally: a.newTally(), queue: make(chan []item, 4)}
		w.ops = make(map[string]*opState)
		w.resting = make(map[uint64]resting)
		w.others = make(map[string]*chain)
		a.workers = append(a.workers, w)
	}
	var running sync.WaitGroup
	for _, w := range a.workers {
		running.Go(w.run)
	}
	err := a.dispatch(ctx, src, o.Progress)
	for _, w := range a.workers {
		close(w.queue)
	}
	running.Wait()
	r := a.report(src.Name())
	r.Complete = err == nil && !r.cut
	if err != nil {
		err = fmt.Errorf("read the ledger: %w", err)
		r.Stopped = shorten(err.Error())
	}
	r.Sound = r.Complete && r.findings() == 0
	return r, err
}
