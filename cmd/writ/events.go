package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"writ/adapters/httpapi"
	"writ/domain/gate"
	"writ/domain/op"
)

func newEventsCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "events", Short: "Follow what a service puts on record", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newEventsTailCmd(a))
	return cmd
}

type tailFlags struct {
	clientFlags

	from    string
	follow  bool
	types   []string
	streams []string
}

func newEventsTailCmd(a *app) *cobra.Command {
	var f tailFlags
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Show the ledger's events, and go on showing them",
		Long: `Shows the events of the ledger in order, one a line: those on record, and with --follow
each one that comes, as soon as it is durable. If the connection is lost it goes on from
the last event shown; none is left out, and none shown twice.

With --json each line is an event as the service sent it, its data byte for byte as
recorded; the member cursor is where to go on with --from. An envelope that could still
be submitted is withheld by the service.`,
		Example: `  writ events tail --follow --from now
  writ --json events tail --types OpSucceeded,OpFailed
  writ events tail --streams gate- --follow`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.tail(cmd.Context(), f) },
	}
	f.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.from, "from", "start", "where to begin: start, now, or behind a cursor")
	fl.BoolVarP(&f.follow, "follow", "f", false, "go on with what comes")
	fl.StringSliceVar(&f.types, "types", nil, "only events of these types")
	fl.StringSliceVar(&f.streams, "streams", nil, "only events of streams whose names begin with one of these")
	return cmd
}

// Between two tries to connect again.
const (
	tailPause    = 500 * time.Millisecond
	tailMaxPause = 15 * time.Second
)

func (a *app) tail(ctx context.Context, f tailFlags) error {
	c, err := f.open()
	if err != nil {
		return err
	}
	t := &tailing{app: a, flags: f}
	for pause := tailPause; ; pause = min(2*pause, tailMaxPause) {
		before := t.cursor
		err := c.stream(ctx, t.path(), t.cursor, t.take)
		var p *httpapi.Problem
		var lost *lostError
		switch {
		case ctx.Err() != nil, errors.Is(err, errSeen):
			return nil //nolint:nilerr // the person has seen enough, or all there is
		case errors.As(err, &p) && p.Status != 503 && p.Status != 429:
			return err
		case !f.follow || p == nil && !errors.As(err, &lost):
			return err
		}
		if t.cursor != before {
			pause = tailPause
		}
		fmt.Fprintf(a.err, "writ: %v; going on in %s\n", err, pause)
		if (systemClock{}).Wait(ctx, pause) != nil {
			return nil //nolint:nilerr // as above
		}
	}
}

// errSeen says that all that was asked for has been shown.
var errSeen = errors.New("all was shown")

// A tailing is how far one has come.
type tailing struct {
	*app

	flags  tailFlags
	cursor string // go on behind it; empty until there is one
}

// path is what to ask for. The cursor goes beside it, and counts instead of
// from.
func (t *tailing) path() string {
	q := url.Values{"from": {t.flags.from}}
	if len(t.flags.types) > 0 {
		q.Set("types", strings.Join(t.flags.types, ","))
	}
	if len(t.flags.streams) > 0 {
		q.Set("streams", strings.Join(t.flags.streams, ","))
	}
	return "/v1/events?" + q.Encode()
}

// take shows one server-sent event. Only what was shown moves the cursor on.
func (t *tailing) take(m message) error {
	switch m.name {
	case "":
		if m.data == "" {
			break // a heartbeat
		}
		var e httpapi.LedgerEvent
		if err := decodeEvent(m.data, &e); err != nil {
			return err
		}
		if t.asJSON {
			if _, err := io.WriteString(t.out, m.data+"\n"); err != nil {
				return err
			}
		} else if _, err := io.WriteString(plainWriter{t.out}, ledgerLine(e)+"\n"); err != nil {
			return err
		}
	case "caught-up":
		if !t.flags.follow {
			return errSeen
		}
	case "end":
		p := new(httpapi.Problem)
		if err := decodeEvent(m.data, p); err != nil {
			return err
		}
		return p
	}
	if m.id != "" {
		t.cursor = m.id
	}
	return nil
}

// ledgerLine is an event in a line for people.
func ledgerLine(e httpapi.LedgerEvent) string {
	stream := e.Stream
	if n, ok := op.NonceOfStream(stream); ok {
		stream = op.StreamPrefix + n.Short()
	}
	return fmt.Sprintf("%s  %-16s %-3d %-14s %s", e.RecordedAt.Format("2006-01-02T15:04:05.000Z07:00"), stream, e.Revision, e.Type, ledgerText(e))
}

// ledgerText says what an event adds.
func ledgerText(e httpapi.LedgerEvent) string {
	if e.Withheld == "data" {
		return "what is in it is withheld: the service does not know events of this kind"
	}
	var refused op.Refused
	var counted op.RefusalsCounted
	var contested op.Contested
	var policy gate.Loaded
	switch {
	case e.Type == op.TypeRefused && op.Unmarshal(e.Data, &refused) == nil:
		return strings.TrimSpace(fmt.Sprintf("%s: %s", refused.Reason, refused.Detail))
	case e.Type == op.TypeRefusalsCounted && op.Unmarshal(e.Data, &counted) == nil:
		n := 0
		for _, of := range counted.ByReason {
			n += of
		}
		return fmt.Sprintf("%d more refusals", n)
	case e.Type == op.TypeContested && op.Unmarshal(e.Data, &contested) == nil:
		return fmt.Sprintf("ALARM: the host started %s for an op that is %s", contested.UPID, contested.State)
	case e.Type == gate.TypeLoaded && op.Unmarshal(e.Data, &policy) == nil:
		return fmt.Sprintf("policy %d in force", policy.Serial)
	}
	if _, err := op.Decode(e.Type, e.Data); err != nil {
		return "" // its type says it
	}
	return eventText(httpapi.Event{Type: e.Type, Data: e.Data})
}
