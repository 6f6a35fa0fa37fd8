package audit_test

import (
	"bytes"
	"context"
	"testing"

	"writ/domain/eventstore"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/projections/audit"
)

// FuzzEvent puts any bytes on record behind a sound ledger, with the id and the
// chain hash that belong to them, so that nothing but their meaning can be
// wrong, and once more without.
func FuzzEvent(f *testing.F) {
	r := wholeRecord(f)
	whole := list(r.events())
	for _, e := range whole {
		f.Add(string(e.Stream), e.Type, e.Data, e.Metadata)
	}
	f.Add(gate.PolicyStream, gate.TypeLoaded, []byte(`{"serial":3}`), []byte(`{}`))
	f.Add("op-", op.TypeStarted, []byte(`{}`), []byte(nil))
	f.Fuzz(func(t *testing.T, stream, typ string, data, metadata []byte) {
		n := uint64(0)
		var tail op.Tail
		for _, e := range whole {
			if string(e.Stream) == stream {
				last, err := op.TailAfter(op.Record{Revision: uint64(e.Revision), ID: op.ID(e.ID), Metadata: e.Metadata})
				if err != nil {
					t.Fatal(err)
				}
				tail, n = last, uint64(e.Revision)+1
			}
		}
		nonce, _ := op.NonceOfStream(stream)
		sealed, _, err := tail.Seal(ledger, stream, string(nonce), typ, data)
		if err != nil {
			return // such a name can't be stored
		}
		at := whole[len(whole)-1].Position
		added := eventstore.Recorded{
			Stream: eventstore.StreamID(stream), Revision: eventstore.Revision(n), Position: at + 1, ID: eventstore.EventID(sealed.ID), Type: typ,
			Data: data, Metadata: sealed.Metadata,
		}
		raw := added
		raw.Position, raw.Metadata = at+2, metadata
		for _, l := range []list{append(whole[:len(whole):len(whole)], added), append(whole[:len(whole):len(whole)], raw)} {
			rep := verify(t, l, audit.Options{Workers: 1})
			if rep.Counts.Events != uint64(len(l)) || !rep.Complete {
				t.Errorf("read %d of %d events", rep.Counts.Events, len(l))
			}
			var text, html bytes.Buffer
			if err := rep.WriteText(&text); err != nil {
				t.Error(err)
			}
			if err := rep.WriteHTML(&html); err != nil {
				t.Error(err)
			}
			if _, err := rep.JSON(); err != nil {
				t.Error(err)
			}
			if nonce != "" {
				if s, err := audit.Why(context.Background(), audit.OfStore(l), string(nonce)); err == nil {
					_ = s.WriteText(&text)
				}
			}
			if bytes.ContainsAny(text.Bytes(), "\x1b\x07\r") {
				t.Errorf("the text holds what a terminal obeys: %q", text.String())
			}
		}
	})
}
