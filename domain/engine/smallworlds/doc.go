// Package smallworlds enumerates small worlds whole: two launchers, a few
// deliveries of one writ, one target, and every order in which their steps, the
// messages between them and a bounded number of faults can come. Tests by
// chance may never meet the one order in which two of those spoil a third; here
// there is none that is not met.
//
// What is played is the engine's own step function (engine.Job) over the real
// aggregate (package op). Around it stand three small models, written for this
// and nothing else: a store that knows an append again by the ids of its events
// alone, as EventStoreDB does; a host with tokens, protection, requests that
// wait, tasks that are killed; and the part of the engine's runner that says
// who leads and what is recovered.
//
// Time stands still: no check of an age or of an expiry can hide what would go
// wrong without it.
//
// After every step a checker that knows nothing of the engine compares what is
// on record with what was done to the guest. If it finds something wrong, the
// shortest history that leads there is printed. That it would find it is shown
// by worlds which are wrong on purpose.
//
// There is no code but tests:
//
//	go test ./domain/engine/smallworlds                   # smaller bounds, some seconds
//	go test ./domain/engine/smallworlds -whole            # the bounds of docs/robustness.md
package smallworlds
