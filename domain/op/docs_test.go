package op_test

import (
	"os"
	"regexp"
	"testing"

	"writ/domain/op"
)

// The examples of docs/events.md are events that this program can read, one of
// each type.
func TestDocumentedEventsDecode(t *testing.T) {
	page, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?s)```json (\\w+)\n(.*?)\n```").FindAllSubmatch(page, -1) {
		typ := string(m[1])
		e, err := op.Decode(typ, m[2])
		if err != nil {
			t.Errorf("the example of %s: %v", typ, err)
			continue
		}
		if again, err := op.Encode(e); err != nil || string(again) != string(m[2]) {
			t.Errorf("the example of %s is stored as\n%s (error %v)", typ, again, err)
		}
		seen[typ] = true
	}
	for _, typ := range []string{
		op.TypeStarted, op.TypeLaunching, op.TypeTaskRunning, op.TypeSucceeded, op.TypeFailed, op.TypeVoided,
	} {
		if !seen[typ] {
			t.Errorf("docs/events.md has no example of %s", typ)
		}
	}
}
