package esdbserver

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"writ/domain/eventstore"
)

// A failure is a status with the trailers from which the clients make their
// own errors. Some clients read them without looking whether they are there.
type failure struct {
	code    codes.Code
	text    string
	trailer metadata.MD
}

func (f *failure) Error() string { return f.text }

// GRPCStatus is how the gRPC library learns the code.
func (f *failure) GRPCStatus() *status.Status { return status.New(f.code, f.text) }

func fail(code codes.Code, format string, args ...any) *failure {
	return &failure{code: code, text: fmt.Sprintf(format, args...)}
}

// exception is a failure that the protocol knows by name. pairs are further
// trailers, name and value.
func exception(code codes.Code, name, text string, pairs ...string) *failure {
	md := metadata.Pairs("exception", name)
	for i := 0; i+1 < len(pairs); i += 2 {
		md.Set(pairs[i], printable(pairs[i+1]))
	}
	return &failure{code: code, text: text, trailer: md}
}

// printable gives a value that HTTP/2 takes as a header: what is not printable
// ASCII is percent-encoded.
func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e }) < 0 {
		return s
	}
	return url.PathEscape(s)
}

func accessDenied(text string) *failure {
	return exception(codes.PermissionDenied, "access-denied", text)
}

func streamDeleted(stream eventstore.StreamID) *failure {
	return exception(codes.FailedPrecondition, "stream-deleted",
		fmt.Sprintf("stream %q is deleted", stream), "stream-name", string(stream))
}

// wrongVersion is how Delete and Tombstone tell it; Append has a message for
// it.
func wrongVersion(stream eventstore.StreamID, expected expectation, actual int64) *failure {
	return exception(codes.FailedPrecondition, "wrong-expected-version",
		fmt.Sprintf("stream %q is at %d, expected %d", stream, actual, expected.number()),
		"stream-name", string(stream),
		"expected-version", strconv.FormatInt(expected.number(), 10),
		"actual-version", strconv.FormatInt(actual, 10))
}

func appendTooLarge(size int) *failure {
	return exception(codes.InvalidArgument, "maximum-append-size-exceeded",
		fmt.Sprintf("the append has %d bytes, at most %d are allowed", size, eventstore.MaxEventBytes),
		"maximum-append-size", strconv.Itoa(eventstore.MaxEventBytes))
}

func missingMetadata(event int) *failure {
	return exception(codes.InvalidArgument, "missing-required-metadata-property",
		fmt.Sprintf("event %d: its metadata must hold type and content-type", event),
		"required-metadata-properties", "type,content-type")
}

var errStopping = fail(codes.Unavailable, "the server is stopping")

// readFailure turns an error of reading into a status.
func readFailure(err error) error {
	var f *failure
	var corrupt *eventstore.CorruptError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &f):
		return f
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	case errors.Is(err, eventstore.ErrClosed):
		return fail(codes.Unavailable, "%v", err)
	case errors.As(err, &corrupt):
		return fail(codes.DataLoss, "%v", err)
	}
	return fail(codes.Unknown, "%v", err)
}

// appendFailure turns an error of an append into a status. ABORTED tells a
// client that the append may be on record, and that repeating it with the same
// ids settles that.
func appendFailure(err error) error {
	var f *failure
	var invalid *eventstore.InvalidError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &f):
		return f
	case errors.As(err, &invalid):
		return fail(codes.InvalidArgument, "%v", err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	case errors.Is(err, eventstore.ErrClosed):
		return fail(codes.Unavailable, "%v", err)
	}
	return fail(codes.Aborted, "%v", err)
}
