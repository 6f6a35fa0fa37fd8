// Package pvesim is a Proxmox VE cluster that exists only in memory: its HTTP
// API as Proxmox VE 9.2 speaks it, with the staged, asynchronous and sometimes
// half-done effects that make the real one hard to use safely. It stands in
// for the outside world in tests and demos, and so it imports nothing of this
// module.
//
// A [Sim] is a deterministic state machine. [Sim.Serve] takes a request and
// answers through a callback, at once or later; [Sim.Do] waits for that answer.
// Neither needs a socket. [Sim.Handler] and [Sim.Start] put the wire rules of
// pveproxy around them: error texts in the reason phrase, connections closed on
// errors, empty bodies on 401, 595 and 596.
//
// Everything happens under one mutex, time moves only through the injected
// clock, and randomness comes from one seed. Tasks are lists of named stages
// (see [Fault]): a test may hold, slow, fail or kill a task before any of them,
// and may hold, lose or falsify any request.
//
// [Sim.Effects] is an account, kept apart from tasks and replies, of what was
// really done to guests, volumes, backups, pools and disks. A test that asks "at
// most once?" asks it.
//
// Methods of Sim may be called from any goroutine. Control methods (those that
// are not HTTP) act at once, as another administrator's hand would.
package pvesim
