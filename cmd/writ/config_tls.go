package main

import (
	"crypto/tls"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificateEvery is how often a handshake looks whether the certificate was
// renewed.
const certificateEvery = 10 * time.Second

// load gives the TLS configuration, nil for plain HTTP, and the URL's scheme.
// The files are read again when they change, so that a certificate can be
// renewed while the service runs.
func (t tlsFiles) load(log *slog.Logger) (*tls.Config, string, error) {
	if t.CertFile == "" {
		return nil, "http", nil
	}
	k := &keptCertificate{files: t, log: log}
	if err := k.read(); err != nil {
		return nil, "", err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: k.get}, "https", nil
}

// A keptCertificate is the certificate that the service shows.
type keptCertificate struct {
	files tlsFiles
	log   *slog.Logger

	mu        sync.Mutex // guards what follows
	now       *tls.Certificate
	cert, key fs.FileInfo // the files as they were when they were read last
	looked    time.Time
}

// read reads both files. After an error the certificate is as it was. That the
// two belong together is checked, so that the moment between the replacement
// of one and of the other does no harm.
func (k *keptCertificate) read() error {
	// Looked at before they are read: what is replaced meanwhile is read again.
	k.cert, k.key, k.looked = statFile(k.files.CertFile), statFile(k.files.KeyFile), time.Now()
	cert, err := tls.LoadX509KeyPair(k.files.CertFile, k.files.KeyFile)
	if err != nil {
		return fmt.Errorf("tls: %w", err)
	}
	k.now = &cert
	return nil
}

func (k *keptCertificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.looked) < certificateEvery {
		return k.now, nil
	}
	k.looked = time.Now()
	if sameFile(k.cert, statFile(k.files.CertFile)) && sameFile(k.key, statFile(k.files.KeyFile)) {
		return k.now, nil
	}
	if err := k.read(); err != nil {
		k.log.Error("the certificate could not be read again; the one before stays", "path", k.files.CertFile, "err", err)
	} else {
		k.log.Info("certificate read again", "path", k.files.CertFile)
	}
	return k.now, nil
}

// statFile gives nil for a file that is not there or can't be looked at.
func statFile(path string) fs.FileInfo {
	if path == "" {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil
	}
	return info
}

// sameFile tells whether nothing has happened to a file between two looks.
func sameFile(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
