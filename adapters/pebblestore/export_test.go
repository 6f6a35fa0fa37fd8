package pebblestore

// What the tests of the stored form need.
var (
	EventKey    = eventKey
	EncodeEvent = encodeEvent
	DecodeEvent = decodeEvent
	PositionKey = positionKey
	EncodePlace = encodePlace
	DecodePlace = decodePlace
)
