// Package engine runs ops. A submission goes through dedupe, gate and claim;
// the claimed op waits for its target, is looked at and authorized once more,
// announced, launched once, followed and verified. Every step is on record
// before the next is taken.
//
// The package has two halves. Job is the core: a step function that is given
// what happened and answers with what to do next. It does no I/O, reads no
// clock and draws no random number, so that a test can play every order of
// events, every fault and every crash against the very code that runs in
// production (job.go, admit.go, launch.go, follow.go). The runner is the thin
// other half: it carries a job's commands out, one at a time, against store
// and host, and brings back what came of them (runner.go).
//
// What may be relied on:
//
//   - An op is claimed by appending OpStarted at the revision that the dedupe
//     saw. Of any number of claimants, here or elsewhere, one wins.
//   - Nothing is sent to the host before OpLaunching is durable, and it is
//     sent once: no retry, here or in an adapter.
//   - An error of the host ends an attempt only if it proves that nothing
//     happened. Any other leaves the op in flight, for recovery to settle.
//   - Success is recorded only after the host's state was seen to prove it.
//   - After the claim, a caller that hangs up changes nothing.
package engine
