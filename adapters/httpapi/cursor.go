package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"writ/domain/eventstore"
)

// cursorText gives a cursor as it is shown: ledger id, store and position. A
// position means nothing without the other two. The beginning is position 0,
// at which no event stands.
func (a *API) cursorText(c eventstore.Cursor) string {
	p, _ := c.Position()
	return fmt.Sprintf("%s:%s:%d", a.cfg.Ledger.LedgerID(), a.cfg.StoreName, p)
}

// readCursor reads what cursorText gave, here or elsewhere. A cursor of
// another ledger or store is not guessed at, and one from beyond the end is
// not waited for: whoever holds it has seen events that this ledger lacks.
func (a *API) readCursor(ctx context.Context, location, text string) (eventstore.Cursor, *Problem) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" {
		return eventstore.Cursor{}, invalid(location, fmt.Errorf("not a cursor: <ledger id>:<store>:<position>, as events come with"))
	}
	p, err := strconv.ParseUint(parts[2], 10, 64)
	if err != nil || parts[2] != strconv.FormatUint(p, 10) {
		return eventstore.Cursor{}, invalid(location, fmt.Errorf("the cursor's position is not a number in its plain form"))
	}
	if ledger := string(a.cfg.Ledger.LedgerID()); parts[0] != ledger || parts[1] != a.cfg.StoreName {
		return eventstore.Cursor{}, problem(http.StatusPreconditionFailed, reasonForeignCursor, fmt.Sprintf(
			"the cursor is of ledger %s in store %s, this is ledger %s in store %s, and positions mean nothing elsewhere: begin with from=start",
			clip(parts[0]), clip(parts[1]), ledger, a.cfg.StoreName))
	}
	if p == 0 {
		return eventstore.Cursor{}, nil
	}
	at := eventstore.After(eventstore.Position(p))
	switch known, err := a.reaches(ctx, at); {
	case err != nil:
		return eventstore.Cursor{}, a.fault(ctx, "look for a cursor's place", err)
	case !known:
		return eventstore.Cursor{}, problem(http.StatusPreconditionFailed, reasonCursorAhead, fmt.Sprintf(
			"the ledger ends before position %d: the cursor has seen events that are not here, so this may be an old copy of the ledger. Find out before anything else", p))
	}
	return at, nil
}

// reaches tells whether the ledger is known to come as far as a cursor: an
// event stands there or behind it, or a view has been there. A store may give
// out places behind the newest event, at which events stand that are its own.
func (a *API) reaches(ctx context.Context, c eventstore.Cursor) (bool, error) {
	p, ok := c.Position()
	if !ok || p == 0 {
		return true, nil
	}
	if applied, ok := a.cfg.QueueLag().Applied.Position(); ok && p <= applied {
		return true, nil
	}
	for _, err := range a.cfg.Ledger.ReadAll(ctx, eventstore.After(p-1), eventstore.Filter{}) {
		if err != nil && corruption(err) == "" {
			return false, err
		}
		return true, nil // be it damaged: it is there
	}
	return false, nil
}
