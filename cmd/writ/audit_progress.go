package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"writ/projections/audit"
)

// A meter shows how far a long reading has come: a bar on a terminal, a line
// now and then elsewhere, nothing for programs.
type meter struct {
	w        io.Writer // nil shows nothing
	verb     string
	bar      bool
	now      func() time.Time
	began    time.Time
	next     time.Time
	shown    bool
	interval time.Duration
}

// How often a meter shows something. On no terminal the first line comes late:
// most audits have ended by then.
const (
	barEvery  = 100 * time.Millisecond
	lineEvery = 30 * time.Second
)

func (a *app) newMeter(verb string) *meter {
	m := &meter{w: a.err, verb: verb, bar: isTerminal(a.err), now: a.now, began: a.now(), interval: lineEvery}
	if m.bar {
		m.interval = barEvery
	}
	if a.asJSON {
		m.w = nil
	}
	m.next = m.began.Add(m.interval)
	return m
}

func (m *meter) show(p audit.Progress) {
	now := m.now()
	if m.w == nil || now.Before(m.next) {
		return
	}
	m.next, m.shown = now.Add(m.interval), true
	text := m.text(p, now.Sub(m.began))
	if m.bar {
		fmt.Fprintf(m.w, "\r\x1b[K%s", text)
		return
	}
	fmt.Fprintln(m.w, text)
}

// end leaves the terminal as if no bar had been there.
func (m *meter) end() {
	if m.w != nil && m.bar && m.shown {
		fmt.Fprint(m.w, "\r\x1b[K")
	}
}

// text says how far it is, how fast it goes, and how long it may still take.
func (m *meter) text(p audit.Progress, passed time.Duration) string {
	var b strings.Builder
	part := float64(0)
	if p.Total > 0 {
		part = min(float64(p.Done)/float64(p.Total), 1)
		const width = 30
		if full := int(part * width); m.bar {
			fmt.Fprintf(&b, "[%s%s] ", strings.Repeat("#", full), strings.Repeat("-", width-full))
		}
		fmt.Fprintf(&b, "%2.0f %%, ", 100*part)
	}
	fmt.Fprintf(&b, "%d events %s", p.Events, m.verb)
	if s := passed.Seconds(); s > 0 {
		fmt.Fprintf(&b, ", %.0f/s", float64(p.Events)/s)
	}
	if part > 0.005 && part < 1 {
		left := time.Duration(float64(passed) * (1 - part) / part)
		fmt.Fprintf(&b, ", about %s left", left.Round(time.Second))
	}
	return b.String()
}
