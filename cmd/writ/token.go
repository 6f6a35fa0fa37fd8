package main

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"writ/adapters/httpapi"
	"writ/domain/op"
	"writ/domain/signedop"
)

// tokenPrefix makes a token known to people, and to programs that look for
// secrets where none should be.
const tokenPrefix = "writ_"

const tokenLong = `Makes and revokes the tokens by which callers of a service's interface are told
apart. The file that the configuration names under tokens_file holds what is known of
each: its SHA-256, its scopes, when it was made. The service reads the file again
within a second; a token that was revoked lets nobody in from then on, and ends what its
holder still follows within fifteen seconds.

No token authorizes a destructive op: that takes signatures. The scopes are

  submit    deliver writs
  read      ask how ops stand, follow the ledger, read figures
  resolve   hand in signed resolutions
  void      take writs back: the caller's word is enough
  backup    take copies and exports of the ledger, which hold writs that can still be
            submitted`

func newTokenCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "token", Short: "Make and revoke the tokens of callers", Long: tokenLong, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTokenCreateCmd(a), newTokenLsCmd(a), newTokenRevokeCmd(a))
	return cmd
}

type tokenFlags struct {
	config, out string
	scopes      []string
	expires     time.Duration
}

func (f *tokenFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.config, "config", configDefault(), "configuration file; $"+configVariable+" names another default")
}

// A tokenView is a token as it is shown. Token is given once, when it is made.
type tokenView struct {
	Name    string          `json:"name"`
	Scopes  []httpapi.Scope `json:"scopes"`
	SHA256  string          `json:"sha256"`
	Created time.Time       `json:"created"`
	Expires *time.Time      `json:"expires,omitempty"`
	Expired bool            `json:"expired,omitempty"`
	Token   string          `json:"token,omitempty"`
	File    string          `json:"token_file,omitempty"` // it stands there
}

func viewToken(t tokenEntry, now time.Time) tokenView {
	v := tokenView{Name: t.Name, Scopes: t.Scopes, SHA256: t.SHA256.String(), Created: t.Created.UTC()}
	if !t.Expires.IsZero() {
		at := t.Expires.UTC()
		v.Expires, v.Expired = &at, !now.Before(at)
	}
	return v
}

func newTokenCreateCmd(a *app) *cobra.Command {
	var f tokenFlags
	cmd := &cobra.Command{
		Use:   "create NAME --scope SCOPE,...",
		Short: "Make a token, and show it once",
		Long: `Makes a token of 256 random bits for a caller, whose name goes on record with what it
submits. The token is printed once, or written to a file with --out; what is kept is
its SHA-256.`,
		Example: `  writ token create controller --scope submit,read --out controller.token
  writ token create prometheus --scope read --expires 8760h`,
		Args: oneArg("the caller's name"),
		RunE: func(_ *cobra.Command, args []string) error { return a.createToken(f, args[0]) },
	}
	f.register(cmd)
	fl := cmd.Flags()
	fl.StringSliceVar(&f.scopes, "scope", nil, "what the caller may do: submit, read, resolve, void, backup (required)")
	fl.DurationVar(&f.expires, "expires", 0, "for how long it is good; 0: until it is revoked")
	fl.StringVarP(&f.out, "out", "o", "", "write the token to this new file, readable by you alone, in place of showing it")
	return cmd
}

func (a *app) createToken(f tokenFlags, name string) error {
	if err := signedop.CheckName(name); err != nil {
		return usagef("%v", err)
	}
	if len(f.scopes) == 0 {
		return usagef("--scope is required: what the caller may do, some of submit, read, resolve, void, backup")
	}
	if f.expires < 0 {
		return usagef("--expires: %s is in the past", f.expires)
	}
	c, err := loadTokensConfig(f.config)
	if err != nil {
		return err
	}
	if f.out != "" {
		if err := mustNotExist(f.out); err != nil {
			return err
		}
	}
	secret := newToken()
	entry := tokenEntry{Name: name, SHA256: op.DigestOf([]byte(secret)), Created: a.now().UTC().Truncate(time.Second)}
	for _, s := range f.scopes {
		entry.Scopes = append(entry.Scopes, httpapi.Scope(s))
	}
	if f.expires > 0 {
		entry.Expires = entry.Created.Add(f.expires)
	}
	if err := (httpapi.Token{Name: entry.Name, SHA256: entry.SHA256, Scopes: entry.Scopes}).Check(); err != nil {
		return usagef("--scope: %v", err)
	}
	err = c.changeTokens(func(file *tokensFile) error {
		if slices.ContainsFunc(file.Tokens, func(t tokenEntry) bool { return t.Name == name }) {
			return fmt.Errorf("there is a token of %s: revoke it first, or choose another name", name)
		}
		file.Tokens = append(file.Tokens, entry)
		if f.out == "" {
			return nil
		}
		// Before it is known to the service: what can't be kept must not be good.
		return writeNew(f.out, []byte(secret+"\n"), 0o600)
	})
	if err != nil {
		return err
	}
	v := viewToken(entry, a.now())
	if v.File = f.out; f.out == "" {
		v.Token = secret
	}
	return a.show(v, func(w io.Writer) { createdText(w, v) })
}

