package audit_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"writ/projections/audit"
)

// TestTheDocumentationNamesEveryKind keeps docs/audit.md true.
func TestTheDocumentationNamesEveryKind(t *testing.T) {
	page, err := os.ReadFile("../../docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range audit.Kinds() {
		if !strings.Contains(string(page), fmt.Sprintf("\n| `%s` | ", k)) {
			t.Errorf("docs/audit.md has no row for %s (%s)", k, k.Meaning())
		}
	}
	if got, want := strings.Count(string(page), "\n| `"), len(audit.Kinds()); got != want {
		t.Errorf("docs/audit.md has %d rows of kinds, want %d", got, want)
	}
}
