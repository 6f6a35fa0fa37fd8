package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"writ/domain/op"
	"writ/domain/signedop"
)

// A signedFile is a file that people sign: a writ, or a resolution. It has one
// of the two.
type signedFile struct {
	raw        []byte
	order      *signedop.Unverified
	resolution *signedop.UnverifiedResolution
}

// readSigned reads a writ or a resolution, whichever the file holds.
func readSigned(path string) (*signedFile, error) {
	raw, err := readBounded(path, signedop.MaxEnvelopeBytes)
	if err != nil {
		return nil, err
	}
	f, err := parseSigned(raw)
	if err != nil {
		return nil, fmt.Errorf("read writ %s: %w", path, err)
	}
	return f, nil
}

func parseSigned(raw []byte) (*signedFile, error) {
	order, err := signedop.Parse(raw)
	if err == nil {
		return &signedFile{raw: raw, order: order}, nil
	}
	resolution, otherwise := signedop.ParseResolution(raw)
	if otherwise == nil {
		return &signedFile{raw: raw, resolution: resolution}, nil
	}
	// The reader of the kind that it is meant to be gets further than to the
	// payload type.
	if bad, ok := errors.AsType[*signedop.MalformedError](otherwise); ok && bad.Field != "payloadType" {
		return nil, otherwise
	}
	return nil, err
}

func (f *signedFile) nonce() op.Nonce {
	if f.order != nil {
		return f.order.Nonce()
	}
	return f.resolution.Nonce()
}

func (f *signedFile) digest() op.Digest {
	if f.order != nil {
		return f.order.Digest()
	}
	return f.resolution.Digest()
}

func (f *signedFile) signatures() []signedop.SignatureInfo {
	if f.order != nil {
		return f.order.Signatures()
	}
	return f.resolution.Signatures()
}

// outcomes tells of each signature whether one of the keys made it.
func (f *signedFile) outcomes(trusted []signedop.Key) (outcomes []signedop.Outcome) {
	if f.order != nil {
		_, outcomes = f.order.Verify(trusted)
	} else {
		_, outcomes = f.resolution.Verify(trusted)
	}
	return outcomes
}

// terms are what both kinds of document say about their signers. Nothing of it
// is verified.
type terms struct{ role, requestedBy, audience string }

func (f *signedFile) terms() terms {
	if f.order != nil {
		d := f.order.UnverifiedDocument()
		return terms{d.Role, d.RequestedBy, d.Audience}
	}
	r := f.resolution.UnverifiedResolution()
	return terms{r.Role, r.RequestedBy, r.Audience}
}

// noun is what the file is called.
func (f *signedFile) noun() string {
	if f.order != nil {
		return "writ"
	}
	return "resolution"
}

// verb says what the file's document does.
func (f *signedFile) verb() string {
	if f.order != nil {
		return "orders"
	}
	return "claims"
}

// namespace is the one to give to ssh-keygen -Y sign.
func (f *signedFile) namespace() string {
	if f.order != nil {
		return signedop.SSHNamespace
	}
	return signedop.ResolutionSSHNamespace
}

// describe puts the document in plain words.
func (f *signedFile) describe(w io.Writer, now time.Time) {
	if f.order != nil {
		describe(w, f.order.UnverifiedDocument(), now)
		return
	}
	describeResolution(w, f.resolution.UnverifiedResolution(), now)
}

// writeSigned writes an envelope to a file that does not exist yet, and what its
// signers sign to another one if that is named. Both are written or none.
func writeSigned(out, pae string, raw []byte) error {
	if pae == "" {
		return writeNew(out, raw, 0o600)
	}
	text, err := signedop.PAEOf(raw)
	if err != nil {
		return err
	}
	if err := writeNew(pae, text, 0o600); err != nil {
		return err
	}
	if err := writeNew(out, raw, 0o600); err != nil {
		return errors.Join(err, os.Remove(pae))
	}
	return nil
}
