package planted_test

import (
	"testing"
	"time"

	"writ/cmd/writ/planted"
)

func TestTable(t *testing.T) {
	got := planted.Table([]planted.Catch{
		{Plant: planted.Plant{Name: "a-b", Title: "A is b.", Cost: "All | nothing."}, Test: "domain/op.TestA", Took: 1600 * time.Millisecond},
		{Plant: planted.Plant{Name: "c", Title: "C.", Cost: "D."}, Test: "domain/op.TestC", Hung: true, Took: time.Minute},
	})
	const want = "2 deliberate mistakes, each planted alone, and the test that failed first. Seconds are those until then, with the time to compile.\n" +
		"To plant them all: `go test ./cmd/writ/planted -plant -v -timeout 30m`; they are in `cmd/writ/planted/testdata`.\n\n" +
		"| mistake | what it would cost | caught by | s |\n| --- | --- | --- | ---: |\n" +
		"| **a-b** A is b. | All \\| nothing. | `domain/op.TestA` | 2 |\n" +
		"| **c** C. | D. | `domain/op.TestC`, which does not end | 60 |\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestInPage(t *testing.T) {
	const begin, end = "<!-- planted:begin -->", "<!-- planted:end -->"
	for name, tt := range map[string]struct{ page, want string }{
		"no page yet":         {"", "# Robustness\n\n" + begin + "\nT\n" + end + "\n"},
		"a page without it":   {"# R\n\nText.\n\n\n", "# R\n\nText.\n\n" + begin + "\nT\n" + end + "\n"},
		"a page with another": {"a\n" + begin + "\nold\n" + end + "\nb\n", "a\n" + begin + "\nT\n" + end + "\nb\n"},
		"its beginning alone": {"a\n" + begin + "\n", ""},
		"its end alone":       {"a\n" + end + "\n", ""},
		"the wrong way round": {end + "\n" + begin + "\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := planted.InPage(tt.page, "T\n")
			if got != tt.want || (err != nil) != (tt.want == "") {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}
