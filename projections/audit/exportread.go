package audit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"strings"

	"writ/domain/eventstore"
	"writ/domain/op"
)

// maxLine bounds a line of an export: the largest event in base64 and its
// names escaped, with room to spare.
const maxLine = 2 << 20

// errLineTooLong stands for a line that was passed over.
var errLineTooLong = fmt.Errorf("a line longer than %d bytes", maxLine)

// A lineReader gives the lines of an export, in bounded memory, and the digest
// of all up to the last one given.
type lineReader struct {
	in     *bufio.Reader
	sum    hash.Hash
	read   int64 // bytes of the lines given
	number int
	buf    []byte
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{in: bufio.NewReaderSize(r, 256<<10), sum: sha256.New()}
}

// next gives a line without its end. It is overwritten by the following call.
// io.ErrUnexpectedEOF stands for a last line that was cut off, errLineTooLong
// for one that was passed over.
func (l *lineReader) next() ([]byte, error) {
	l.buf = l.buf[:0]
	tooLong := false
	for {
		part, err := l.in.ReadSlice('\n')
		l.sum.Write(part)
		l.read += int64(len(part))
		if tooLong = tooLong || len(l.buf)+len(part) > maxLine; !tooLong {
			l.buf = append(l.buf, part...)
		}
		switch {
		case err == nil && tooLong:
			l.number++
			return nil, errLineTooLong
		case err == nil:
			l.number++
			return l.buf[:len(l.buf)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && (len(l.buf) > 0 || tooLong):
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}

// An IncompleteError says how an export is not the whole record.
type IncompleteError struct{ Expected, Found string }

func (e *IncompleteError) Error() string { return "export: " + e.Found + ", expected " + e.Expected }

// An Export is the record as an Exporter wrote it. Events may be called once.
type Export struct {
	lines  *lineReader
	header exportHeader
	size   uint64
}

// OpenExport reads the first line of an export. size is that of all of it, 0 if
// not known.
func OpenExport(r io.Reader, size int64) (*Export, error) {
	x := &Export{lines: newLineReader(r), size: uint64(max(size, 0))}
	var err error
	x.header, err = readHeader(x.lines)
	return x, err
}

func readHeader(l *lineReader) (h exportHeader, err error) {
	line, err := l.next()
	switch {
	case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, errLineTooLong):
		return h, fmt.Errorf("read an export: %w", err)
	case err != nil || !bytes.HasPrefix(line, []byte(`{"writ_export":`)):
		return h, errors.New("read an export: it is none: the first line is not a header of writ audit export")
	}
	if err := op.Unmarshal(line, &h); err != nil {
		return h, fmt.Errorf("read an export: header: %s", shorten(err.Error()))
	}
	if h.Version != ExportVersion {
		return h, fmt.Errorf("read an export: version %d is unknown to this program, which reads %d", h.Version, ExportVersion)
	}
	return h, nil
}

// Name implements Source.
func (x *Export) Name() string { return "export" }

// LedgerID implements Source: as the export says.
func (x *Export) LedgerID() eventstore.LedgerID { return x.header.Ledger }

// Progress implements Source, in bytes.
func (x *Export) Progress() (done, total uint64) { return uint64(x.lines.read), x.size }

// Events implements Source. Behind the last event it compares the manifest with
// what was read: an *IncompleteError tells what is missing, and does not end
// the sequence.
func (x *Export) Events(ctx context.Context, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		read := Manifest{Ledger: x.header.Ledger, After: x.header.After, Last: x.header.After}
		if x.header.After > 0 && !yield(eventstore.Recorded{}, &IncompleteError{"an export from the ledger's beginning", fmt.Sprintf("one from behind position %d", x.header.After)}) {
			return
		}
		for ctx.Err() == nil {
			read.SHA256 = op.Digest{} // of the lines before the next, once it is known to be the manifest
			before := x.lines.sum
			if next, err := x.lines.in.Peek(len(manifestStart)); err == nil && string(next) == manifestStart {
				read.SHA256 = op.Digest(before.Sum(nil))
			}
			line, err := x.lines.next()
			switch {
			case errors.Is(err, errLineTooLong):
				if !yield(eventstore.Recorded{}, &UnreadableError{Position: eventstore.Position(read.Last), Line: x.lines.number, Why: err.Error()}) {
					return
				}
				continue
			case errors.Is(err, io.EOF):
				yield(eventstore.Recorded{}, &IncompleteError{"a manifest at the end", "an end without one: the export was cut off or is not finished"})
				return
			case errors.Is(err, io.ErrUnexpectedEOF):
				yield(eventstore.Recorded{}, &IncompleteError{"a manifest at the end", "a line that was cut off"})
				return
			case err != nil:
				yield(eventstore.Recorded{}, fmt.Errorf("read an export: %w", err))
				return
			}
			e, gap, manifest, err := parseLine(line)
			switch {
			case err != nil:
				err = &UnreadableError{Position: eventstore.Position(read.Last), Line: x.lines.number, Why: err.Error()}
			case manifest != nil:
				x.end(read, *manifest, yield)
				return
			case gap != nil:
				read.Unreadable++
				err = &UnreadableError{Position: eventstore.Position(gap.Position), Line: x.lines.number, Why: "it could not be read from the store either: " + shorten(gap.Why)}
			default:
				read.Events++
				read.Last = uint64(e.Position)
				if !filter.Passes(e.Stream) {
					continue
				}
			}
			if !yield(e, err) {
				return
			}
		}
		yield(eventstore.Recorded{}, ctx.Err())
	}
}

const manifestStart = `{"manifest":`

// end compares what was read with what the manifest says.
func (x *Export) end(read, manifest Manifest, yield func(eventstore.Recorded, error) bool) {
	if read != manifest {
		expected, found := differences(manifest, read)
		if !yield(eventstore.Recorded{}, &IncompleteError{"what the manifest says: " + expected, found}) {
			return
		}
	}
	if _, err := x.lines.next(); !errors.Is(err, io.EOF) {
		yield(eventstore.Recorded{}, &IncompleteError{"nothing behind the manifest", "more lines"})
	}
}

// differences shows what is not the same in two manifests.
func differences(a, b Manifest) (inA, inB string) {
	var as, bs []string
	for _, f := range []struct {
		name string
		a, b any
	}{
		{"ledger", a.Ledger, b.Ledger},
		{"after", a.After, b.After},
		{"events", a.Events, b.Events},
		{"last_position", a.Last, b.Last},
		{"unreadable", a.Unreadable, b.Unreadable},
		{"sha256", a.SHA256, b.SHA256},
	} {
		if f.a != f.b {
			as, bs = append(as, fmt.Sprintf("%s %v", f.name, f.a)), append(bs, fmt.Sprintf("%s %v", f.name, f.b))
		}
	}
	return strings.Join(as, ", "), strings.Join(bs, ", ")
}

// parseLine reads a line behind the first. What it gives shares nothing with
// the line.
func parseLine(line []byte) (e eventstore.Recorded, gap *exportGap, manifest *Manifest, err error) {
	switch {
	case bytes.HasPrefix(line, []byte(manifestStart)):
		var m exportManifest
		err = op.Unmarshal(line, &m)
		manifest = &m.Manifest
	case bytes.HasPrefix(line, []byte(`{"unreadable":`)):
		gap = new(exportGap)
		err = op.Unmarshal(line, gap)
	default:
		var w exportEvent
		if err = op.Unmarshal(line, &w); err == nil {
			e, err = w.recorded()
		}
	}
	if err != nil {
		return eventstore.Recorded{}, nil, nil, errors.New(shorten(err.Error()))
	}
	return e, gap, manifest, nil
}

func (w *exportEvent) recorded() (eventstore.Recorded, error) {
	e := eventstore.Recorded{
		Stream: eventstore.StreamID(w.Stream), Revision: eventstore.Revision(w.Revision), Position: eventstore.Position(w.Position),
		Type: w.Type, Data: w.Data, Metadata: w.Metadata, RecordedAt: w.At,
	}
	id, err := hex.DecodeString(strings.ReplaceAll(w.ID, "-", ""))
	switch {
	case err != nil || len(id) != len(e.ID) || op.ID(id).String() != w.ID:
		return eventstore.Recorded{}, fmt.Errorf("id: %q is not a UUID in lower case", shorten(w.ID))
	case w.Stream == "":
		return eventstore.Recorded{}, errors.New("stream: missing")
	case w.Type == "":
		return eventstore.Recorded{}, errors.New("type: missing")
	}
	e.ID = eventstore.EventID(id)
	return e, nil
}
