package audit

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"writ/domain/op"
)

// A diagnosis says what is wrong with an event that the fold refused.
type diagnosis struct {
	kind            Kind
	expected, found string
}

// diagnose finds out why an event can't come next in a stream. It only names
// the reason: that there is one was decided by op.Tail.Check, and err is what
// that said.
func diagnose(ledger, stream string, tail op.Tail, rec op.Record, err error) diagnosis {
	id := op.EventID(stream, rec.Revision, rec.Type, rec.Data)
	if rec.Revision != tail.Next {
		return diagnosis{
			WrongRevision, fmt.Sprintf("revision %d", tail.Next), fmt.Sprintf("revision %d (%s)", rec.Revision, rec.Type),
		}
	}
	var meta op.Metadata
	unread := op.Unmarshal(rec.Metadata, &meta)
	want := op.Chain(ledger, stream, rec.Revision, rec.Type, rec.Data, tail.Chain)
	switch {
	case rec.ID != id && unread == nil && meta.Chain != want:
		return diagnosis{Altered, "bytes of the id " + rec.ID.String() + " and the chain hash " + meta.Chain.String(), "id " + id.String() + " and chain hash " + want.String()}
	case rec.ID != id:
		return diagnosis{WrongID, "id " + id.String(), "id " + rec.ID.String()}
	case unread != nil:
		return diagnosis{BadMetadata, "metadata in the form of schema 1", unread.Error()}
	case meta.Schema == op.Schema && meta.Chain != want:
		return diagnosis{BrokenChain, "chain hash " + want.String(), "chain hash " + meta.Chain.String()}
	}
	return diagnosis{BadMetadata, "metadata that agrees with the event and the one before", why(err)}
}

// diagnoseOp does the same for an event of an op's stream.
func diagnoseOp(o *op.Op, rec op.Record, err error) diagnosis {
	if _, tailErr := o.Tail.Check(o.Ledger, o.Nonce.Stream(), rec); tailErr != nil {
		return diagnose(o.Ledger, o.Nonce.Stream(), o.Tail, rec, tailErr)
	}
	e, bad := op.Decode(rec.Type, rec.Data)
	switch {
	case errors.Is(bad, op.ErrUnknownEvent):
		return diagnosis{UnknownEvent, "an event of an op", rec.Type}
	case bad != nil:
		return diagnosis{BadEvent, "data in the form of " + rec.Type, bad.Error()}
	}
	if _, illegal := op.Transition(o.State, op.TriggerOf(e)); illegal != nil {
		return diagnosis{IllegalTransition, "one of " + strings.Join(legal(o.State), ", "), fmt.Sprintf("%s when the op is %s", op.TriggerOf(e), o.State)}
	}
	return diagnosis{Contradiction, "an event that agrees with its stream", why(err)}
}

func legal(s op.State) []string {
	var names []string
	for _, t := range op.Triggers() {
		if _, err := op.Transition(s, t); err == nil {
			names = append(names, string(t))
		}
	}
	slices.Sort(names)
	if len(names) == 0 {
		return []string{"none"}
	}
	return names
}

// why is the reason in a *op.CorruptStreamError, without the stream's name.
func why(err error) string {
	var corrupt *op.CorruptStreamError
	if errors.As(err, &corrupt) {
		return corrupt.Why
	}
	return err.Error()
}
