package storetest_test

import (
	"testing"
	"time"

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

func TestMemoryStampsWithItsClock(t *testing.T) {
	m := storetest.NewMemory(ledgerID)
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.FixedZone("CET", 3600))
	m.SetClock(func() time.Time { return at })
	if _, err := m.Append(t.Context(), "s", eventstore.NoStream(), one(1)); err != nil {
		t.Fatal(err)
	}
	e, err := m.Head(t.Context(), "s")
	if err != nil || !e.RecordedAt.Equal(at) || e.RecordedAt.Location() != time.UTC {
		t.Errorf("got recorded at %v, %v, want %v in UTC", e.RecordedAt, err, at)
	}
}
