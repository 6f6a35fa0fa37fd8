package engine

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"writ/domain/op"
)

// Bounds of what is put on record of a host's words. The host is not trusted
// to be brief, nor to speak UTF-8: an event that can't be stored would leave
// its op without an end.
const (
	maxTextBytes = 4 << 10
	maxLines     = 100
	maxListBytes = 64 << 10 // of all lines of a list together
	maxNameBytes = 128
)

// text makes a host's words fit for the record.
func text(s string) string { return fit(s, maxTextBytes) }

// brief makes a name that nobody has checked fit for the record.
func brief(s string) string { return fit(s, maxNameBytes) }

// refused makes an intent that nobody has checked fit for the record: what
// anyone can submit must neither fill it nor keep its own refusal out of it.
func refused(i op.Intent) op.Intent {
	i.Class, i.Target.Node = op.Class(brief(string(i.Class))), brief(i.Target.Node)
	if i.Target.Guest != nil {
		g := *i.Target.Guest
		g.Type = op.GuestType(brief(string(g.Type)))
		i.Target.Guest = &g
	}
	return i
}

func fit(s string, most int) string {
	if len(s) > 2*most {
		s = s[:2*most] // what comes after can't show
	}
	// As JSON a control character takes six bytes.
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if len(s) <= most {
		return s
	}
	cut := most
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
	out := make([]string, 0, len(all))
	size := 0
	for _, s := range slices.Backward(all) {
		s = text(s)
		if size += len(s); size > maxListBytes {
			break
		}
		out = append(out, s)
	}
	slices.Reverse(out)
	return out
}

// shown is an error as callers and logs may see it: a store names its streams
// in its errors, and an op's stream is named by the nonce.
func shown(n op.Nonce, err error) string {
	if n == "" {
		return err.Error()
	}
	return strings.ReplaceAll(err.Error(), string(n), n.Short())
}

func evidence(e op.Evidence) op.Evidence {
	return op.Evidence{Effect: e.Effect, Reasons: lines(e.Reasons)}
}
