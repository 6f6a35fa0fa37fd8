package main

import (
	"fmt"
	"log/slog"
	"time"

	"writ/adapters/proxmox"
)

// openHost makes the host of the configuration, with its secret read. It sends
// nothing. A nil logger discards.
func (c *config) openHost(log *slog.Logger) (*proxmox.Host, error) {
	p := c.Host.Proxmox
	sec := []byte(p.Secret)
	if p.TokenSecretFile != "" {
		var err error
		if sec, err = readSecretFile(p.TokenSecretFile); err != nil {
			return nil, fmt.Errorf("host.proxmox.token_secret_file: %w", err)
		}
	}
	return proxmox.New(proxmox.Config{
		BaseURL: p.URL, Nodes: p.Nodes, TokenID: p.TokenID, Secret: proxmox.Secret(sec),
		CAFile: p.CAFile, Fingerprints: p.Fingerprints,
		PollTimeout: time.Duration(p.Timeouts.Poll), LaunchTimeout: time.Duration(p.Timeouts.Launch),
	}, log)
}
