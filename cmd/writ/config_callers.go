package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"go.yaml.in/yaml/v4"

	"writ/adapters/httpapi"
	"writ/domain/op"
)

// A clientsConfig says which client certificates let whom in.
type clientsConfig struct {
	// CAFile holds the certificates of the authorities that issue them, in PEM
	// form. It needs tls.
	CAFile string `yaml:"ca_file"`
	// Required turns away at the door whoever shows no certificate of these
	// authorities, with a token too.
	Required bool `yaml:"required"`
	// Certificates are those that let callers in without a token. To revoke
	// one, take it out here: revocation lists are not read.
	Certificates []clientConfig `yaml:"certificates"`
}

type clientConfig struct {
	Name    string          `yaml:"name"`
	Subject string          `yaml:"subject"` // whole, as in CN=controller,O=Lab
	Scopes  []httpapi.Scope `yaml:"scopes"`
}

// identified tells whether callers are told apart. It is so as soon as there
// is a place for tokens or certificates, though none may be in it.
func (c *config) identified() bool {
	return len(c.Tokens) > 0 || c.TokensFile != "" || c.Clients.CAFile != ""
}

func (c *config) checkCallers() *badKey {
	for i, t := range c.Tokens {
		if err := c.token(t).Check(); err != nil {
			return &badKey{fmt.Sprintf("tokens[%d]", i), err.Error(), ""}
		}
		for _, earlier := range c.Tokens[:i] {
			if earlier.Name == t.Name || earlier.SHA256 == t.SHA256 {
				return &badKey{fmt.Sprintf("tokens[%d]", i), fmt.Sprintf("name or token is that of another one, %s", earlier.Name), "give each caller its own"}
			}
		}
	}
	cl := c.Clients
	switch {
	case cl.CAFile != "" && c.TLS.CertFile == "":
		return &badKey{"clients.ca_file", "given without tls", "certificates are shown in TLS: give tls.cert_file and tls.key_file"}
	case cl.CAFile == "" && (cl.Required || len(cl.Certificates) > 0):
		return &badKey{"clients.ca_file", "missing", "the authorities that issue the certificates"}
	}
	for i := range cl.Certificates {
		if err := httpapi.CheckCallers(c.inlineTokens(), c.clients()[:i+1]); err != nil {
			return &badKey{fmt.Sprintf("clients.certificates[%d]", i), err.Error(), ""}
		}
	}
	return nil
}

func (c *config) inlineTokens() []httpapi.Token {
	var tokens []httpapi.Token
	for _, t := range c.Tokens {
		tokens = append(tokens, c.token(t))
	}
	return tokens
}

func (c *config) clients() []httpapi.Client {
	var clients []httpapi.Client
	for _, cl := range c.Clients.Certificates {
		clients = append(clients, httpapi.Client(cl))
	}
	return clients
}

// callers gives the tokens of the configuration and those of the tokens file.
func (c *config) callers() ([]httpapi.Token, error) {
	tokens := c.inlineTokens()
	if c.TokensFile != "" {
		f, err := readTokensFile(c.TokensFile)
		if err != nil {
			return nil, err
		}
		for _, t := range f.Tokens {
			tokens = append(tokens, httpapi.Token{Name: t.Name, SHA256: t.SHA256, Scopes: t.Scopes, Expires: t.Expires})
		}
	}
	if err := httpapi.CheckCallers(tokens, c.clients()); err != nil {
		return nil, fmt.Errorf("tokens_file: %s: %w", c.TokensFile, err)
	}
	return tokens, nil
}

// demand makes a server ask for client certificates. Without TLS there is
// nothing to ask in; the check of the configuration has seen to that.
func (c clientsConfig) demand(conf *tls.Config) error {
	if c.CAFile == "" || conf == nil {
		return nil
	}
	pem, err := readBounded(c.CAFile, maxYAMLBytes)
	if err != nil {
		return fmt.Errorf("clients.ca_file: %w", err)
	}
	conf.ClientCAs = x509.NewCertPool()
	if !conf.ClientCAs.AppendCertsFromPEM(pem) {
		return fmt.Errorf("clients.ca_file: %s holds no certificate in PEM form", c.CAFile)
	}
	conf.ClientAuth = tls.VerifyClientCertIfGiven
	if c.Required {
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	// A resumed session would rest on a certificate as it was checked then.
	conf.SessionTicketsDisabled = true
	return nil
}

// A tokensFile is the file that writ token keeps: whom the interface lets in.
type tokensFile struct {
	Tokens []tokenEntry `yaml:"tokens"`
}

// A tokenEntry is one token. Its SHA-256 stands there alone; the token itself is
// nowhere but with its holder.
type tokenEntry struct {
	Name    string          `yaml:"name"`
	SHA256  op.Digest       `yaml:"sha256"`
	Scopes  []httpapi.Scope `yaml:"scopes,flow"`
	Created time.Time       `yaml:"created"`
	Expires time.Time       `yaml:"expires,omitempty"` // zero: never
}

const callersFileHead = `# Whom the interface lets in. Kept by writ token create and writ token revoke; the
# service reads it again within a second. It holds no token, only the SHA-256 of each.
`

// readTokensFile reads the file; one that is not there holds no token.
func readTokensFile(path string) (*tokensFile, error) {
	var f tokensFile
	_, err := readYAML(path, &f)
	if errors.Is(err, os.ErrNotExist) {
		return &f, nil
	}
	return &f, err
}

// write puts the file in the place of the one that is there, at once.
func (f *tokensFile) write(path string) error {
	if f.Tokens == nil {
		f.Tokens = []tokenEntry{} // a key without a value is refused
	}
	text, err := yaml.Dump(f)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return replace(path, slices.Concat([]byte(callersFileHead), text))
}
