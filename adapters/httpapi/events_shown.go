package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

// What is withheld of an event.
const (
	withheldEnvelope = "envelope"
	withheldData     = "data"
)

// clockMargin is for how long after its expiry an envelope is still kept back,
// in case this machine's clock is ahead and is set back later. It is as much as
// a policy may grant to other clocks.
const clockMargin = gate.MaxClockSkew

// knownTypes are the types of events whose data can be shown.
func knownTypes() []string {
	return []string{
		op.TypeStarted, op.TypeLaunching, op.TypeTaskRunning, op.TypeSucceeded, op.TypeFailed, op.TypeVoided,
		op.TypeRefused, op.TypeRefusalsCounted, op.TypeContested, op.TypeUPIDAdopted, op.TypeTookOver, op.TypeAlive,
		op.TypeRollbackAccepted, op.TypeStoreClosed, gate.TypeLoaded,
	}
}

func known(typ string) bool { return slices.Contains(knownTypes(), typ) }

// other gives a value to read an event into that is none of an op's own
// stream; nil if the type is not known to be one of those.
func other(typ string) any {
	switch typ {
	case op.TypeRefused:
		return new(op.Refused)
	case op.TypeRefusalsCounted:
		return new(op.RefusalsCounted)
	case op.TypeContested:
		return new(op.Contested)
	case op.TypeUPIDAdopted:
		return new(op.UPIDAdopted)
	case op.TypeTookOver:
		return new(op.TookOver)
	case op.TypeAlive:
		return new(op.Alive)
	case op.TypeRollbackAccepted:
		return new(op.RollbackAccepted)
	case op.TypeStoreClosed:
		return new(op.StoreClosed)
	case gate.TypeLoaded:
		return new(gate.Loaded)
	}
	return nil
}

// ledgerEvent gives an event as a line of JSON. An error says that the ledger
// could not be asked whether an envelope may be shown.
//
// Data and metadata stand in it byte for byte as recorded, so that whoever
// reads it can check the chain; the library would write them in its own way.
func (f *feed) ledgerEvent(ctx context.Context, cursor string, rec eventstore.Recorded) ([]byte, error) {
	data, withheld, err := f.shown(ctx, rec)
	if err != nil {
		return nil, err
	}
	line, err := json.Marshal(LedgerEvent{
		Cursor: cursor, Stream: strings.ToValidUTF8(string(rec.Stream), "\ufffd"), Revision: uint64(rec.Revision),
		Type: clip(strings.ToValidUTF8(rec.Type, "\ufffd")), ID: op.ID(rec.ID).String(), RecordedAt: rec.RecordedAt.UTC(), Withheld: withheld,
	})
	if err != nil {
		return nil, err
	}
	if data != nil {
		line = member(line, "data", data)
		if oneLine(rec.Metadata) {
			line = member(line, "metadata", rec.Metadata)
		}
	}
	return line, nil
}

// member puts one more member at the end of an object that has some.
func member(object []byte, name string, value []byte) []byte {
	object = append(object[:len(object)-1], `,"`+name+`":`...)
	return append(append(object, value...), '}')
}

// shown gives what may be shown of an event's data; nil if nothing, and what
// was withheld. The rule:
//
//   - an OpStarted is shown without its envelope for as long as that could
//     still be submitted: until it has expired by clockMargin, or its nonce is
//     spent on record;
//   - of an event that this program does not know, that can't be read, or that
//     claims to be of another op than its stream, nothing is shown;
//   - all else is shown whole. The envelope of a resolution is on record only
//     where it has ended the attempt that it names, and can do nothing more.
func (f *feed) shown(ctx context.Context, rec eventstore.Recorded) (data []byte, withheld string, err error) {
	if !oneLine(rec.Data) {
		return nil, withheldData, nil
	}
	if v := other(rec.Type); v != nil {
		if op.Unmarshal(rec.Data, v) != nil {
			return nil, withheldData, nil //nolint:nilerr // what can't be read is not shown, and no fault of the ledger's
		}
		return rec.Data, "", nil
	}
	e, err := op.Decode(rec.Type, rec.Data)
	n, ofOp := op.NonceOfStream(string(rec.Stream))
	if err != nil || !ofOp || op.HeaderOf(e).Nonce != n {
		return nil, withheldData, nil //nolint:nilerr // as above
	}
	s, ok := e.(*op.Started)
	if !ok || len(s.Envelope) == 0 {
		return rec.Data, "", nil
	}
	may, err := f.mayStillRun(ctx, n, s.Envelope)
	if err != nil || !may {
		return rec.Data, "", err
	}
	s.Envelope = nil
	if data, err = op.Encode(s); err != nil {
		return nil, "", fmt.Errorf("show %s without its envelope: %w", n.Short(), err) // it was decoded just now: can't be
	}
	return data, withheldEnvelope, nil
}

// maxKnown bounds the ops of which a feed remembers whether they are spent.
const maxKnown = 1024

// mayStillRun tells whether an envelope on record could be submitted once more
// and take effect. Both answers that let it be shown are final: what has
// expired stays so, and what is spent too.
//
// That an op is not spent is remembered as well, or each attempt of an op that
// had many would cost a look at all of them. If it is spent by now, more is
// withheld than had to be.
func (f *feed) mayStillRun(ctx context.Context, n op.Nonce, envelope []byte) (bool, error) {
	if u, err := signedop.Parse(envelope); err == nil && expired(u.UnverifiedDocument().ExpiresAt, f.api.cfg.Now()) {
		return false, nil
	}
	if spent, ok := f.spent[n]; ok {
		return !spent, nil
	}
	ledger := f.api.cfg.Ledger
	o, err := engine.LoadOp(ctx, ledger, ledger.LedgerID(), n)
	if err != nil && corruption(err) == "" {
		return true, err
	}
	spent := err == nil && o.Spent() // what a corrupt one is once it is mended, nobody knows
	if f.spent == nil || len(f.spent) >= maxKnown {
		f.spent = make(map[op.Nonce]bool)
	}
	f.spent[n] = spent
	return !spent, nil
}

func expired(at, now time.Time) bool { return !now.Before(at.Add(clockMargin)) }

// oneLine tells whether bytes are JSON that can stand in one line as they are.
// Whatever writ records is.
func oneLine(b []byte) bool {
	return !bytes.ContainsAny(b, "\r\n") && jsontext.Value(b).IsValid()
}
