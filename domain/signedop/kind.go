package signedop

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// A kind is one type of document that is signed. What bytes are read as is
// the reader's choice, never the message's, and two walls stand between the
// kinds: the payload type, which every signature covers, and for keys of
// format SSH a namespace of its own.
type kind uint8

const (
	kindOp kind = iota + 1
	kindResolution
)

func kinds() []kind { return []kind{kindOp, kindResolution} }

// payloadType is the DSSE payload type.
func (k kind) payloadType() string {
	switch k {
	case kindOp:
		return PayloadType
	case kindResolution:
		return ResolutionPayloadType
	}
	panic("signedop: internal error: envelope of no kind")
}

// namespace is that of SSHSIG.
func (k kind) namespace() string {
	switch k {
	case kindOp:
		return SSHNamespace
	case kindResolution:
		return ResolutionSSHNamespace
	}
	panic("signedop: internal error: envelope of no kind")
}

// payloadTypes lists those of several kinds, for an error.
func payloadTypes(ks []kind) string {
	types := make([]string, len(ks))
	for i, k := range ks {
		types[i] = k.payloadType()
	}
	return strings.Join(types, " or ")
}

// kindOfPAE tells what is about to be signed, so that a signer of format SSH
// takes the namespace that belongs to it, and signs nothing that is neither.
func kindOfPAE(pae []byte) (kind, error) {
	for _, k := range kinds() {
		typ := k.payloadType()
		if bytes.HasPrefix(pae, fmt.Appendf(nil, "DSSEv1 %d %s ", len(typ), typ)) {
			return k, nil
		}
	}
	return 0, errors.New("not the DSSE encoding of a writ or a resolution: nothing else is signed")
}
