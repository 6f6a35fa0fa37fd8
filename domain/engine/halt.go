package engine

import "fmt"

// A haltCause is a kind of reason for which nothing is launched. While there is
// one, nothing is claimed either: whoever delivers a writ is told at once.
type haltCause uint8

const (
	// Until a person has looked, and the service is started again:
	haltOtherCopy  haltCause = iota + 1 // the host remembers an attempt that the ledger does not
	haltOldLedger                       // the ledger is not the newest copy
	haltSuperseded                      // somebody else uses a store that nobody else should
	// For as long as it lasts:
	haltDisputed  // a successor has made an attempt that this process has not, or another copy has
	haltUnchecked // the host could not be asked what it remembers
	haltClockBack // the clock is behind the newest event
	haltClockSkew // the clock disagrees with the host's
)

// forGood tells whether a cause stays until the service is started again.
func (c haltCause) forGood() bool { return c <= haltSuperseded }

// halt stops all launching for a cause.
func (e *Engine) halt(c haltCause, why error) {
	e.mu.Lock()
	_, had := e.halts[c]
	if !had || !c.forGood() {
		e.halts[c] = why
	}
	close(e.stirred)
	e.stirred = make(chan struct{})
	e.mu.Unlock()
	switch {
	case had:
	case c.forGood():
		e.cfg.Log.Error("ALARM: launching is stopped until a person has looked and the service is started again", "err", why)
	default:
		e.cfg.Log.Error("ALARM: launching is stopped for as long as this lasts", "err", why)
	}
}

// lift ends a cause that was for as long as it lasted.
func (e *Engine) lift(c haltCause) {
	e.mu.Lock()
	why, had := e.halts[c]
	delete(e.halts, c)
	e.mu.Unlock()
	if had {
		e.cfg.Log.Info("launching is no longer stopped for this", "was", why)
	}
}

// Halted says why nothing is launched; nil if that is not so. Of several
// reasons the gravest is given.
func (e *Engine) Halted() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := haltOtherCopy; c <= haltClockSkew; c++ {
		if err := e.halts[c]; err != nil {
			return err
		}
	}
	return nil
}

// closedFor says why no claim is taken at the moment.
func (e *Engine) closedFor() string {
	if err := e.Halted(); err != nil {
		return "launching is stopped: " + err.Error()
	}
	if room := e.cfg.Guard.Room; room != nil {
		if err := room(); err != nil {
			// What is under way still ends on record: the reserve is for that.
			return fmt.Sprintf("the ledger is short of room: %v", err)
		}
	}
	return ""
}
