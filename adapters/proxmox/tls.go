package proxmox

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
)

// tlsConfig is how a node is known: by pinned certificates, by the given
// authorities, or by those of the system.
func tlsConfig(c Config) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if len(c.Fingerprints) > 0 {
		return pinned(conf, c.Fingerprints)
	}
	pem, field := c.CAPEM, "CAPEM"
	if c.CAFile != "" {
		field = "CAFile"
		var err error
		if pem, err = os.ReadFile(c.CAFile); err != nil {
			return nil, fieldError("CAFile", "%w", err)
		}
	}
	if len(pem) > 0 || c.CAFile != "" {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fieldError(field, "holds no certificate in PEM form")
		}
	}
	return conf, nil
}

// pinned trusts exactly the certificates with the given fingerprints. The only
// place where the standard verification is off is this one, which puts another
// in its stead in the same statement.
func pinned(conf *tls.Config, fingerprints []string) (*tls.Config, error) {
	pins := make([][sha256.Size]byte, len(fingerprints))
	for i, s := range fingerprints {
		var err error
		if pins[i], err = parseFingerprint(s); err != nil {
			return nil, fieldError("Fingerprints", "%w", err)
		}
	}
	// VerifyConnection runs in every handshake, resumed ones too, and before
	// the client sends anything of its own over the connection.
	conf.InsecureSkipVerify, conf.VerifyConnection = true, func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return errors.New("the server showed no certificate")
		}
		sum := sha256.Sum256(cs.PeerCertificates[0].Raw)
		for _, pin := range pins {
			if subtle.ConstantTimeCompare(sum[:], pin[:]) == 1 {
				return nil
			}
		}
		return fmt.Errorf("the server's certificate has the fingerprint %s, which is not a pinned one", formatFingerprint(sum))
	}
	return conf, nil
}

func parseFingerprint(s string) (sum [sha256.Size]byte, err error) {
	raw, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil || len(raw) != len(sum) || len(s) != 3*len(sum)-1 {
		return sum, fmt.Errorf("%q is not a SHA-256 fingerprint, 32 pairs of hex digits with colons between them", clip(s))
	}
	return [sha256.Size]byte(raw), nil
}

func formatFingerprint(sum [sha256.Size]byte) string {
	pairs := make([]string, len(sum))
	for i, b := range sum {
		pairs[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(pairs, ":")
}
