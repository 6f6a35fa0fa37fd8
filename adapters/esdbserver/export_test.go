package esdbserver

import "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"

// CheckRead tells whether a request to read is of good form.
func CheckRead(req *streams.ReadReq) error {
	_, err := parseRead(req)
	return err
}

// HiddenBefore gives the first revision that metadata lets be shown.
func HiddenBefore(data []byte) uint64 { return parseMetadata(data).truncateBefore }

// WithTruncateBefore gives metadata with another first revision to show.
var WithTruncateBefore = withTruncateBefore
