// Package kills tests the real thing by killing it: it holds tests alone.
//
// TestKills runs the built program, a ledger on the disk and a simulated
// cluster, each as a process of its own. Under load the service is killed with
// SIGKILL at random moments, in the middle of starting and recovering too, and
// started again, hundreds of times; replies and requests get lost and workers of
// the cluster die meanwhile. Afterwards the cluster's own account of what was
// done to its guests is compared with the record and with everything that
// callers were told.
//
// TestLedgerKilled kills the ledger in place of the service: writ eventstore, which
// the service reaches over EventStoreDB's protocol.
//
// TestPowerLoss puts the engine and the embedded store on a disk that loses
// what was not synced, or keeps any part of it, when the power goes; the host
// goes on living through it and keeps the account.
//
// Whatever happens, four things hold: a nonce takes effect at most once; nothing
// takes effect that was not announced on record before; what is on record as
// done, or as without effect, is so in truth; and whatever was acknowledged is on
// record, and has ended or stands in the recovery queue.
//
// A plain go test takes a quick look. All of it, some minutes:
//
//	go test ./cmd/writ/kills -kills 300 -ledgerkills 20 -losses 200 -timeout 15m -v
package kills
