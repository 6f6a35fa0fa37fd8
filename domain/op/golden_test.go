package op_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

// Rewriting a file under testdata/events or testdata/chain.json is right only
// as long as no released version has written such an event: what is stored
// once is read for ever. A new version of an event gets a file of its own.
var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares with testdata/<name>, byte for byte.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", filepath.FromSlash(name))
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}
