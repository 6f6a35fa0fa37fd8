package pebblestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"writ/domain/eventstore"
)

// An event's key is its stream and revision, so that an op is read with one
// seek over neighbouring keys. The end mark keeps one stream's keys apart from
// those of a stream whose name begins with the same bytes.
const (
	eventPrefix    = 'e'
	positionPrefix = 'p'
	metaPrefix     = 'm'
)

const recordVersion = 1

// Layout of an event's value, version 1: version, checksum, position, time in
// nanoseconds since 1970, id, length and bytes of type and data, metadata.
const (
	checksumAt  = 1
	positionAt  = 5
	timeAt      = 13
	idAt        = 21
	variableAt  = 37
	checksumLen = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var endOfName = []byte{0x00, 0x01}

// streamKey is what the keys of a stream's events begin with.
func streamKey(stream eventstore.StreamID) []byte {
	return appendStreamKey(make([]byte, 0, len(stream)+16), stream)
}

func appendStreamKey(key []byte, stream eventstore.StreamID) []byte {
	key = append(key, eventPrefix)
	for i := range len(stream) {
		key = append(key, stream[i])
		if stream[i] == 0x00 {
			key = append(key, 0xff) // so that the end mark is no part of a name
		}
	}
	return append(key, endOfName...)
}

func eventKey(stream eventstore.StreamID, r eventstore.Revision) []byte {
	return binary.BigEndian.AppendUint64(streamKey(stream), uint64(r))
}

func positionKey(p eventstore.Position) []byte {
	return appendPositionKey(make([]byte, 0, 9), p)
}

func appendPositionKey(key []byte, p eventstore.Position) []byte {
	return binary.BigEndian.AppendUint64(append(key, positionPrefix), uint64(p))
}

func metaKey(name string) []byte { return append([]byte{metaPrefix}, name...) }

// splitEventKey is the reverse of eventKey.
func splitEventKey(key []byte) (eventstore.StreamID, eventstore.Revision, error) {
	end := len(key) - 8
	if end < 3 || key[0] != eventPrefix || !bytes.Equal(key[end-2:end], endOfName) {
		return "", 0, fmt.Errorf("key %x is not an event's", key)
	}
	name := bytes.ReplaceAll(key[1:end-2], []byte{0x00, 0xff}, []byte{0x00})
	return eventstore.StreamID(name), eventstore.Revision(binary.BigEndian.Uint64(key[end:])), nil
}

// encodeEvent gives the value of an event. The checksum covers the key too: a
// value that turned up under another key is not taken for that key's.
func encodeEvent(key []byte, p eventstore.Position, at time.Time, e eventstore.Proposed) []byte {
	value := appendRecord(make([]byte, 0, recordSize(e)), e)
	stamp(key, value, p, at)
	return value
}

// recordSize is no less than what appendRecord adds.
func recordSize(e eventstore.Proposed) int {
	return variableAt + 2*binary.MaxVarintLen32 + len(e.Type) + len(e.Data) + len(e.Metadata)
}

// appendRecord adds the value of an event as far as the event itself tells it:
// stamp does the rest.
func appendRecord(b []byte, e eventstore.Proposed) []byte {
	var fixed [idAt]byte
	fixed[0] = recordVersion
	b = append(append(b, fixed[:]...), e.ID[:]...)
	b = binary.AppendUvarint(b, uint64(len(e.Type)))
	b = append(b, e.Type...)
	b = binary.AppendUvarint(b, uint64(len(e.Data)))
	b = append(b, e.Data...)
	return append(b, e.Metadata...)
}

// stamp gives a value its place and time, and with them its checksum.
func stamp(key, value []byte, p eventstore.Position, at time.Time) {
	binary.BigEndian.PutUint64(value[positionAt:], uint64(p))
	binary.BigEndian.PutUint64(value[timeAt:], uint64(at.UnixNano()))
	binary.BigEndian.PutUint32(value[checksumAt:], checksum(key, value))
}

func checksum(key, value []byte) uint32 {
	sum := crc32.Update(0, castagnoli, key)
	sum = crc32.Update(sum, castagnoli, value[:checksumAt])
	return crc32.Update(sum, castagnoli, value[checksumAt+checksumLen:])
}

// decodeEvent gives the event of a key and its value, with slices of its own.
func decodeEvent(key, value []byte) (eventstore.Recorded, error) {
	stream, revision, err := splitEventKey(key)
	if err != nil {
		return eventstore.Recorded{}, &eventstore.CorruptError{Why: err.Error()}
	}
	corrupt := func(why string) (eventstore.Recorded, error) {
		return eventstore.Recorded{}, &eventstore.CorruptError{Stream: stream, Why: fmt.Sprintf("revision %d: %s", revision, why)}
	}
	if len(value) < variableAt {
		return corrupt(fmt.Sprintf("its record has %d bytes, at least %d were written", len(value), variableAt))
	}
	if got, want := checksum(key, value), binary.BigEndian.Uint32(value[checksumAt:]); got != want {
		return corrupt(fmt.Sprintf("its checksum is %08x, %08x was written", got, want))
	}
	if value[0] != recordVersion {
		return corrupt(fmt.Sprintf("its record is of version %d, this program reads version %d", value[0], recordVersion))
	}
	e := eventstore.Recorded{
		Stream:     stream,
		Revision:   revision,
		Position:   eventstore.Position(binary.BigEndian.Uint64(value[positionAt:])),
		ID:         eventstore.EventID(value[idAt:variableAt]),
		RecordedAt: time.Unix(0, int64(binary.BigEndian.Uint64(value[timeAt:]))).UTC(),
	}
	rest := bytes.Clone(value[variableAt:])
	var eventType []byte
	if eventType, rest, err = cut(rest); err != nil {
		return corrupt("its type: " + err.Error())
	}
	e.Type = string(eventType)
	if e.Data, e.Metadata, err = cut(rest); err != nil {
		return corrupt("its data: " + err.Error())
	}
	return e, nil
}

var errCutShort = errors.New("the length written does not fit")

// cut takes bytes off that follow their length.
func cut(b []byte) (taken, rest []byte, err error) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return nil, nil, errCutShort
	}
	b = b[size:]
	return b[:n:n], b[n:], nil
}

