package enginetest

import (
	"fmt"
	"strings"
)

// InSection gives a page with another text between the marks of a name, each of
// them a comment on a line of its own.
func InSection(page, name, text string) (string, error) {
	begins, ends := "<!-- "+name+":begin -->\n", "<!-- "+name+":end -->\n"
	before, rest, found := strings.Cut(page, begins)
	_, after, closed := strings.Cut(rest, ends)
	if !found || !closed {
		return "", fmt.Errorf("the page has no place for %s: %q and %q", name, begins, ends)
	}
	return before + begins + text + ends + after, nil
}

// Grouped is a number with commas.
func Grouped(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", Grouped(n/1000), n%1000)
}

// FirstDifference gives the first line in which two texts differ, counted from 1,
// as it is in each; 0 if there is none.
func FirstDifference(got, want string) (line int, is, was string) {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	at := func(lines []string, i int) string {
		if i < len(lines) {
			return lines[i]
		}
		return "(nothing)"
	}
	for i := range max(len(a), len(b)) {
		if is, was = at(a, i), at(b, i); is != was {
			return i + 1, is, was
		}
	}
	return 0, "", ""
}
