// Package storetest holds what every ledger must do, as tests: [Run] checks a
// store against each sentence of the port eventstore. It also holds two stores
// for the tests of other packages: [Memory], a ledger in memory, and [Faulty],
// which makes any store fail in every way that the port allows.
//
// The tests suppose nothing about where the store is: it may be at the other
// end of a network, its positions may have gaps, and its ledger may hold the
// events of others, because each test reads streams of its own names only.
package storetest

import (
	"regexp"
	"testing"

	"writ/domain/eventstore"
)

// A Suite is the contract, and what it has to know of a store to check it.
type Suite struct {
	// Open gives a store to one test, which closes it by t.Cleanup. It may be
	// the same ledger each time.
	Open func(t *testing.T) eventstore.Store

	// Reopen closes a store and opens its ledger again. Nil: the store does
	// not outlive its process, and the tests of that are skipped.
	Reopen func(t *testing.T, s eventstore.Store) eventstore.Store

	// IDsOnly says that the store recognises a repeated append by its event
	// ids without looking at the bytes, as EventStoreDB does. It may then
	// answer an append that wrongly reuses an id as if it were the first, but
	// it still must not write it.
	IDsOnly bool

	// Rounds is the number of rounds of the tests that race; 0 means 200.
	Rounds int
}

// Run checks a store that has no peculiarities.
func Run(t *testing.T, open func(t *testing.T) eventstore.Store) {
	t.Helper()
	Suite{Open: open}.Run(t)
}

// Run checks a store, each sentence of the contract in a subtest of its own.
func (s Suite) Run(t *testing.T) {
	t.Helper()
	if s.Rounds == 0 {
		s.Rounds = 200
	}
	if testing.Short() {
		s.Rounds = min(s.Rounds, 20)
	}
	t.Run("the ledger id is 16 lower-case hex digits and stays the same", s.ledgerID)
	t.Run("append", s.appending)
	t.Run("repeat", s.repeating)
	t.Run("race", s.racing)
	t.Run("read a stream", s.readingStreams)
	t.Run("read all", s.readingAll)
	t.Run("subscribe", s.subscribing)
	t.Run("reopen", s.reopening)
}

func (s Suite) ledgerID(t *testing.T) {
	store := s.Open(t)
	id := store.LedgerID()
	if !regexp.MustCompile(`^[0-9a-f]{16}$`).MatchString(string(id)) {
		t.Errorf("got ledger id %q, want 16 lower-case hex digits", id)
	}
	if again := store.LedgerID(); again != id {
		t.Errorf("got ledger id %q, the second time %q", id, again)
	}
}
