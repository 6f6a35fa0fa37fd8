package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"writ/domain/eventstore"
	"writ/domain/op"
)

// ExportVersion is the version of the export's form.
const ExportVersion = 1

// Lines of an export. The first is an exportHeader, the last an exportManifest,
// and between them stand exportEvents, in order of position, and in the place
// of events that could not be read exportGaps. What tells them apart is the
// first member.
type exportHeader struct {
	Version int                 `json:"writ_export"`
	Ledger  eventstore.LedgerID `json:"ledger"`
	// After is the position behind which the export begins; 0: at the
	// beginning.
	After uint64 `json:"after"`
}

type exportEvent struct {
	Position uint64    `json:"position"`
	Stream   string    `json:"stream"`
	Revision uint64    `json:"revision"`
	ID       string    `json:"id"`
	Type     string    `json:"type"`
	At       time.Time `json:"recorded_at"`
	// Data and Metadata are the bytes as stored, in base64.
	Data     []byte `json:"data"`
	Metadata []byte `json:"metadata"`
}

type exportGap struct {
	Position uint64 `json:"unreadable"`
	Why      string `json:"why"`
}

type exportManifest struct {
	Manifest Manifest `json:"manifest"`
}

// A Manifest ends an export: with it, it is whole.
type Manifest struct {
	Ledger eventstore.LedgerID `json:"ledger"`
	After  uint64              `json:"after"`
	// Events counts the events; Last is the position of the newest.
	Events     uint64 `json:"events"`
	Last       uint64 `json:"last_position"`
	Unreadable uint64 `json:"unreadable"`
	// SHA256 is the digest of all lines before, line ends included.
	SHA256 op.Digest `json:"sha256"`
}

// An Exporter writes a ledger as lines of JSON, from which Verify can check all
// that it can check of the store. The lines hold the writs whole, those too
// that could still be submitted: whoever may read an export may read the
// ledger. Its methods must not be called concurrently.
type Exporter struct {
	w        io.Writer
	sum      hash.Hash
	manifest Manifest
	begun    bool
	line     bytes.Buffer
}

// NewExporter begins an export behind a cursor, which is the ledger's beginning
// for one that Verify calls whole.
func NewExporter(w io.Writer, ledger eventstore.LedgerID, after eventstore.Cursor) *Exporter {
	p, _ := after.Position()
	return &Exporter{w: w, sum: sha256.New(), manifest: Manifest{Ledger: ledger, After: uint64(p), Last: uint64(p)}}
}

// Export writes the ledger up to its end as it is at the call, and the
// manifest. After an error the export lacks its end, which ResumeExport can
// add. Each line is handed to the writer by one Write: the writer should be
// buffered.
func (x *Exporter) Export(ctx context.Context, l Ledger, progress func(Progress)) (Manifest, error) {
	if l.LedgerID() != x.manifest.Ledger {
		return Manifest{}, fmt.Errorf("export: the store is of ledger %s, the export of %s", l.LedgerID(), x.manifest.Ledger)
	}
	if !x.begun {
		if err := x.write(exportHeader{Version: ExportVersion, Ledger: x.manifest.Ledger, After: x.manifest.After}); err != nil {
			return Manifest{}, err
		}
		x.begun = true
	}
	src := &storeSource{ledger: l, measured: progress != nil}
	if x.manifest.Events > 0 || x.manifest.Last > 0 {
		src.from = eventstore.After(eventstore.Position(x.manifest.Last))
	}
	for e, err := range src.Events(ctx, eventstore.Filter{}) {
		var gap *UnreadableError
		switch {
		case errors.As(err, &gap):
			x.manifest.Unreadable++
			err = x.write(exportGap{Position: uint64(gap.Position), Why: shorten(gap.Why)})
		case err == nil:
			err = x.event(&e)
		}
		if err != nil {
			return Manifest{}, fmt.Errorf("export: %w", err)
		}
		if progress != nil && x.manifest.Events%progressEvery == 0 {
			done, total := src.Progress()
			progress(Progress{Events: x.manifest.Events, Done: done, Total: total})
		}
	}
	if err := ctx.Err(); err != nil {
		return Manifest{}, fmt.Errorf("export: %w", err)
	}
	x.manifest.SHA256 = op.Digest(x.sum.Sum(nil))
	return x.manifest, x.write(exportManifest{x.manifest})
}

