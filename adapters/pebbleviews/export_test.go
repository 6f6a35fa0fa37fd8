package pebbleviews

// CachedBytes is the size of the blocks that are in memory.
func CachedBytes(s *Store) int64 { return s.db.Metrics().BlockCache.Size }