// newToken draws 256 bits from the operating system's generator, which ends
// the program rather than give bad ones.
func newToken() string {
	var bits [32]byte
	_, _ = rand.Read(bits[:])
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(bits[:])
}

func createdText(w io.Writer, v tokenView) {
	fmt.Fprintf(w, "token of %s (%s), good %s\n", v.Name, scopesText(v.Scopes), untilText(v))
	if v.Token == "" {
		fmt.Fprintf(w, "It stands in %s and nowhere else.\n", v.File)
		return
	}
	fmt.Fprintf(w, "\n%s\n\nIt is shown this once; only its SHA-256 is kept.\n", v.Token)
}

func scopesText(scopes []httpapi.Scope) string {
	names := make([]string, len(scopes))
	for i, s := range scopes {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}

func untilText(v tokenView) string {
	switch {
	case v.Expires == nil:
		return "until it is revoked"
	case v.Expired:
		return "no more: it expired at " + v.Expires.Format(time.RFC3339)
	}
	return "until " + v.Expires.Format(time.RFC3339)
}

func newTokenLsCmd(a *app) *cobra.Command {
	var f tokenFlags
	cmd := &cobra.Command{
		Use: "ls", Short: "List the tokens", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := loadTokensConfig(f.config)
			if err != nil {
				return err
			}
			file, err := readTokensFile(c.TokensFile)
			if err != nil {
				return err
			}
			views := make([]tokenView, len(file.Tokens))
			for i, t := range file.Tokens {
				views[i] = viewToken(t, a.now())
			}
			return a.show(map[string]any{"tokens": views}, func(w io.Writer) { tokensText(w, views, len(c.Tokens)) })
		},
	}
	f.register(cmd)
	return cmd
}

func tokensText(w io.Writer, views []tokenView, inline int) {
	if len(views) == 0 {
		fmt.Fprintln(w, "No token lets anybody in; writ token create makes one.")
	} else {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "NAME\tSCOPES\tMADE\tGOOD")
		for _, v := range views {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", v.Name, scopesText(v.Scopes), v.Created.Format(time.RFC3339), untilText(v))
		}
		_ = t.Flush()
	}
	if inline > 0 {
		fmt.Fprintf(w, "Beside them, %d stand in the configuration itself under tokens.\n", inline)
	}
}

func newTokenRevokeCmd(a *app) *cobra.Command {
	var f tokenFlags
	cmd := &cobra.Command{
		Use: "revoke NAME", Short: "Revoke a caller's token", Args: oneArg("the caller's name"),
		Long: `Takes a caller's token away. The last one taken away closes the interface to everybody
who has no client certificate; it does not open it.`,
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := loadTokensConfig(f.config)
			if err != nil {
				return err
			}
			err = c.changeTokens(func(file *tokensFile) error {
				i := slices.IndexFunc(file.Tokens, func(t tokenEntry) bool { return t.Name == args[0] })
				if i < 0 {
					return fmt.Errorf("no token of %s is in %s; writ token ls lists them", args[0], c.TokensFile)
				}
				file.Tokens = slices.Delete(file.Tokens, i, i+1)
				return nil
			})
			if err != nil {
				return err
			}
			return a.show(map[string]string{"revoked": args[0]}, func(w io.Writer) { fmt.Fprintf(w, "revoked the token of %s\n", args[0]) })
		},
	}
	f.register(cmd)
	return cmd
}

// loadTokensConfig reads a configuration that says where tokens are kept.
func loadTokensConfig(path string) (*config, error) {
	c, err := loadConfig(path, os.Environ())
	if err != nil {
		return nil, err
	}
	if c.TokensFile == "" {
		return nil, fmt.Errorf("config %s: tokens_file: missing, so there is no place for tokens: add the line tokens_file: tokens.yaml, and start the service again", path)
	}
	return c, nil
}

// changeTokens changes the tokens file, one process at a time: of two at once,
// one could bring back what the other has revoked. After an error it is as it
// was.
func (c *config) changeTokens(change func(*tokensFile) error) error {
	unlock, err := lockFolder(filepath.Dir(c.TokensFile))
	if err != nil {
		return fmt.Errorf("change %s: %w", c.TokensFile, err)
	}
	defer unlock()
	file, err := readTokensFile(c.TokensFile)
	if err != nil {
		return err
	}
	if err := change(file); err != nil {
		return err
	}
	return file.write(c.TokensFile)
}
