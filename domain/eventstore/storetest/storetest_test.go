package storetest_test

import (
	"testing"

	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
)

const ledgerID = "3f9c2ab41d6e4a70"

func TestMemory(t *testing.T) {
	storetest.Run(t, func(*testing.T) eventstore.Store { return storetest.NewMemory(ledgerID) })
}

func TestMemoryKeepsTheContractInASharedLedger(t *testing.T) {
	shared := storetest.NewMemory(ledgerID)
	storetest.Suite{Open: func(*testing.T) eventstore.Store { return shared }, Rounds: 40}.Run(t)
}

func TestFaultyWithoutHooksKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) eventstore.Store {
		return storetest.NewFaulty(storetest.NewMemory(ledgerID))
	})
}
