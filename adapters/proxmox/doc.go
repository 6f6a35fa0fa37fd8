// Package proxmox carries out ops on a Proxmox VE cluster and reads from it,
// through its HTTP API.
//
// Start at [New], which makes a [Host] from a [Config]. [Host.Executors] gives an
// executor for each class, Host itself is an engine.Host. What an executor does is
// the same for all classes (executor.go), what is particular to one is its conduct
// (conduct.go).
//
// Proxmox VE has no idempotency key and no precondition on a destructive call,
// tells most refusals apart by text alone, and may have started a task that it
// answers with status 500. So some things here are stricter than a client
// usually is:
//
//   - transport.go lets through one request per exchange: of the mutating ones
//     only the announced, over a connection of its own, never repeated or
//     redirected. Every answer that is not 200 becomes a *StatusError before
//     the library below, go-proxmox, sees it: the library loses most of them.
//   - verdict.go says which failures of a launch prove that nothing was
//     started. Whatever its table does not list is ambiguous.
//   - prepare.go makes an API token for each attempt, whose name the host takes
//     only once: the host itself keeps the register of what was launched, and
//     refuses a second launch of one attempt, whatever copy of a ledger asks.
//     mutation.go is the last gate before any write, with every form it may have.
//   - rootticket.go logs root@pam in for the wipe of a disk, which nobody else may
//     do, if it was given the password; nothing of what is said here of tokens is
//     true of that one request.
//   - fence.go stops a request that may still be on its way, by taking its token's
//     life and by protecting the guest; it only ever takes rights away.
//   - tombstones.go reads that register, and removes from it what nobody can
//     launch any more.
//   - history.go finds the tasks that a request has started.
//   - probe.go says from the state of the host what an attempt did. What can't
//     be read or told apart is unknown, never guessed; nor is a guest untouched
//     while a child of a killed worker may be at it (orphans.go).
//
// Supported are Proxmox VE 8.1 and newer. On 6.4 a destroy without the
// parameter destroy-unreferenced-disks removes more than was asked for.
package proxmox
