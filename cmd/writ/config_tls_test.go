package main

import (
	"bytes"
	"log/slog"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// A certificate is renewed by replacing its files, one after the other.
func TestACertificateIsRenewedWhileTheServiceRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files, next := selfSigned(t), selfSigned(t)
		conf, scheme, err := files.load(slog.New(slog.DiscardHandler))
		if err != nil || scheme != "https" {
			t.Fatalf("load: %s, %v", scheme, err)
		}
		shown := func() []byte {
			c, err := conf.GetCertificate(nil)
			if err != nil {
				t.Fatal(err)
			}
			return c.Certificate[0]
		}
		put := func(from, to string) {
			text, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			if err := replace(to, text); err != nil {
				t.Fatal(err)
			}
		}
		first := shown()
		<-time.After(time.Minute)
		if !bytes.Equal(shown(), first) {
			t.Error("another certificate is shown though nothing was changed")
		}
		put(next.CertFile, files.CertFile)
		<-time.After(time.Minute)
		if !bytes.Equal(shown(), first) {
			t.Error("a certificate is shown whose key is not there yet")
		}
		put(next.KeyFile, files.KeyFile)
		if !bytes.Equal(shown(), first) {
			t.Error("the files are looked at for every handshake")
		}
		<-time.After(time.Minute)
		if bytes.Equal(shown(), first) {
			t.Error("the certificate before is shown though both files are new")
		}
		if err := os.Remove(files.CertFile); err != nil {
			t.Fatal(err)
		}
		renewed := shown()
		<-time.After(time.Minute)
		if !bytes.Equal(shown(), renewed) {
			t.Error("without its file the certificate is not kept")
		}
	})
	if _, _, err := (tlsFiles{CertFile: "none", KeyFile: "none"}).load(slog.New(slog.DiscardHandler)); err == nil {
		t.Error("files that are not there were loaded")
	}
}