func (x *Exporter) event(e *eventstore.Recorded) error {
	x.manifest.Events++
	x.manifest.Last = uint64(e.Position)
	return x.write(exportEvent{
		Position: uint64(e.Position), Stream: string(e.Stream), Revision: uint64(e.Revision), ID: op.ID(e.ID).String(), Type: e.Type,
		At: e.RecordedAt.UTC(), Data: e.Data, Metadata: e.Metadata,
	})
}

func (x *Exporter) write(v any) error {
	data, err := op.Marshal(v)
	if err != nil {
		return err
	}
	x.line.Reset()
	x.line.Write(data)
	x.line.WriteByte('\n')
	x.sum.Write(x.line.Bytes())
	_, err = x.w.Write(x.line.Bytes())
	return err
}

// ErrExportWhole says that an export has its manifest: there is nothing to
// resume.
var ErrExportWhole = errors.New("the export is whole")

// ResumeExport reads what there is of an export and gives an Exporter that goes
// on behind it, writing to w, and the length of what is good: a line that was
// cut off is not part of it, and has to be cut off the file before w writes
// there.
func ResumeExport(r io.Reader, w io.Writer) (*Exporter, int64, error) {
	lines := newLineReader(r)
	h, err := readHeader(lines)
	if err != nil {
		return nil, 0, err
	}
	x := &Exporter{w: w, sum: sha256.New(), begun: true, manifest: Manifest{Ledger: h.Ledger, After: h.After, Last: h.After}}
	good := lines.read
	for {
		before, err := cloneHash(lines.sum)
		if err != nil {
			return nil, 0, err
		}
		line, err := lines.next()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			x.sum = before
			return x, good, nil
		}
		if err != nil {
			return nil, 0, fmt.Errorf("resume an export: %w", err)
		}
		switch e, gap, manifest, err := parseLine(line); {
		case err != nil:
			return nil, 0, fmt.Errorf("resume an export: line %d: %w; begin a new one", lines.number, err)
		case manifest != nil:
			return nil, 0, ErrExportWhole
		case gap != nil:
			x.manifest.Unreadable++
			x.manifest.Last = gap.Position
		case uint64(e.Position) <= x.manifest.Last && x.manifest.Events > 0:
			return nil, 0, fmt.Errorf("resume an export: line %d: position %d after %d; begin a new one", lines.number, e.Position, x.manifest.Last)
		default:
			x.manifest.Events++
			x.manifest.Last = uint64(e.Position)
		}
		good = lines.read
	}
}

// cloneHash copies the state of a SHA-256.
func cloneHash(h hash.Hash) (hash.Hash, error) {
	state, ok := h.(encoding.BinaryMarshaler)
	if !ok {
		return nil, errors.New("resume an export: SHA-256 gives no copy of its state")
	}
	data, err := state.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("resume an export: %w", err)
	}
	c := sha256.New()
	if u, ok := c.(encoding.BinaryUnmarshaler); ok {
		err = u.UnmarshalBinary(data)
	}
	return c, err
}

// ManifestOf reads an export to its end and gives its manifest. It compares it
// with nothing: Verify does.
func ManifestOf(r io.Reader) (Manifest, error) {
	lines := newLineReader(r)
	if _, err := readHeader(lines); err != nil {
		return Manifest{}, err
	}
	for {
		line, err := lines.next()
		if err != nil {
			return Manifest{}, fmt.Errorf("read an export: no manifest: %w", err)
		}
		if bytes.HasPrefix(line, []byte(manifestStart)) {
			_, _, m, err := parseLine(line)
			if err != nil {
				return Manifest{}, fmt.Errorf("read an export: %w", err)
			}
			return *m, nil
		}
	}
}
