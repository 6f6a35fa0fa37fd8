package esdb

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// settings are the connection settings that mean something here, in lower
// case. The parser only logs those that it does not know, and a misspelt
// tlsCAFile must not go by unnoticed.
var settings = map[string]bool{
	"tls": true, "tlscafile": true, "tlsverifycert": true, "usercertfile": true, "userkeyfile": true,
	"nodepreference": true, "gossiptimeout": true, "discoveryinterval": true, "maxdiscoverattempts": true,
	"keepaliveinterval": true, "keepalivetimeout": true, "defaultdeadline": true,
}

// A target is where the database is and how to talk to it.
type target struct {
	node      string   // host:port of the only node; empty if there is a cluster
	seeds     []string // host:port of those to ask for the leader
	discover  bool     // seeds holds one name, which stands for several nodes
	transport credentials.TransportCredentials
	login     *login // nil without credentials

	callTimeout, gossipTimeout          time.Duration
	keepAliveInterval, keepAliveTimeout time.Duration
}

// A login is sent with every call, over TLS only.
type login struct {
	user     string
	password Secret
}

// parse understands options. Its errors hold nothing of the credentials.
func parse(o Options) (*target, error) {
	bare, user, password, err := cutCredentials(string(o.Connection))
	if err != nil {
		return nil, fmt.Errorf("eventstoredb connection: %w", err)
	}
	if o.Username != "" {
		user, password = o.Username, o.Password
	}
	t, err := parseBare(bare)
	if err != nil {
		return nil, fmt.Errorf("eventstoredb connection: %w", err)
	}
	if user != "" && !t.secure() {
		// The official clients leave the credentials out in silence; whoever
		// gave them expects to be somebody.
		return nil, errors.New("eventstoredb connection: credentials are never sent without TLS: remove tls=false, or the user and password")
	}
	if user != "" {
		t.login = &login{user: user, password: password}
	}
	if o.CallTimeout > 0 {
		t.callTimeout = o.CallTimeout
	}
	return t, nil
}

func (t *target) secure() bool { return t.transport.Info().SecurityProtocol == "tls" }

// String gives the target without its credentials.
func (t *target) String() string {
	if t.node != "" {
		return t.node
	}
	return strings.Join(t.seeds, ",")
}

// cutCredentials takes user and password out of a connection string before
// anything is parsed whose error messages could repeat them.
func cutCredentials(s string) (bare, user string, password Secret, err error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || scheme != "esdb" && scheme != "esdb+discover" {
		return "", "", "", errors.New("it begins with neither esdb:// nor esdb+discover://")
	}
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	at := strings.LastIndexByte(authority, '@')
	if strings.Contains(tail, "@") {
		return "", "", "", errors.New("there is an @ behind the host: write / ? # @ in a password as %2F %3F %23 %40, and @ in a setting as %40")
	}
	if at < 0 {
		return s, "", "", nil
	}
	name, secret, _ := strings.Cut(authority[:at], ":")
	user, errUser := url.PathUnescape(name)
	pass, errPass := url.PathUnescape(secret)
	if errUser != nil || errPass != nil {
		return "", "", "", errors.New("user or password have a % that is no escape: write % as %25")
	}
	if user == "" {
		return "", "", "", errors.New("the user before the @ is empty")
	}
	return scheme + "://" + authority[at+1:] + tail, user, Secret(pass), nil
}

// parseBare understands a connection string without credentials.
func parseBare(s string) (*target, error) {
	_, query, _ := strings.Cut(s, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, fmt.Errorf("settings: %s", err)
	}
	for key, given := range values {
		if !settings[strings.ToLower(key)] {
			return nil, fmt.Errorf("setting %s is not known here", key)
		}
		if len(given) != 1 {
			return nil, fmt.Errorf("setting %s is given %d times", key, len(given))
		}
	}
	c, err := esdb.ParseConnectionString(s)
	if err != nil {
		return nil, fmt.Errorf("%s", err)
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("%s", err)
	}
	t := &target{
		callTimeout: defaultCallTimeout, gossipTimeout: time.Duration(c.GossipTimeout) * time.Second,
		keepAliveInterval: c.KeepAliveInterval, keepAliveTimeout: c.KeepAliveTimeout,
	}
	if c.DefaultDeadline != nil {
		t.callTimeout = *c.DefaultDeadline
	}
	if err := checkSafe(c, t); err != nil {
		return nil, err
	}
	if err := t.nodes(c); err != nil {
		return nil, err
	}
	t.transport, err = transport(c)
	return t, err
}

// checkSafe refuses what the parser takes and a ledger can't live with.
func checkSafe(c *esdb.Configuration, t *target) error {
	switch {
	case c.NodePreference != esdb.NodePreferenceLeader:
		return fmt.Errorf("nodePreference %s: a read must see every acknowledged append, and only the leader does: leave it out", c.NodePreference)
	case c.SkipCertificateVerification:
		return errors.New("tlsVerifyCert=false would hand the ledger to whoever answers: name the authority in tlsCAFile instead")
	case c.KeepAliveInterval < 10*time.Second || c.KeepAliveTimeout <= 0:
		return errors.New("keepAliveInterval must be 10000 or more and keepAliveTimeout above 0 (milliseconds): without them a dead connection stays unnoticed")
	case t.callTimeout <= 0:
		// The parser drops the error of a value that it can't read.
		return errors.New("defaultDeadline must be a number of milliseconds above 0")
	case t.gossipTimeout <= 0:
		return errors.New("gossipTimeout must be a number of seconds above 0")
	}
	return nil
}

func (t *target) nodes(c *esdb.Configuration) error {
	switch {
	case len(c.GossipSeeds) > 0:
		for _, s := range c.GossipSeeds {
			t.seeds = append(t.seeds, net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port))))
		}
	case c.DnsDiscover:
		t.seeds, t.discover = []string{c.Address}, true
	default:
		t.node = c.Address
	}
	for _, a := range append([]string{t.node}, t.seeds...) {
		if a == "" && t.node == "" {
			continue
		}
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "0" {
			return fmt.Errorf("%q is no address of the form host:port", a)
		}
	}
	return nil
}

func transport(c *esdb.Configuration) (credentials.TransportCredentials, error) {
	if c.DisableTLS {
		return insecure.NewCredentials(), nil
	}
	conf := &tls.Config{RootCAs: c.RootCAs, MinVersion: tls.VersionTLS12}
	if c.UserCertFile != "" {
		cert, err := tls.LoadX509KeyPair(c.UserCertFile, c.UserKeyFile)
		if err != nil {
			return nil, fmt.Errorf("userCertFile, userKeyFile: %s", err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	return credentials.NewTLS(conf), nil
}
