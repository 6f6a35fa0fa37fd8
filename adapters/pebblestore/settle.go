package pebblestore

// settleAll is the one goroutine that shows and answers, group by group in the
// order in which they were written. It ends with the first that the disk may
// not have: what was written after that one may rest on it.
func (s *Store) settleAll() {
	defer close(s.stopped)
	for g := range s.unsettled {
		if !s.durable(g) {
			return // Append tells those who wait
		}
		// If the process ends here, the group is on record and its callers
		// don't know; they ask again.
		if g.batch != nil {
			s.show(g)
		}
		for i, r := range g.requests {
			r.answer <- g.outcomes[i]
			s.recycle(r)
		}
		if g.batch == nil {
			continue
		}
		if err := g.batch.Close(); err != nil {
			s.log.Warn("ledger: a batch was not recycled", "err", err)
		}
	}
}

// durable waits until a group is on disk, and tells whether it is; all groups
// before it are. A group of refusals waits for those as well, being behind
// them: each refusal may rest on one of them.
func (s *Store) durable(g *group) bool {
	if s.guard.failed() != nil {
		return false
	}
	if g.batch != nil {
		// It gives the fsync's own error. It may also never come back, see
		// guard.
		if err := g.batch.SyncWait(); err != nil {
			s.guard.freeze(translate(err, ""))
		}
	}
	// Asked even if SyncWait was content: its nil may mean that Fatalf was
	// called and came back.
	return s.guard.failed() == nil
}
