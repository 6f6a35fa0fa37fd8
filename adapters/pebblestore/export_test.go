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

// CachedBytes is the size of the blocks that are in memory.
func CachedBytes(s *Store) int64 { return s.db.Metrics().BlockCache.Size }
