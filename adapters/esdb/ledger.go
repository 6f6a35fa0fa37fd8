package esdb

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/go-json-experiment/json"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"writ/domain/eventstore"
)

const (
	// LedgerStream holds the ledger's own record, as its first event. It is the
	// store's: nobody else reads or writes it through this package.
	LedgerStream eventstore.StreamID = "writ-ledger"

	// ledgerCreated is the type of that event.
	ledgerCreated = "LedgerCreated"

	// format is what this program writes; a ledger says which is the oldest
	// that may write to it.
	format = 1

	// oldestMajor is the first version of the server that says when a
	// subscription has caught up.
	oldestMajor = 23
)

// An identity is the data of the ledger's own record.
type identity struct {
	Format       int    `json:"format"`
	OldestWriter int    `json:"oldest_writer"`
	Ledger       string `json:"ledger"`
	Store        string `json:"store"` // of this database; a copy of the ledger elsewhere has another one
}

var sixteenHex = regexp.MustCompile(`^[0-9a-f]{16}$`)

func (id identity) check() error {
	switch {
	case id.OldestWriter > format:
		return fmt.Errorf("the ledger needs a program that writes format %d; this one writes %d: install a newer one", id.OldestWriter, format)
	case id.Format < 1 || !sixteenHex.MatchString(id.Ledger) || !sixteenHex.MatchString(id.Store):
		return &eventstore.CorruptError{Stream: LedgerStream, Why: "revision 0 is not the record of a ledger"}
	}
	return nil
}

// ErrExists says that a database holds a ledger already.
var ErrExists = errors.New("the database holds a ledger already")

// Create makes a new ledger in a database: the first event of [LedgerStream],
// appended at no stream. When it returns nil, the ledger is durable. A database
// that holds a ledger is refused with ErrExists. After any other error the ledger may have
// been made; [Open] tells.
func Create(ctx context.Context, o Options, ledger eventstore.LedgerID) error {
	refuse := func(err error) error { return fmt.Errorf("create ledger %s: %w", ledger, err) }
	if !sixteenHex.MatchString(string(ledger)) {
		return refuse(errors.New("the id must be 16 lower-case hex digits"))
	}
	t, err := parse(o)
	if err != nil {
		return refuse(err)
	}
	var store [8]byte
	_, _ = rand.Read(store[:]) // never fails
	data, err := json.Marshal(identity{Format: format, OldestWriter: format, Ledger: string(ledger), Store: hex.EncodeToString(store[:])})
	if err != nil {
		return refuse(err)
	}
	id := sha256.Sum256(data)
	record := eventstore.Proposed{ID: eventstore.EventID(id[:16]), Type: ledgerCreated, Data: data}

	c := newClient(t, o.Logger)
	c.accept = c.checkVersion
	defer c.close()
	for failures := 1; ; failures++ {
		_, err := c.append(ctx, LedgerStream, eventstore.NoStream(), []eventstore.Proposed{record})
		var wrong *eventstore.WrongRevisionError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &wrong):
			return refuse(fmt.Errorf("%s: %w", t, ErrExists))
		case lasting(err) && !errors.Is(err, errLate):
			return refuse(err)
		}
		// Unknown: the same bytes and id until the answer is definite.
		if wait := c.wait(ctx, pauseAfter(failures)); wait != nil {
			return refuse(fmt.Errorf("%w (last: %s)", wait, err))
		}
	}
}

// checkVersion refuses servers that don't do what this package rests on.
func (c *client) checkVersion(ctx context.Context, l *link) error {
	got, err := serverfeatures.NewServerFeaturesClient(l.conn).GetSupportedMethods(ctx, &shared.Empty{})
	switch status.Code(err) {
	case codes.OK:
	case codes.Unimplemented, codes.NotFound:
		return fmt.Errorf("the server is older than EventStoreDB %d", oldestMajor)
	default:
		if ctx.Err() != nil {
			return ended(ctx)
		}
		return plain(err)
	}
	l.hear()
	version := got.GetEventStoreServerVersion()
	major, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(major)
	if err != nil {
		return nonsense("version %q", clip(version))
	}
	if n < oldestMajor {
		return fmt.Errorf("the server is EventStoreDB %s: at least %d.10 is needed", clip(version), oldestMajor)
	}
	return nil
}

// readIdentity reads the ledger's own record over a link.
func (c *client) readIdentity(ctx context.Context, l *link) (identity, error) {
	ctx, cancel := c.call(ctx)
	defer cancel()
	page, err := c.pageOver(ctx, l, LedgerStream, 0, 1)
	if errors.Is(err, eventstore.ErrStreamNotFound) {
		return identity{}, errors.New("the database holds no ledger: make one with writ init")
	}
	if err != nil {
		return identity{}, err
	}
	e := page.events[0] // a page from revision 0 is never empty
	if e.Type != ledgerCreated {
		return identity{}, &eventstore.CorruptError{Stream: LedgerStream, Why: fmt.Sprintf("revision 0 is %.60q, not %s", e.Type, ledgerCreated)}
	}
	var id identity
	if err := json.Unmarshal(e.Data, &id); err != nil {
		return identity{}, &eventstore.CorruptError{Stream: LedgerStream, Why: fmt.Sprintf("revision 0: %s", clip(err.Error()))}
	}
	return id, id.check()
}
