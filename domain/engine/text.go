package engine

import (
	"strings"
	"unicode/utf8"

	"writ/domain/op"
)

// Bounds of what is put on record of a host's words. The host is not trusted
// to be brief, nor to speak UTF-8: an event that can't be stored would leave
// its op without an end.
const (
	maxTextBytes = 4 << 10
	maxLines     = 100
)

// text makes a host's words fit for the record.
func text(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxTextBytes {
		return s
	}
	cut := maxTextBytes
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// lines makes the end of a list of a host's words fit for the record.
func lines(all []string) []string {
	if len(all) > maxLines {
		all = all[len(all)-maxLines:]
	}
	fit := make([]string, len(all))
	for i, s := range all {
		fit[i] = text(s)
	}
	return fit
}

func evidence(e op.Evidence) op.Evidence {
	return op.Evidence{Effect: e.Effect, Reasons: lines(e.Reasons)}
}
