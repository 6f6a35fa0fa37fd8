// Package crashmatrix lets one fault happen at one boundary of an op's life, for
// every class, every boundary and every fault that there can be, in an ordinary run
// and in a recovery from every situation that a crash can leave, with every kind of
// end that the host's task can have.
//
// A boundary is a command that the engine's step function gives: what happens
// there is that the process dies before or after it, that it is lost, done and
// reported as failed, refused, late, delivered twice, or cut short by the end of
// the service; that the host forgets the task; or that other people do what the op
// is to do, or take it back, right before. What is late comes before each command of
// what follows, in turn, and after all of it. Nothing is left to chance: the
// boundaries are those of runs without a fault, so that a new command is a new
// boundary by itself.
//
// Each history goes on with recoveries until nothing changes any more, and with
// the order delivered again; the invariants are checked after every step. The
// ends that were seen at a boundary with a fault are a cell of a class's grid. The
// tests compare the grids with testdata/grids.md, and with docs/robustness.md, which
// shows that of guest-destroy whole and of the others what tells them from it.
//
//	go test ./domain/engine/crashmatrix                  # guest-destroy whole, of the others the chief part
//	go test ./domain/engine/crashmatrix -whole           # everything, and compares
//	go test ./domain/engine/crashmatrix -whole -update   # rewrites the grids; read the diff
package crashmatrix
