//go:build !race

package simulation_test

const shuffled = false
