package pebblestore

// Gathered is how many appends wait for the next group.
func Gathered(s *Store) int { return len(s.requests) }
