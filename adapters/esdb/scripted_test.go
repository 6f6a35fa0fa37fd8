package esdb_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"writ/adapters/esdb"
	"writ/domain/eventstore"
)

// A scripted server holds a ledger's record and nothing else; everything else
// it answers as the test says, however foolish.
type scripted struct {
	streams.UnimplementedStreamsServer
	serverfeatures.UnimplementedServerFeaturesServer

	version string
	record  *streams.ReadResp // of the ledger
	append  func(in streams.Streams_AppendServer) error
	read    func(o *streams.ReadReq_Options, out streams.Streams_ReadServer) error
}

func newScripted(t *testing.T) (*scripted, string) {
	t.Helper()
	s := &scripted{version: "24.10.0", record: event("writ-ledger", 0, 1, func(e *wireEvent) {
		e.Metadata["type"] = "LedgerCreated"
		e.Data = []byte(`{"format":1,"oldest_writer":1,"ledger":"3f9c2ab41d6e4a70","store":"0123456789abcdef"}`)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	streams.RegisterStreamsServer(server, s)
	serverfeatures.RegisterServerFeaturesServer(server, s)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s, l.Addr().String()
}

func (s *scripted) GetSupportedMethods(context.Context, *shared.Empty) (*serverfeatures.SupportedMethods, error) {
	if s.version == "" {
		return nil, status.Error(codes.Unimplemented, "what")
	}
	return &serverfeatures.SupportedMethods{EventStoreServerVersion: s.version}, nil
}

func (s *scripted) Append(in streams.Streams_AppendServer) error {
	for {
		if _, err := in.Recv(); err == io.EOF { //nolint:errorlint // gRPC gives it bare
			break
		} else if err != nil {
			return err
		}
	}
	return s.append(in)
}

func (s *scripted) Read(r *streams.ReadReq, out streams.Streams_ReadServer) error {
	o := r.GetOptions()
	if string(o.GetStream().GetStreamIdentifier().GetStreamName()) == "writ-ledger" {
		return out.Send(s.record)
	}
	return s.read(o, out)
}

type wireEvent = streams.ReadResp_ReadEvent_RecordedEvent

// event is one message with an event in form, or changed as the test wants.
func event(stream string, revision, position uint64, change ...func(*wireEvent)) *streams.ReadResp {
	e := &wireEvent{
		Id:               &shared.UUID{Value: &shared.UUID_String_{String_: "6f1c9a0e-5d7b-4c2f-8a3e-1d0c9b8a7f6e"}},
		StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(stream)},
		StreamRevision:   revision, CommitPosition: position, PreparePosition: position,
		Metadata: map[string]string{"type": "T", "content-type": "application/json", "created": "17637192000000000"},
		Data:     []byte(`{}`),
	}
	for _, c := range change {
		c(e)
	}
	return &streams.ReadResp{Content: &streams.ReadResp_Event{Event: &streams.ReadResp_ReadEvent{Event: e}}}
}

func appended(change func(*streams.AppendResp_Success)) *streams.AppendResp {
	s := &streams.AppendResp_Success{
		CurrentRevisionOption: &streams.AppendResp_Success_CurrentRevision{CurrentRevision: 0},
		PositionOption:        &streams.AppendResp_Success_Position{Position: &streams.AppendResp_Position{CommitPosition: 7, PreparePosition: 7}},
	}
	change(s)
	return &streams.AppendResp{Result: &streams.AppendResp_Success_{Success: s}}
}

func notAppended(change func(*streams.AppendResp_WrongExpectedVersion)) *streams.AppendResp {
	w := &streams.AppendResp_WrongExpectedVersion{
		CurrentRevisionOption: &streams.AppendResp_WrongExpectedVersion_CurrentRevision{CurrentRevision: 3},
	}
	change(w)
	return &streams.AppendResp{Result: &streams.AppendResp_WrongExpectedVersion_{WrongExpectedVersion: w}}
}

// Only two answers prove anything. Some of the others end the process that uses
// the official client, or are success to it.
func TestAnswersToAnAppend(t *testing.T) {
	t.Parallel()
	fails := func(code codes.Code, trailer ...string) func(streams.Streams_AppendServer) error {
		return func(in streams.Streams_AppendServer) error {
			in.SetTrailer(metadata.Pairs(trailer...))
			return status.Error(code, "so it is")
		}
	}
	answers := func(r *streams.AppendResp) func(streams.Streams_AppendServer) error {
		return func(in streams.Streams_AppendServer) error { return in.SendAndClose(r) }
	}
	none := func(*streams.AppendResp_Success) {}
	const (
		done = iota + 1
		refused
		corrupt
		unknown
	)
	tests := map[string]struct {
		answer func(streams.Streams_AppendServer) error
		want   int
	}{
		"done":                           {answers(appended(none)), done},
		"refused":                        {answers(notAppended(func(*streams.AppendResp_WrongExpectedVersion) {})), refused},
		"nothing":                        {answers(&streams.AppendResp{}), unknown},
		"success and nothing else":       {answers(&streams.AppendResp{Result: &streams.AppendResp_Success_{Success: &streams.AppendResp_Success{}}}), unknown},
		"success without a position":     {answers(appended(func(s *streams.AppendResp_Success) { s.PositionOption = nil })), unknown},
		"success at no position":         {answers(appended(func(s *streams.AppendResp_Success) { s.PositionOption = &streams.AppendResp_Success_NoPosition{} })), unknown},
		"success with an empty position": {answers(appended(func(s *streams.AppendResp_Success) { s.PositionOption = &streams.AppendResp_Success_Position{} })), unknown},
		"success without a revision":     {answers(appended(func(s *streams.AppendResp_Success) { s.CurrentRevisionOption = nil })), unknown},
		"success and no stream":          {answers(appended(func(s *streams.AppendResp_Success) { s.CurrentRevisionOption = &streams.AppendResp_Success_NoStream{} })), unknown},
		"success beyond all positions": {answers(appended(func(s *streams.AppendResp_Success) {
			s.PositionOption = &streams.AppendResp_Success_Position{Position: &streams.AppendResp_Position{CommitPosition: 1 << 63}}
		})), unknown},
		"success behind deleted events": {answers(appended(func(s *streams.AppendResp_Success) {
			s.CurrentRevisionOption = &streams.AppendResp_Success_CurrentRevision{CurrentRevision: 5}
		})), corrupt},
		"refused, saying nothing": {answers(notAppended(func(w *streams.AppendResp_WrongExpectedVersion) { w.CurrentRevisionOption = nil })), unknown},
		"refused, standing as expected": {answers(notAppended(func(w *streams.AppendResp_WrongExpectedVersion) {
			w.CurrentRevisionOption = &streams.AppendResp_WrongExpectedVersion_CurrentNoStream{}
		})), unknown},
		"refused, standing at nowhere": {answers(notAppended(func(w *streams.AppendResp_WrongExpectedVersion) {
			w.CurrentRevisionOption = &streams.AppendResp_WrongExpectedVersion_CurrentRevision{CurrentRevision: 1<<64 - 1}
		})), unknown},
		"deleted for good":                {fails(codes.FailedPrecondition, "exception", "stream-deleted", "stream-name", "s"), corrupt},
		"deleted, not saying what":        {fails(codes.FailedPrecondition, "exception", "stream-deleted"), corrupt},
		"not the leader, not saying who":  {fails(codes.NotFound, "exception", "not-leader"), unknown},
		"not the leader, saying nonsense": {fails(codes.NotFound, "exception", "not-leader", "leader-endpoint-host", "x", "leader-endpoint-port", "-1"), unknown},
		"access denied":                   {fails(codes.PermissionDenied, "exception", "access-denied"), unknown},
		"timed out":                       {fails(codes.Aborted), unknown},
		"too late":                        {fails(codes.DeadlineExceeded), unknown},
		"too large":                       {fails(codes.InvalidArgument, "exception", "maximum-append-size-exceeded"), unknown},
		"not ready":                       {fails(codes.Unavailable), unknown},
		"unknown":                         {fails(codes.Unknown), unknown},
		"cancelled":                       {fails(codes.Canceled), unknown},
		"fine, and no answer":             {func(streams.Streams_AppendServer) error { return nil }, unknown},
		"a message that is too large": {func(in streams.Streams_AppendServer) error {
			return in.SendMsg(&shared.StreamIdentifier{StreamName: make([]byte, 18<<20)})
		}, unknown},
		"a message that is no message": {func(in streams.Streams_AppendServer) error {
			return in.SendMsg(&shared.StreamIdentifier{StreamName: []byte("\xff\xff\xff")})
		}, unknown},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, addr := newScripted(t)
			server.append = c.answer
			server.read = func(*streams.ReadReq_Options, streams.Streams_ReadServer) error {
				return status.Error(codes.Unavailable, "not now")
			}
			s := open(t, options(addr))
			got, err := s.Append(t.Context(), "s", eventstore.NoStream(), happened(1))
			var wrong *eventstore.WrongRevisionError
			var damaged *eventstore.CorruptError
			switch c.want {
			case done:
				if err != nil || got != (eventstore.Appended{Revision: 0, Position: 7}) {
					t.Errorf("got %+v, %v, want revision 0 at position 7", got, err)
				}
			case refused:
				if !errors.As(err, &wrong) || wrong.Actual != eventstore.At(3) {
					t.Errorf("got error %v, want that the stream is at 3", err)
				}
			case corrupt:
				if !errors.As(err, &damaged) || damaged.Stream != "s" {
					t.Errorf("got error %v, want that stream s is corrupt", err)
				}
			case unknown:
				if err == nil || eventstore.Definite(err) {
					t.Errorf("got %+v, %v, want an error that proves nothing", got, err)
				}
			}
		})
	}
}

