package op

import (
	"time"

	"github.com/go-json-experiment/json"
)

// LedgerStream is where a ledger says about itself what its store does not.
const LedgerStream = "ledger"

// TypeRollbackAccepted is the type of the events of the ledger's stream.
const TypeRollbackAccepted = "RollbackAccepted"

// RollbackAccepted records that people took an older copy of the ledger for the
// one that counts. From this event on writs must name Audience; those signed
// before can't run any more.
type RollbackAccepted struct {
	// Audience is 16 lower-case hex digits, random, and new.
	Audience string    `json:"audience"`
	At       time.Time `json:"at"`
	By       string    `json:"by"`     // who accepted it, as the machine knows them
	Reason   string    `json:"reason"` // in their words
	// Attempts are the credentials that the host had of attempts of which this
	// copy knows nothing.
	Attempts []string `json:"attempts,omitempty"`
}

// TypeAlive is the type of the events of the stream of signs of life.
const TypeAlive = "AgentAlive"

// AliveStream is where the instance that leads gives signs of life, if others
// share its ledger.
func AliveStream(agent string) string { return "alive-" + agent }

// Alive is one sign of life. Leaving, it is the last one: others need not wait.
type Alive struct {
	Agent    string    `json:"agent"`
	Instance string    `json:"instance"`
	Epoch    uint64    `json:"epoch"`
	At       time.Time `json:"at"`
	Leaving  bool      `json:"leaving,omitzero"`
}

// StoreStream is where a store says about itself what does not move with the
// ledger when that is copied to another one.
const StoreStream = "store"

// TypeStoreClosed is the type of the events of the store's stream.
const TypeStoreClosed = "StoreClosed"

// StoreClosed records that the ledger has moved to another store.
type StoreClosed struct {
	At time.Time `json:"at"`
	By string    `json:"by"` // who moved it, as the machine knows them
	To string    `json:"to"` // where, in words that hold no secret
}

// TimeOf gives when an event of any kind says that it happened, false if it
// does not say.
func TimeOf(data []byte) (time.Time, bool) {
	var dated struct {
		At time.Time `json:"at"`
	}
	if err := json.Unmarshal(data, &dated); err != nil {
		return time.Time{}, false
	}
	return dated.At, !dated.At.IsZero()
}
