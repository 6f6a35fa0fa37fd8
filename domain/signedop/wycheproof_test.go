package signedop_test

import (
	"crypto/ed25519"
	"encoding/hex"
	"testing"

	"github.com/go-json-experiment/json"
	"golang.org/x/crypto/ssh"

	"writ/domain/signedop"
)

type wycheproof struct {
	NumberOfTests int `json:"numberOfTests"`
	TestGroups    []struct {
		PublicKey struct {
			PK string `json:"pk"`
		} `json:"publicKey"`
		Tests []struct {
			TCID    int    `json:"tcId"`
			Comment string `json:"comment"`
			Msg     string `json:"msg"`
			Sig     string `json:"sig"`
			Result  string `json:"result"`
		} `json:"tests"`
	} `json:"testGroups"`
}

func TestWycheproofEd25519(t *testing.T) {
	var file wycheproof
	if err := json.Unmarshal(readFile(t, "testdata/wycheproof/ed25519_test.json"), &file); err != nil {
		t.Fatal(err)
	}
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	run, good := 0, 0
	for _, g := range file.TestGroups {
		pub, err := ssh.NewPublicKey(ed25519.PublicKey(unhex(g.PublicKey.PK)))
		if err != nil {
			t.Fatal(err)
		}
		key := signedop.Key{Fingerprint: ssh.FingerprintSHA256(pub), Format: signedop.Raw, Public: pub}
		for _, c := range g.Tests {
			run++
			err := signedop.CheckSignature(key, unhex(c.Msg), unhex(c.Sig))
			switch {
			case c.Result != "valid" && c.Result != "invalid":
				t.Errorf("case %d: result %q is not known to this test", c.TCID, c.Result)
			case (err == nil) != (c.Result == "valid"):
				t.Errorf("case %d (%s): got %v, want %s", c.TCID, c.Comment, err, c.Result)
			case err == nil:
				good++
			}
		}
	}
	if run != file.NumberOfTests || good == 0 || good == run {
		t.Errorf("ran %d of %d cases, %d of them valid", run, file.NumberOfTests, good)
	}
}