func TestAnswersToARead(t *testing.T) {
	t.Parallel()
	missing := &streams.ReadResp{Content: &streams.ReadResp_StreamNotFound_{StreamNotFound: &streams.ReadResp_StreamNotFound{}}}
	tests := map[string]struct {
		answers []*streams.ReadResp
		end     error
		trailer metadata.MD
		events  int    // given before the error
		says    string // part of the error; empty: none
	}{
		"two events":             {answers: []*streams.ReadResp{event("s", 0, 5), event("s", 1, 9)}, events: 2},
		"hints":                  {answers: []*streams.ReadResp{event("s", 0, 5), {Content: &streams.ReadResp_LastStreamPosition{LastStreamPosition: 0}}, {}}, events: 1},
		"no such stream":         {answers: []*streams.ReadResp{missing}, says: "not found"},
		"truncated":              {answers: []*streams.ReadResp{event("s", 3, 5)}, says: "stream s corrupt: revision 0 is missing"},
		"a gap":                  {answers: []*streams.ReadResp{event("s", 0, 5), event("s", 2, 9)}, says: "revision 1 is missing"},
		"twice the same":         {answers: []*streams.ReadResp{event("s", 0, 5), event("s", 0, 5)}, says: "revision 1 is missing"},
		"nothing":                {says: "stream s corrupt: it exists"},
		"another stream's event": {answers: []*streams.ReadResp{event("other", 0, 5)}, says: "event of other"},
		"an event, then missing": {answers: []*streams.ReadResp{event("s", 0, 5), missing}, says: "no sense"},
		"missing, then an event": {answers: []*streams.ReadResp{missing, event("s", 0, 5)}, says: "no sense"},
		"an event without one":   {answers: []*streams.ReadResp{{Content: &streams.ReadResp_Event{Event: &streams.ReadResp_ReadEvent{}}}}, says: "no sense"},
		"no time":                {answers: []*streams.ReadResp{event("s", 0, 5, func(e *wireEvent) { delete(e.Metadata, "created") })}, says: "created"},
		"a time that is none":    {answers: []*streams.ReadResp{event("s", 0, 5, func(e *wireEvent) { e.Metadata["created"] = "yesterday" })}, says: "created"},
		"no type":                {answers: []*streams.ReadResp{event("s", 0, 5, func(e *wireEvent) { delete(e.Metadata, "type") })}, says: "type"},
		"no metadata":            {answers: []*streams.ReadResp{event("s", 0, 5, func(e *wireEvent) { e.Metadata = nil })}, says: "no sense"},
		"no id":                  {answers: []*streams.ReadResp{event("s", 0, 5, func(e *wireEvent) { e.Id = nil })}, says: "id"},
		"an id that is none":     {answers: []*streams.ReadResp{event("s", 0, 5, func(e *wireEvent) { e.Id.Value = &shared.UUID_String_{String_: "x"} })}, says: "id"},
		"no stream":              {answers: []*streams.ReadResp{event("s", 0, 5, func(e *wireEvent) { e.StreamIdentifier = nil })}, says: "no sense"},
		"a position too large":   {answers: []*streams.ReadResp{event("s", 0, 1<<64-1)}, says: "position"},
		"deleted for good": {
			end: status.Error(codes.FailedPrecondition, "gone"), trailer: metadata.Pairs("exception", "stream-deleted"), says: "corrupt: it was deleted for good",
		},
		"access denied": {end: status.Error(codes.PermissionDenied, "no"), says: "$all"},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, addr := newScripted(t)
			server.read = func(_ *streams.ReadReq_Options, out streams.Streams_ReadServer) error {
				for _, a := range c.answers {
					if err := out.Send(a); err != nil {
						return err
					}
				}
				out.SetTrailer(c.trailer)
				return c.end
			}
			s := open(t, options(addr))
			events := 0
			var failed error
			for _, err := range s.ReadStream(t.Context(), "s", 0) {
				if err == nil {
					events++
				}
				failed = err
			}
			switch {
			case c.says == "" && (failed != nil || events != c.events):
				t.Errorf("got %d events and error %v, want %d", events, failed, c.events)
			case c.says != "" && (failed == nil || !strings.Contains(failed.Error(), c.says) || events > 0):
				t.Errorf("got %d events and error %v, want none and one about %q", events, failed, c.says)
			}
			if c.says == "not found" != errors.Is(failed, eventstore.ErrStreamNotFound) {
				t.Errorf("got error %v, is it ErrStreamNotFound?", failed)
			}
		})
	}
}