// encodePlace gives the value of a position: checksum, revision, stream.
func encodePlace(key []byte, stream eventstore.StreamID, r eventstore.Revision) []byte {
	return encodePlaceIn(make([]byte, 0, checksumLen+binary.MaxVarintLen64+len(stream)), key, stream, r)
}

// encodePlaceIn is encodePlace in the space of a buffer that is not needed any
// more.
func encodePlaceIn(buf, key []byte, stream eventstore.StreamID, r eventstore.Revision) []byte {
	value := append(buf[:0], make([]byte, checksumLen)...)
	value = binary.AppendUvarint(value, uint64(r))
	value = append(value, stream...)
	binary.BigEndian.PutUint32(value, placeChecksum(key, value))
	return value
}

func placeChecksum(key, value []byte) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli, key), castagnoli, value[checksumLen:])
}

// encodeGap gives the value of a position that stands for so many in a row at
// which an imported ledger has nothing. No stream has an empty name.
func encodeGap(key []byte, positions uint64) []byte {
	return encodePlace(key, "", eventstore.Revision(positions))
}

// decodePlace is the reverse of positionKey and encodePlace.
func decodePlace(key, value []byte) (eventstore.Position, eventstore.StreamID, eventstore.Revision, error) {
	corrupt := func(why string) (eventstore.Position, eventstore.StreamID, eventstore.Revision, error) {
		return 0, "", 0, &eventstore.CorruptError{Why: fmt.Sprintf("position key %x: %s", key, why)}
	}
	if len(key) != 9 || key[0] != positionPrefix {
		return corrupt("is not a position's")
	}
	if len(value) < checksumLen {
		return corrupt(fmt.Sprintf("its record has %d bytes", len(value)))
	}
	if got, want := placeChecksum(key, value), binary.BigEndian.Uint32(value); got != want {
		return corrupt(fmt.Sprintf("its checksum is %08x, %08x was written", got, want))
	}
	r, n := binary.Uvarint(value[checksumLen:])
	if n <= 0 {
		return corrupt("its revision can't be read")
	}
	return eventstore.Position(binary.BigEndian.Uint64(key[1:])),
		eventstore.StreamID(value[checksumLen+n:]), eventstore.Revision(r), nil
}
