package main

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"time"

	"writ/adapters/proxmox"
)

// openHost makes the host of the configuration, with its secret read. It sends
// nothing. A nil logger discards.
func (c *config) openHost(log *slog.Logger) (*proxmox.Host, error) {
	p := c.Host.Proxmox
	if err := checkCAFile(p.CAFile); err != nil {
		return nil, fmt.Errorf("host.proxmox.ca_file: %w", err)
	}
	tokenSecret, err := secretFrom("host.proxmox.token_secret_file", p.TokenSecretFile, p.Secret)
	if err != nil {
		return nil, err
	}
	password, err := secretFrom("host.proxmox.password_file", p.PasswordFile, p.Password)
	if err != nil {
		return nil, err
	}
	wipePassword, err := secretFrom("host.proxmox.wipe_password_file", p.WipePasswordFile, p.WipePassword)
	if err != nil {
		return nil, err
	}
	return proxmox.New(proxmox.Config{
		BaseURL: p.URL, Nodes: p.Nodes, TokenID: p.TokenID, Secret: tokenSecret,
		ServiceUser: p.User, ServicePassword: password, AttemptRole: p.AttemptRole, AttemptLease: time.Duration(p.AttemptLease),
		WipePassword: wipePassword,
		CAFile:       p.CAFile, Fingerprints: p.Fingerprints,
		PollTimeout: time.Duration(p.Timeouts.Poll), LaunchTimeout: time.Duration(p.Timeouts.Launch),
	}, log)
}

// checkCAFile looks whether the file, if there is one, holds certificates.
func checkCAFile(path string) error {
	if path == "" {
		return nil
	}
	pem, err := readBounded(path, maxYAMLBytes)
	if err != nil {
		return err
	}
	if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s holds no certificate in PEM form", path)
	}
	return nil
}

// secretFrom reads the file that a key names, if it names one.
func secretFrom(key, path string, given secret) (proxmox.Secret, error) {
	if path == "" {
		return proxmox.Secret(given), nil
	}
	sec, err := readSecretFile(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	return proxmox.Secret(sec), nil
}