// A success without a position is settled by what is on record.
func TestSuccessWithoutAPosition(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*wireEvent)
		done   bool
	}{
		"the event is on record":           {func(*wireEvent) {}, true},
		"another event is on record":       {func(e *wireEvent) { e.Id.Value = &shared.UUID_String_{String_: "00000000-0000-0000-0000-000000000001"} }, false},
		"the event, with other data":       {func(e *wireEvent) { e.Data = []byte(`{"x":1}`) }, false},
		"the event, with other metadata":   {func(e *wireEvent) { e.CustomMetadata = nil }, false},
		"the event, of another type":       {func(e *wireEvent) { e.Metadata["type"] = "Other" }, false},
		"the event, in a truncated stream": {func(e *wireEvent) { e.StreamRevision = 4 }, false},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, addr := newScripted(t)
			server.append = func(in streams.Streams_AppendServer) error {
				return in.SendAndClose(appended(func(s *streams.AppendResp_Success) { s.PositionOption = nil }))
			}
			e := happened(1)
			server.read = func(_ *streams.ReadReq_Options, out streams.Streams_ReadServer) error {
				return out.Send(event("s", 0, 11, func(w *wireEvent) {
					w.Id.Value = &shared.UUID_String_{String_: uuid.UUID(e.ID).String()}
					w.Metadata["type"], w.Data, w.CustomMetadata = e.Type, e.Data, e.Metadata
					c.change(w)
				}))
			}
			got, err := open(t, options(addr)).Append(t.Context(), "s", eventstore.NoStream(), e)
			if c.done && (err != nil || got != (eventstore.Appended{Revision: 0, Position: 11})) {
				t.Errorf("got %+v, %v, want revision 0 at position 11", got, err)
			}
			if !c.done && (err == nil || eventstore.Definite(err)) {
				t.Errorf("got %+v, %v, want an error that proves nothing", got, err)
			}
		})
	}
}

