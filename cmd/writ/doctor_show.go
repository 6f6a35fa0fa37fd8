package main

import (
	"fmt"
	"io"
	"strings"
)

// A waitLine says on a terminal what is being waited for, and leaves nothing
// behind. Elsewhere, and for programs, it says nothing.
type waitLine struct{ w io.Writer }

func (a *app) newWaitLine() *waitLine {
	if a.asJSON || !isTerminal(a.err) {
		return &waitLine{}
	}
	return &waitLine{a.err}
}

func (l *waitLine) show(what string) {
	if l.w != nil {
		fmt.Fprint(l.w, "\r\x1b[K")
		fmt.Fprintf(plainWriter{l.w}, "%s …", what)
	}
}

func (l *waitLine) end() {
	if l.w != nil {
		fmt.Fprint(l.w, "\r\x1b[K")
	}
}

// A palette paints on terminals.
type palette bool

// paint works on words that hold nothing of anybody else's.
func (p palette) paint(how, text string) string {
	if !p {
		return text
	}
	return "\x1b[" + how + "m" + text + "\x1b[0m"
}

func (s findingState) colour() string {
	switch s {
	case stateOK:
		return "32"
	case stateWarn:
		return "33"
	case stateFail:
		return "31;1"
	}
	return "0"
}

// text shows one check a line, what to do below it. A plainWriter takes control
// characters out of what others wrote, so colours go around it.
func (d diagnosis) text(w plainWriter, p palette) {
	wide := 0
	for _, f := range d.Checks {
		wide = max(wide, len(f.Check))
	}
	tally := map[findingState]int{}
	for _, f := range d.Checks {
		tally[f.State]++
		fmt.Fprint(w.w, p.paint(f.State.colour(), fmt.Sprintf("%-4s", f.State)))
		fmt.Fprintf(w, "  %-*s  %s\n", wide, f.Check, indented(f.Found, wide+8))
		if f.Remedy != "" {
			fmt.Fprintf(w, "%*s-> %s\n", wide+8, "", indented(f.Remedy, wide+11))
		}
	}
	if len(d.Commands) > 0 {
		if d.FromNothing {
			fmt.Fprint(w, "\nTo give writ what these classes need and no more, on a host that knows nothing of it\nyet, as root on any node:\n\n")
		} else {
			fmt.Fprint(w, "\nTo give writ what these classes need and no more, as root on any node:\n\n")
		}
		for _, c := range d.Commands {
			fmt.Fprintf(w, "  %s\n", c)
		}
	}
	fmt.Fprintf(w, "\n%s, %s, %s.\n", count(tally[stateOK], "check is well", "checks are well"),
		count(tally[stateWarn], "warning", "warnings"), count(tally[stateFail], "failure", "failures"))
}

// indented puts the further lines of a text below the first.
func indented(text string, by int) string {
	return strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", by))
}
