package esdbserver

import (
	"encoding/binary"
	"fmt"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/google/uuid"

	"writ/domain/eventstore"
)

// A uuidForm is one of the two ways in which the protocol writes an id. Clients
// send either, and say in a read which one they want back.
type uuidForm uint8

const (
	structured uuidForm = iota + 1 // the two halves as numbers
	textual                        // as RFC 9562 writes it
)

func encodeUUID(id eventstore.EventID, form uuidForm) *shared.UUID {
	if form == textual {
		return &shared.UUID{Value: &shared.UUID_String_{String_: uuid.UUID(id).String()}}
	}
	return &shared.UUID{Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{
		MostSignificantBits:  int64(binary.BigEndian.Uint64(id[:8])),
		LeastSignificantBits: int64(binary.BigEndian.Uint64(id[8:])),
	}}}
}

func decodeUUID(u *shared.UUID) (eventstore.EventID, error) {
	var id eventstore.EventID
	switch v := u.GetValue().(type) {
	case *shared.UUID_Structured_:
		binary.BigEndian.PutUint64(id[:8], uint64(v.Structured.GetMostSignificantBits()))
		binary.BigEndian.PutUint64(id[8:], uint64(v.Structured.GetLeastSignificantBits()))
	case *shared.UUID_String_:
		// Parse alone would also take braces and the form of a URN.
		parsed, err := uuid.Parse(v.String_)
		if err != nil || len(v.String_) != 36 {
			return id, fmt.Errorf("id %.40q is not a UUID", v.String_)
		}
		id = eventstore.EventID(parsed)
	default:
		return id, fmt.Errorf("no id was given")
	}
	if id == (eventstore.EventID{}) {
		return id, fmt.Errorf("the id is zero")
	}
	return id, nil
}
