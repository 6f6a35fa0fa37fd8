package esdbserver

import (
	"regexp"
	"strings"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc/codes"

	"writ/domain/eventstore"
)

const (
	// defaultWindow is how many events a filtered subscription considers
	// between two checkpoints, if the client does not say.
	defaultWindow = 32
	maxPattern    = 16 << 10 // bytes of a regular expression
	maxPrefixes   = 1024
)

// A filter says which events of the ledger a client wants.
type filter struct {
	byType   bool // not by the stream's name
	pattern  *regexp.Regexp
	prefixes []string // if there is no pattern
	// every is how many events are considered, passing or not, until a
	// checkpoint says how far the subscription has got.
	every uint64
}

func parseFilter(o *streams.ReadReq_Options_FilterOptions) (*filter, error) {
	f := &filter{}
	var expression *streams.ReadReq_Options_FilterOptions_Expression
	switch by := o.GetFilter().(type) {
	case *streams.ReadReq_Options_FilterOptions_StreamIdentifier:
		expression = by.StreamIdentifier
	case *streams.ReadReq_Options_FilterOptions_EventType:
		f.byType, expression = true, by.EventType
	default:
		return nil, fail(codes.InvalidArgument, "filter: neither streams nor event types are named")
	}
	pattern := expression.GetRegex()
	f.prefixes = expression.GetPrefix()
	switch {
	case pattern == "" && len(f.prefixes) == 0:
		return nil, fail(codes.InvalidArgument, "filter: it has neither a regular expression nor a prefix")
	case len(pattern) > maxPattern:
		return nil, fail(codes.InvalidArgument, "filter: the regular expression has %d bytes, at most %d are taken", len(pattern), maxPattern)
	case len(f.prefixes) > maxPrefixes:
		return nil, fail(codes.InvalidArgument, "filter: %d prefixes, at most %d are taken", len(f.prefixes), maxPrefixes)
	case pattern != "":
		compiled, err := regexp.Compile(pattern)
		if err != nil {
			return nil, fail(codes.InvalidArgument, "filter: %v (expressions are RE2, without look-around)", err)
		}
		f.pattern = compiled
	}
	window := uint64(defaultWindow)
	if m, ok := o.GetWindow().(*streams.ReadReq_Options_FilterOptions_Max); ok {
		window = uint64(m.Max)
	}
	if window == 0 {
		return nil, fail(codes.InvalidArgument, "filter: a window of 0 events")
	}
	f.every = window * uint64(o.GetCheckpointIntervalMultiplier()) // both have 32 bits
	return f, nil
}

// passes tells whether an event is wanted. Without a filter all are.
func (f *filter) passes(e eventstore.Recorded) bool {
	if f == nil {
		return true
	}
	subject := string(e.Stream)
	if f.byType {
		subject, _ = shownType(e.Type)
	}
	if f.pattern != nil {
		return f.pattern.MatchString(subject)
	}
	for _, p := range f.prefixes {
		if strings.HasPrefix(subject, p) {
			return true
		}
	}
	return false
}

// store is as much of the filter as the store itself can do.
func (f *filter) store() eventstore.Filter {
	if f == nil || f.byType || f.pattern != nil {
		return eventstore.Filter{}
	}
	return eventstore.Filter{StreamPrefixes: f.prefixes}
}
