// Package crashmatrix lets one fault happen at one boundary of an op's life, for
// every boundary and every fault that there can be, in an ordinary run and in a
// recovery from every situation that a crash can leave, with every kind of end
// that the host's task can have.
//
// A boundary is a command that the engine's step function gives: what happens
// there is that the process dies before or after it, that it is lost, done and
// reported as failed, refused, late, delivered twice, or cut short by the end of
// the service. What is late comes before each command of what follows, in turn,
// and after all of it. Nothing is left to chance: the boundaries are those of
// runs without a fault, so that a new command is a new boundary by itself.
//
// Each history goes on with recoveries until nothing changes any more, and with
// the writ delivered again; the invariants are checked after every step. The
// ends that were seen at a boundary with a fault are a cell of the grid in
// docs/robustness.md. The tests compare the grid with that page:
//
//	go test ./domain/engine/crashmatrix           # compares, some seconds
//	go test ./domain/engine/crashmatrix -update   # rewrites the grid; read the diff
package crashmatrix
