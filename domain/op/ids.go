package op

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// A Digest is a SHA-256, lower-case hex in JSON.
type Digest [sha256.Size]byte

// MarshalText gives lower-case hex.
func (d Digest) MarshalText() ([]byte, error) { return hexText(d[:]), nil }

// UnmarshalText accepts exactly the canonical form.
func (d *Digest) UnmarshalText(text []byte) error { return parseHex(d[:], text) }

// String gives lower-case hex.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// A Claim tells two claimants of one op apart.
type Claim [16]byte

// MarshalText gives lower-case hex.
func (c Claim) MarshalText() ([]byte, error) { return hexText(c[:]), nil }

// UnmarshalText accepts exactly the canonical form.
func (c *Claim) UnmarshalText(text []byte) error { return parseHex(c[:], text) }

// An ID identifies one event, in the form of a UUID of version 8.
type ID [16]byte

// String gives the UUID's usual form.
func (id ID) String() string {
	b := hex.AppendEncode(make([]byte, 0, 36), id[:4])
	for _, part := range [][]byte{id[4:6], id[6:8], id[8:10], id[10:]} {
		b = hex.AppendEncode(append(b, '-'), part)
	}
	return string(b)
}

// EventID derives an event's id from where it is to stand and what it says.
// Repeating an append gives the same id, and so can be recognised by the
// store; two claimants of one op differ in their claim, hence in data and id,
// so no store can take one's append for a repetition of the other's.
// (EventStoreDB answers success to an append whose event ids it has already
// written at the expected place, without comparing the data.)
func EventID(stream string, revision uint64, typ string, data []byte) ID {
	sum := hashFields("writ-event-id-v1", []byte(stream), uint64Bytes(revision), []byte(typ), data)
	var id ID
	copy(id[:], sum[:16])
	id[6] = id[6]&0x0f | 0x80 // version 8
	id[8] = id[8]&0x3f | 0x80 // variant of RFC 9562
	return id
}

// OpID derives an attempt's op id. It can be shown to anyone: it does not
// reveal the nonce.
func OpID(n Nonce, attempt int, claim Claim) string {
	sum := hashFields("writ-op-id-v1", []byte(n), uint64Bytes(uint64(attempt)), claim[:])
	return hex.EncodeToString(sum[:10])
}

func hexText(b []byte) []byte { return hex.AppendEncode(nil, b) }

func parseHex(dst, text []byte) error {
	if len(text) != hex.EncodedLen(len(dst)) {
		return fmt.Errorf("%d hex digits, %d are required", len(text), hex.EncodedLen(len(dst)))
	}
	for i, c := range text {
		if !isHexDigit(c) {
			return fmt.Errorf("byte %d is not a lower-case hex digit", i)
		}
	}
	_, err := hex.Decode(dst, text)
	return err
}

// DigestOf is the SHA-256 of bytes.
func DigestOf(b []byte) Digest { return sha256.Sum256(b) }
