package signedop

// CheckSignature is the one place where a signature is believed, for test
// vectors whose messages are no DSSE encodings.
func CheckSignature(k Key, message, sig []byte) error {
	_, err := k.verify(kindOp, message, sig)
	return err
}
