package signedop

import (
	"fmt"
	"reflect"

	"github.com/go-json-experiment/json"
)

// CheckSignature is the one place where a signature is believed, for test
// vectors whose messages are no DSSE encodings.
func CheckSignature(k Key, message, sig []byte) error {
	_, err := k.verify(kindOp, message, sig)
	return err
}

// ReadBothWays reads bytes the quick way and closely, and tells in what the two
// differ: they must not.
func ReadBothWays(raw []byte) error {
	if len(raw) > MaxEnvelopeBytes {
		return nil // never read in either way
	}
	quick, ok := readEnvelope(raw, kinds())
	slow, err := parseEnvelopeClosely(raw, kinds())
	if ok != (err == nil) || ok && !reflect.DeepEqual(quick, slow) {
		return fmt.Errorf("envelope: quickly %t %+v, closely %+v, %w", ok, quick, slow, err)
	}
	if !ok {
		return nil
	}
	if err := payloadBothWays[Document]("document", slow.payload, documentMembers()); err != nil {
		return err
	}
	return payloadBothWays[Resolution]("resolution", slow.payload, resolutionMembers())
}

func payloadBothWays[T encoder](what string, payload []byte, required []string) error {
	quick, ok := readBack[T](payload)
	slow, err := parseClosely[T](what, payload, required)
	if ok != (err == nil) || ok && !reflect.DeepEqual(quick, slow) {
		return fmt.Errorf("%s: quickly %t %+v, closely %+v, %w", what, ok, quick, slow, err)
	}
	return nil
}

// CanonicalBothWays gives the form of a document, whether or not it passes its
// checks: as it is written for comparing, and as it is signed.
func CanonicalBothWays(d Document) (quick, slow []byte, err error) {
	if quick, err = d.canonical(); err != nil {
		return nil, nil, err
	}
	data, err := json.Marshal(d)
	if err != nil {
		return nil, nil, err
	}
	slow, err = canonicalize(data)
	return quick, slow, err
}
