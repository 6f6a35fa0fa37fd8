package esdb_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"writ/adapters/esdb"
)

func TestConnectionString(t *testing.T) {
	noCA := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(noCA, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		in          string
		where, user string
		refused     string // part of the error; empty: accepted
	}{
		"one node":                     {in: "esdb://node?tls=false", where: "node:2113"},
		"one node and a port":          {in: "esdb://node:1113?tls=false", where: "node:1113"},
		"with credentials":             {in: "esdb://ann:s3cret@node", where: "node:2113", user: "ann"},
		"escapes in the password":      {in: "esdb://ann:s3cret%2F%40@node", where: "node:2113", user: "ann"},
		"an at sign in the password":   {in: "esdb://ann:s3cret@x@node", where: "node:2113", user: "ann"},
		"seeds":                        {in: "esdb://ann:s3cret@a:1,b:2,c", where: "a:1,b:2,c:2113", user: "ann"},
		"seeds without ports":          {in: "esdb://a,b", where: "a:2113,b:2113"},
		"discovery":                    {in: "esdb+discover://cluster", where: "cluster:2113"},
		"what is not asked for here":   {in: "esdb://node?tls=false&maxDiscoverAttempts=3&discoveryInterval=10", where: "node:2113"},
		"the leader preferred":         {in: "esdb://node?tls=false&nodePreference=Leader", where: "node:2113"},
		"empty":                        {in: "", refused: "begins with"},
		"another scheme":               {in: "https://ann:s3cret@node", refused: "begins with"},
		"kurrent's own scheme":         {in: "kurrentdb://ann:s3cret@node", refused: "begins with"},
		"no host":                      {in: "esdb://", refused: "host"},
		"no user":                      {in: "esdb://:s3cret@node", refused: "user before the @"},
		"a slash in the password":      {in: "esdb://ann:s3cret/x@node", refused: "%2F"},
		"a question mark in it":        {in: "esdb://ann:s3cret?x@node", refused: "%3F"},
		"a percent sign in it":         {in: "esdb://ann:s3cret%zz@node", refused: "%25"},
		"credentials without TLS":      {in: "esdb://ann:s3cret@node?tls=false", refused: "without TLS"},
		"an unknown setting":           {in: "esdb://node?tlsCaFiles=x", refused: "tlsCaFiles"},
		"a setting twice":              {in: "esdb://node?tls=true&tls=false", refused: "2 times"},
		"certificates not checked":     {in: "esdb://node?tlsVerifyCert=false", refused: "tlsCAFile"},
		"a follower preferred":         {in: "esdb://node?nodePreference=follower", refused: "leader"},
		"no keepalive":                 {in: "esdb://node?keepAliveInterval=-1", refused: "keepAlive"},
		"a deadline of nothing":        {in: "esdb://node?defaultDeadline=0", refused: "defaultDeadline"},
		"a deadline that is no number": {in: "esdb://node?defaultDeadline=soon", refused: "defaultDeadline"},
		"a missing CA file":            {in: "esdb://node?tlsCAFile=/does/not/exist", refused: "/does/not/exist"},
		"a CA file without any":        {in: "esdb://node?tlsCAFile=" + noCA, refused: "certificate"},
		"a key without a certificate":  {in: "esdb://node?userKeyFile=x", refused: "userCertFile"},
		"a path":                       {in: "esdb://node/path", refused: "path"},
		"a port that is none":          {in: "esdb://ann:s3cret@node:http", refused: "port"},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			where, user, err := esdb.Parsed(esdb.Options{Connection: esdb.Secret(c.in)})
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the error repeats the password: %v", err)
			}
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Fatalf("got error %v, want one about %q", err, c.refused)
				}
				return
			}
			if err != nil || where != c.where || user != c.user {
				t.Errorf("got %q as %q, %v, want %q as %q", where, user, err, c.where, c.user)
			}
		})
	}
}

func TestCredentialsOfTheirOwnCountMore(t *testing.T) {
	_, user, err := esdb.Parsed(esdb.Options{Connection: "esdb://ann:old@node", Username: "bob", Password: "new"})
	if err != nil || user != "bob" {
		t.Errorf("got user %q, %v, want bob", user, err)
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	o := esdb.Options{Connection: "esdb://ann:s3cret@node", Username: "ann", Password: "s3cret"}
	encoded, err := json.Marshal(o.Password)
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []string{
		fmt.Sprintf("%v", o), fmt.Sprintf("%+v", o), fmt.Sprintf("%#v", o), fmt.Sprintf("%q %x", o.Password, o.Connection), string(encoded),
	} {
		if strings.Contains(got, "s3cret") || strings.Contains(got, "733363") || !strings.Contains(got, "[redacted]") {
			t.Errorf("got %s, want [redacted] for each secret", got)
		}
	}
}

func FuzzConnectionString(f *testing.F) {
	for _, s := range []string{
		"esdb://ann:hunter2@node:2113?tls=true", "esdb+discover://a", "esdb://a,b,c?x=y", "esdb://ann:hunter2/@a@b", "esdb://[::1]:2113",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.Contains(strings.ToLower(s), "file") {
			t.Skip("names a file to be read")
		}
		where, user, err := esdb.Parsed(esdb.Options{Connection: esdb.Secret(s)})
		if err == nil && where == "" {
			t.Errorf("%q was accepted and leads nowhere, as %q", s, user)
		}
		if err != nil && strings.Contains(s, ":hunter2") && strings.Contains(err.Error(), "hunter2") {
			// Behind the @ it is a host or a setting, which may be named.
			if at := strings.LastIndex(s, "@"); at > strings.LastIndex(s, "hunter2") {
				t.Errorf("the error repeats the password: %v", err)
			}
		}
	})
}
