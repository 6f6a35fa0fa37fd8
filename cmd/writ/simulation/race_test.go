//go:build race

package simulation_test

// With the race detector the runtime shuffles who is next on purpose: both plays
// of a seed are played, and not compared.
const shuffled = true
