// Package simulation plays histories of the whole service over a simulated
// ledger, host, clock and schedule, and checks after each that what must never
// be is not. It has tests only; start at TestSeeds (seeds_test.go), which plays
// one history for each seed, and each twice.
//
// Real are the engine with its gate, policies, signatures, elections and
// recovery, the folding of streams, and, in some histories, the projection that
// lists what is in flight. Simulated are the store as a process reaches it
// (store_test.go), the machines' clocks, the people who order and settle, and
// those who know nothing of the service and act past it, and whatever goes wrong
// (fate_test.go). Histories are of two kinds:
//
//   - Those that are played (sim_test.go), of guest-destroy. Of the adapter for
//     Proxmox VE real are the composing of requests and the verdict on what a
//     launch's failure proves; its exchanges with the host (host_test.go) are
//     played one by one (executor_test.go, fence_test.go). Only in these is the
//     ledger copied, and do children of killed workers go on.
//   - Those that are carried (carried_test.go), of every class, signed and keyless.
//     The adapter's own executors do all of it; each of their HTTP requests is
//     parked and carried to a cluster simulated by its API (carrier_test.go,
//     world_test.go, adapters/pvesim). People, and what goes wrong there, are in
//     life_test.go and trouble_test.go; accounts_test.go compares what the cluster
//     says that it did with what was ordered, announced and put on record.
//
// # One seed, one history
//
// A history runs in the bubble of a testing/synctest. Whatever a process asks of
// the world parks its goroutine, under a key that is the same each time. The
// scheduler (schedule_test.go) waits until all are parked, chooses by its seed
// who is next and what goes wrong with it, carries it out itself, and lets that
// one goroutine go on; when nobody is due it lets time pass. So only one
// goroutine runs at a time, and the world changes by the scheduler's hand alone.
// Both plays of a seed must give the same history, line by line, with the
// digests of all that was appended.
//
// A process that dies is cut off from the world wherever it stands: each parked
// call is a place between two lines at which it can. One that is paused is not
// chosen for a while, whatever the others do meanwhile.
//
// # What must never be
//
// Checked where it happens, by the host's account (account_test.go) and by
// bytes as stored (check_test.go), neither of which shares code with the engine:
//
//   - Of all launches of one nonce, at most one has an effect, whatever copies
//     of the ledger there are.
//   - Nothing is launched unless its OpLaunching is durable in the ledger of
//     whoever launches; nor twice under one op id; nor under an epoch that had
//     ended when it was announced, or of whose end the process has heard.
//   - The host lets a request in for the guest only that people have signed for.
//   - Nothing is launched on a target while another launch of the same ledger
//     may still act on it, unless people have said of that one that its effect is
//     unknown.
//   - OpSucceeded is on record only after the guest was gone by the host's
//     account. OpFailed without effect is on record only once no request, task or
//     child of a task of the attempt can act, and stays true to the end of the
//     history, when all that was delayed has arrived and all protection is
//     lifted.
//   - What is claimed is, byte for byte, what somebody who may has signed: what
//     is refused touches no op's stream.
//   - Each stream has its revisions, its chain, its order of events, its
//     attempts and its times in order; epochs follow one another.
//
// Of carried histories, where the thing can also be a snapshot, a volume, a
// backup or a pool: its effects are only on what was signed for, as it was then;
// OpSucceeded of an op that stops a guest or takes something away is true also if
// other people were quicker; a snapshot that could not be made, and of which all
// is taken back, counts as no effect; so does a backup that other people have
// deleted since, which the host shows no trace of.
//
// In histories of liveness everything is made well at some time. Then somebody
// leads, each op ends or stands in the recovery queue of who leads, none stands
// there whose one task ended as a success, people can settle all that do, and
// each target can be used again.
//
// # What this rests on
//
//   - Tokens of attempts stay at the host, as the register of what was launched.
//     Where the ledger and all that is kept outside of it are rolled back or
//     cloned, they alone keep a nonce from a second effect. What a clone says of
//     ops that its original goes on with, or a ledger of which people accepted
//     that it knows not all, may be wrong; that nothing has two effects holds.
//   - With one shared credential nothing can stop a request that is on its way
//     but protection, and tasks of two ops on one guest look alike. People then
//     wait before they lift protection until nothing on its way can act; nobody
//     puts back an old ledger; and nothing between delivers a request twice. Late
//     requests still may hit the next guest with the VMID once people have taken
//     the first away, or have settled the op as unknown.
//   - A worker of the host knows no identity. A request that was let in for the
//     guest that was signed for, and is held up until other people, another copy
//     of the ledger, or a second delivery of it, have taken that one away, hits
//     the next one with its VMID. No service can keep it from that; such cases
//     are counted.
//   - People lift a guest's protection only when no request that the host has let
//     in for it is held up any more.
//   - Of a request that was delivered twice, the first may become a task that
//     fails before any effect, which ends the attempt without one; its token is
//     good until the end of its lease, and nothing fences the second. What that
//     does is counted, and not held against the record.
//   - What a killed worker may have left at work the host tells with each finding
//     about a guest that is there, whatever else it says of it.
//   - A right on a storage, or on a guest for its snapshots, outlives what it was
//     given for: a request held up until other people have put another volume or
//     snapshot of that name in its place hits that one. It was looked at after the
//     right was given; such cases are counted.
//   - A restore leaves the rights on the guest that it goes over: delivered twice,
//     it restores twice.
//   - Two calls with one key that are made at the same step, by goroutines that
//     the same event woke, are told apart by which came first. That is the same
//     each time unless the machine takes the processor away right there: a seed
//     whose two plays differ is played again, and counts as one with two
//     histories if they still do. How often that was needed is counted. With the race detector, which
//     shuffles goroutines on purpose, the two plays are not compared.
package simulation
