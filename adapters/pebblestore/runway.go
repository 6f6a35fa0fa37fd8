package pebblestore

// runwayBytes is how far ahead a new piece of the log is laid out.
const runwayBytes = 1 << 20

var zeros [runwayBytes]byte

// A runway is what lies ahead of pebble in a new piece of its log: zeros. An
// fsync of bytes that stand in the place of others is about those bytes alone;
// one that has made the file longer must also record its length, which the disk
// writes elsewhere and after. Pebble itself writes over pieces of the log that
// it needs no more, once it has some; what it finds behind the end of such a
// one it does not take for a part of the log, and zeros even less.
type runway struct {
	written int64 // by pebble
	laid    int64 // to where the file has bytes, if further
}

// lay makes room for the next n bytes. If the disk does not want that, the
// bytes themselves will tell: nothing depends on the room.
func (r *runway) lay(f *guardedFile, n int) {
	from := max(r.written, r.laid)
	r.written += int64(n)
	if r.written <= r.laid {
		return
	}
	if _, err := f.File.WriteAt(zeros[:], from); err == nil {
		r.laid = from + runwayBytes
	}
}
