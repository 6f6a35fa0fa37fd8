package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"writ/domain/eventstore"
)

const (
	eventsPath      = "/v1/events"
	eventStreamType = "text/event-stream"

	fromStart = "start"
	fromNow   = "now"
)

// A LedgerEvent is one event as those who follow the ledger see it.
type LedgerEvent struct {
	Cursor     string          `json:"cursor" doc:"The place right behind the event. It is the id of the server-sent event as well; following goes on from there."`
	Stream     string          `json:"stream" example:"gate-pve1"`
	Revision   uint64          `json:"revision" doc:"Its number in the stream, from 0."`
	Type       string          `json:"type" example:"OpStarted"`
	ID         string          `json:"id"`
	RecordedAt time.Time       `json:"recorded_at" doc:"When the store took it, by the store's clock; for people, never for decisions."`
	Data       json.RawMessage `json:"data,omitempty" doc:"The event, byte for byte as recorded, unless withheld says otherwise."`
	Metadata   json.RawMessage `json:"metadata,omitempty" doc:"Byte for byte as recorded. It holds the hash that chains the event to those before it."`
	// Withheld says what is not shown; empty: all is shown.
	Withheld string `json:"withheld,omitempty" enum:"envelope,data" doc:"What is not shown. envelope: the writ could still be submitted, so data lacks it, and nothing else. data: nobody here knows what is in it."`
}

// A Place is what the server-sent event caught-up holds.
type Place struct {
	Cursor string `json:"cursor" doc:"All up to here was sent."`
}

type eventsInput struct {
	From        string   `query:"from" maxLength:"160" default:"start" doc:"Where to begin: behind a cursor; start, the first event on record; or now, about the newest one (nothing that is recorded after the request is left out)."`
	LastEventID string   `header:"Last-Event-ID" maxLength:"160" doc:"A cursor to go on behind, as a browser's EventSource sends it when it connects again. It counts instead of from."`
	Types       []string `query:"types" nullable:"false" maxItems:"32" doc:"Only events of these types, separated by commas."`
	Streams     []string `query:"streams" nullable:"false" maxItems:"32" doc:"Only events of streams whose names begin with one of these, separated by commas, such as op-,gate-."`
}

func (a *API) registerEvents() {
	responses := a.responses(LedgerEvent{}, nil, forCallers(map[int]string{
		412: "The cursor is of another ledger or store, or from beyond this ledger's end.",
		429: "The caller asks too often, or follows the ledger too many times at once.",
		503: "The service is stopping, too many follow the ledger, or it can't be read.",
	}))
	responses["200"] = &huma.Response{
		Description: "The events, until either side ends it. Each is a server-sent event without a name, whose data is this object and whose id its cursor.",
		Content: map[string]*huma.MediaType{
			eventStreamType: {Schema: a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[LedgerEvent](), true, "")},
		},
	}
	huma.Register(a.huma, huma.Operation{
		OperationID: "follow-events", Method: http.MethodGet, Path: eventsPath, Summary: "Follow the ledger",
		Security: []map[string][]string{{bearer: {string(Read)}}}, Middlewares: huma.Middlewares{a.requires(Read)},
		Description: "Server-sent events: what is on record behind a cursor, then each event as it becomes durable, in order, without gap or repeat. " +
			"The event caught-up (data: a cursor) comes once, when all that was on record at that time was sent. " +
			"While nothing else is sent, a comment and an id come every 15 s: the cursor moves on though no event passes the filters. " +
			"The event end (data: a problem) says why the service ends it. A subscriber that takes nothing for 10 s is cut off without a word. " +
			"In each case the last id received is where to go on.",
		Responses: responses,
	}, a.events)
}

// A subscription is what one subscriber asked for.
type subscription struct {
	caller string
	after  eventstore.Cursor
	filter eventstore.Filter
	types  []string // none: all
}

func (s *subscription) passes(typ string) bool {
	return len(s.types) == 0 || slices.Contains(s.types, typ)
}

func (a *API) events(ctx context.Context, in *eventsInput) (*huma.StreamResponse, error) {
	s := subscription{caller: callerOf(ctx), types: in.Types}
	for i, t := range in.Types {
		if !known(t) {
			return nil, invalid(fmt.Sprintf("query.types[%d]", i), fmt.Errorf("%q is none of the types there are: %s", clip(t), strings.Join(knownTypes(), ", ")))
		}
	}
	for i, prefix := range in.Streams {
		if prefix == "" || len(prefix) > eventstore.MaxNameBytes {
			return nil, invalid(fmt.Sprintf("query.streams[%d]", i), fmt.Errorf("%d bytes, the beginning of a stream's name has 1 to %d", len(prefix), eventstore.MaxNameBytes))
		}
		s.filter.StreamPrefixes = append(s.filter.StreamPrefixes, prefix)
	}
	var p *Problem
	if s.after, p = a.beginning(ctx, in); p != nil {
		return nil, p
	}
	return &huma.StreamResponse{Body: func(c huma.Context) {
		r, w := humago.Unwrap(c)
		a.serveEvents(w, r, s)
	}}, nil
}

// beginning gives the cursor that a subscriber asked for.
func (a *API) beginning(ctx context.Context, in *eventsInput) (eventstore.Cursor, *Problem) {
	switch {
	case in.LastEventID != "":
		return a.readCursor(ctx, "header.Last-Event-ID", in.LastEventID)
	case in.From == fromStart || in.From == "":
		return eventstore.Cursor{}, nil
	case in.From == fromNow:
		// A view that follows the ledger knows a place that was its end not
		// long ago. It may lag, and so never leaves anything out.
		return a.cfg.QueueLag().Applied, nil
	}
	return a.readCursor(ctx, "query.from", in.From)
}

// serveEvents answers one subscriber for as long as both sides stay.
func (a *API) serveEvents(w http.ResponseWriter, r *http.Request, s subscription) {
	leave, p := a.subscribers.join(s.caller, a.cfg.identified())
	if p == nil && a.draining.Err() != nil {
		leave(leftStopping)
		p = problem(http.StatusServiceUnavailable, reasonStopping, "the service is stopping: go on at another one, or at this one once it is back")
	}
	if p != nil {
		send(w, p, a.cfg.Log)
		return
	}
	// A subscriber is counted among the subscribers and not among the
	// requests, or a few of them would leave no room for submissions.
	noteStreaming(w)
	h := w.Header()
	h.Set(contentTypeHeader, eventStreamType)
	h.Set("X-Accel-Buffering", "no") // or a proxy may keep events back
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK)
		leave(leftGone)
		return
	}
	f := &feed{api: a, w: w, rc: http.NewResponseController(w), r: r, subscription: s, at: s.after, told: s.after}
	why := f.run(r.Context())
	leave(why)
	a.cfg.Log.Info("a subscriber left", "caller", s.caller, "why", why, "events", f.sent, "cursor", a.cursorText(f.at))
}
