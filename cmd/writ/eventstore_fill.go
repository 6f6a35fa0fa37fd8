package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"writ/adapters/esdbserver"
	"writ/domain/eventstore"
)

// A filledEvent is one line of a file of test data: an event with the numbers
// that it shall have.
type filledEvent struct {
	Position    uint64 `json:"position"`
	Stream      string `json:"stream"`
	Revision    uint64 `json:"revision"`
	ID          string `json:"id"`
	Type        string `json:"type"`
	ContentType string `json:"contentType"`
	Created     int64  `json:"created"` // in 100 ns since 1970
	Data        []byte `json:"data"`
	Metadata    []byte `json:"metadata"`
}

// maxFilledLine bounds a line: an event in base64.
const maxFilledLine = 2 * eventstore.MaxEventBytes

// filledEvents gives the events of a file, one JSON object a line. What they may
// be is for the store to say.
func filledEvents(path string) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		f, err := os.Open(path) //nolint:gosec // the person names the file
		if err != nil {
			yield(eventstore.Recorded{}, fileError("read", path, err))
			return
		}
		defer f.Close()
		lines := bufio.NewReaderSize(f, maxFilledLine)
		for n := 1; ; n++ {
			line, err := lines.ReadSlice('\n')
			if errors.Is(err, io.EOF) && len(line) == 0 {
				return
			}
			if err != nil && !errors.Is(err, io.EOF) {
				yield(eventstore.Recorded{}, fmt.Errorf("read %s: line %d: %w", path, n, err))
				return
			}
			e, err := parseFilled(line)
			if err != nil {
				err = fmt.Errorf("read %s: line %d: %v", path, n, err)
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

func parseFilled(line []byte) (eventstore.Recorded, error) {
	var v filledEvent
	if err := json.Unmarshal(line, &v, json.RejectUnknownMembers(true)); err != nil {
		return eventstore.Recorded{}, err
	}
	id, err := uuid.Parse(v.ID)
	if err != nil {
		return eventstore.Recorded{}, fmt.Errorf("id %.40q is not a UUID", v.ID)
	}
	return eventstore.Recorded{
		Stream:     eventstore.StreamID(v.Stream),
		Revision:   eventstore.Revision(v.Revision),
		Position:   eventstore.Position(v.Position),
		ID:         eventstore.EventID(id),
		Type:       esdbserver.StoredType(v.Type, v.ContentType),
		Data:       v.Data,
		Metadata:   v.Metadata,
		RecordedAt: time.Unix(v.Created/1e7, v.Created%1e7*100).UTC(),
	}, nil
}
