package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

// This version does not yet look at the host for signs that its ledger is an
// old copy, which knows fewer spent nonces than the truth. Until it does, it
// must not be let near guests that somebody would miss: serve acts on the
// simulator alone.

const simCheckTime = 10 * time.Second

// requireSimulator refuses a host that is not writ pvesim. It asks each node
// for what only the simulator has, outside the API of Proxmox VE.
func requireSimulator(ctx context.Context, c *proxmoxConfig) error {
	ctx, cancel := context.WithTimeout(ctx, simCheckTime)
	defer cancel()
	client, err := simClient(c)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	bases := append([]string{c.URL}, slices.Sorted(maps.Values(c.Nodes))...)
	for _, base := range bases {
		if err := askSimulator(ctx, client, base); err != nil {
			return fmt.Errorf("host %s is not known to be the simulator (%w): this version does not yet tell by the host whether its ledger is an old copy, "+
				"so it acts on writ pvesim alone and on no real cluster", base, err)
		}
	}
	return nil
}

// askSimulator asks for the list of injected faults: JSON, below /sim/.
func askSimulator(ctx context.Context, client *http.Client, base string) error {
	base = strings.TrimSuffix(strings.TrimSuffix(base, "/"), "/api2/json")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/sim/faults", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/json" || !bytes.HasPrefix(body, []byte("[")) {
		return fmt.Errorf("GET /sim/faults answers %s", resp.Status)
	}
	return nil
}

// simClient trusts what the configuration says to trust.
func simClient(c *proxmoxConfig) (*http.Client, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("host.proxmox.ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("host.proxmox.ca_file: %s holds no certificate in PEM form", c.CAFile)
		}
	}
	if len(c.Fingerprints) > 0 {
		// Checked in the same handshake, before anything is sent.
		conf.InsecureSkipVerify, conf.VerifyConnection = true, pinnedTo(c.Fingerprints)
	}
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

func pinnedTo(fingerprints []string) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return errors.New("the server showed no certificate")
		}
		sum := sha256.Sum256(cs.PeerCertificates[0].Raw)
		for _, f := range fingerprints {
			pin, err := hex.DecodeString(strings.ReplaceAll(f, ":", ""))
			if err == nil && subtle.ConstantTimeCompare(pin, sum[:]) == 1 {
				return nil
			}
		}
		return errors.New("the server's certificate is not a pinned one")
	}
}