// A subscription believes no message that would leave a gap or repeat.
func TestAnswersToASubscription(t *testing.T) {
	t.Parallel()
	checkpoint := func(p uint64) *streams.ReadResp {
		return &streams.ReadResp{Content: &streams.ReadResp_Checkpoint_{Checkpoint: &streams.ReadResp_Checkpoint{CommitPosition: p, PreparePosition: p}}}
	}
	caughtUp := &streams.ReadResp{Content: &streams.ReadResp_CaughtUp_{CaughtUp: &streams.ReadResp_CaughtUp{}}}
	fellBehind := &streams.ReadResp{Content: &streams.ReadResp_FellBehind_{FellBehind: &streams.ReadResp_FellBehind{}}}
	tests := map[string]struct {
		answers []*streams.ReadResp
		want    []string
		says    string
	}{
		"in form": {
			answers: []*streams.ReadResp{event("s", 0, 5), checkpoint(8), caughtUp, fellBehind, event("s", 1, 9), caughtUp, event("s", 2, 12)},
			want:    []string{"event 5", "checkpoint 8", "caught up 8", "event 9", "event 12"},
		},
		"a checkpoint that goes back": {
			answers: []*streams.ReadResp{event("s", 0, 5), checkpoint(3), checkpoint(5), event("s", 1, 9)},
			want:    []string{"event 5", "event 9"},
		},
		"the database's own events": {
			answers: []*streams.ReadResp{event("$x", 0, 5), event("writ-ledger", 0, 6), event("s", 1, 9)},
			want:    []string{"event 9"},
		},
		"a position again":       {answers: []*streams.ReadResp{event("s", 0, 5), event("s", 1, 5)}, want: []string{"event 5"}, says: "position 5 after 5"},
		"a position before":      {answers: []*streams.ReadResp{event("s", 0, 5), event("s", 1, 4)}, want: []string{"event 5"}, says: "position 4 after 5"},
		"a checkpoint too large": {answers: []*streams.ReadResp{checkpoint(1 << 63)}, says: "no sense"},
		"an event without one":   {answers: []*streams.ReadResp{{Content: &streams.ReadResp_Event{}}}, says: "no sense"},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, addr := newScripted(t)
			server.read = func(_ *streams.ReadReq_Options, out streams.Streams_ReadServer) error {
				for _, a := range c.answers {
					if err := out.Send(a); err != nil {
						return err
					}
				}
				<-out.Context().Done()
				return nil
			}
			s := open(t, options(addr))
			var got []string
			for n, err := range s.Subscribe(t.Context(), eventstore.Cursor{}, eventstore.Filter{}) {
				if err != nil {
					if c.says == "" || !strings.Contains(err.Error(), c.says) {
						t.Errorf("got error %v, want one about %q", err, c.says)
					}
					break
				}
				got = append(got, show(n))
				if c.says == "" && len(got) == len(c.want) {
					break
				}
			}
			if strings.Join(got, ", ") != strings.Join(c.want, ", ") {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func show(n eventstore.Notice) string {
	p, _ := n.At.Position()
	kind := map[eventstore.NoticeKind]string{eventstore.NewEvent: "event ", eventstore.CaughtUp: "caught up ", eventstore.Checkpoint: "checkpoint "}[n.Kind]
	return kind + strconv.FormatUint(uint64(p), 10)
}

// A server that confirms a subscription and then says nothing is asked again.
func TestSubscriptionThatStalls(t *testing.T) {
	t.Parallel()
	server, addr := newScripted(t)
	var calls atomic.Int32
	server.read = func(_ *streams.ReadReq_Options, out streams.Streams_ReadServer) error {
		if calls.Add(1) == 1 {
			<-out.Context().Done()
			return nil
		}
		return out.Send(event("s", 0, 5))
	}
	o := options(addr)
	o.CallTimeout = 200 * time.Millisecond
	for n, err := range open(t, o).Subscribe(t.Context(), eventstore.Cursor{}, eventstore.Filter{}) {
		if err != nil || n.Event.Position != 5 {
			t.Errorf("got %v, %v, want the event", n, err)
		}
		break
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	data := func(d string) func(*scripted) {
		return func(s *scripted) { s.record.GetEvent().Event.Data = []byte(d) }
	}
	tests := map[string]struct {
		change func(*scripted)
		says   string
	}{
		"a server that is too old":       {func(s *scripted) { s.version = "22.10.3" }, "at least 23.10"},
		"a server older than that":       {func(s *scripted) { s.version = "" }, "older than"},
		"a version that is none":         {func(s *scripted) { s.version = "new" }, "version"},
		"no ledger":                      {func(s *scripted) { s.record.Content = &streams.ReadResp_StreamNotFound_{} }, "holds no ledger"},
		"a truncated one":                {func(s *scripted) { s.record.GetEvent().Event.StreamRevision = 1 }, "corrupt"},
		"another first event":            {func(s *scripted) { s.record.GetEvent().Event.Metadata["type"] = "X" }, "LedgerCreated"},
		"a record that is no JSON":       {data(`{`), "corrupt"},
		"a record without a ledger":      {data(`{"format":1,"oldest_writer":1,"store":"0123456789abcdef"}`), "corrupt"},
		"a record without a store":       {data(`{"format":1,"oldest_writer":1,"ledger":"3f9c2ab41d6e4a70"}`), "corrupt"},
		"a ledger of a newer program":    {data(`{"format":2,"oldest_writer":2,"ledger":"3f9c2ab41d6e4a70","store":"0123456789abcdef"}`), "install a newer one"},
		"an id that is not in form":      {data(`{"format":1,"oldest_writer":1,"ledger":"3F9C2AB41D6E4A70","store":"0123456789abcdef"}`), "corrupt"},
		"a record with a time of nobody": {func(s *scripted) { s.record.GetEvent().Event.Metadata["created"] = "" }, "created"},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, addr := newScripted(t)
			c.change(server)
			s, err := esdb.Open(t.Context(), options(addr))
			if err == nil {
				s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got error %v, want one about %q", err, c.says)
			}
		})
	}
}

func registerFeatures(server *grpc.Server, s *scripted) {
	serverfeatures.RegisterServerFeaturesServer(server, s)
}
