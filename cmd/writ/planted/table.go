package planted

import (
	"fmt"
	"strings"
	"time"
)

// A Catch tells which test noticed a mistake.
type Catch struct {
	Plant Plant
	Test  string
	Hung  bool // it did not end, which is how it noticed
	Took  time.Duration
}

// The table stands between these two lines of the page.
const (
	tableBegin = "<!-- planted:begin -->"
	tableEnd   = "<!-- planted:end -->"
)

// Table gives the catches as a table of Markdown, with a word on how to read it.
func Table(catches []Catch) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d deliberate mistakes, each planted alone, and the test that failed first. Seconds are those until then, with the time to compile.\n"+
		"To plant them all: `go test ./cmd/writ/planted -plant -v -timeout 30m`; they are in `cmd/writ/planted/testdata`.\n\n", len(catches))
	b.WriteString("| mistake | what it would cost | caught by | s |\n| --- | --- | --- | ---: |\n")
	cell := func(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
	for _, c := range catches {
		by := "`" + cell(c.Test) + "`"
		if c.Hung {
			by += ", which does not end"
		}
		fmt.Fprintf(&b, "| **%s** %s | %s | %s | %.0f |\n", c.Plant.Name, cell(c.Plant.Title), cell(c.Plant.Cost), by, c.Took.Seconds())
	}
	return b.String()
}

// InPage gives the page with the table in its place: between the two marks, or, if
// there are none, at the end.
func InPage(page, table string) (string, error) {
	before, rest, begins := strings.Cut(page, tableBegin)
	_, after, ends := strings.Cut(rest, tableEnd)
	whole := tableBegin + "\n" + table + tableEnd
	switch {
	case begins && ends:
		return before + whole + after, nil
	case begins || strings.Contains(page, tableEnd):
		return "", fmt.Errorf("of %s and %s one is missing, or they stand in the wrong order", tableBegin, tableEnd)
	case page == "":
		page = "# Robustness\n"
	}
	return strings.TrimRight(page, "\n") + "\n\n" + whole + "\n", nil
}
