package gate

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// stampLayout is the one form of a time: UTC, whole seconds.
const stampLayout = "2006-01-02T15:04:05Z"

func stamp(t time.Time) string { return t.UTC().Format(stampLayout) }

// quote shows foreign text: shortened, and with nothing that a terminal obeys.
func quote(s string) string {
	const limit = 64
	if len(s) > limit {
		return strconv.QuoteToASCII(s[:limit]) + "…"
	}
	return strconv.QuoteToASCII(s)
}

// quoteAll shows the beginning of a list.
func quoteAll(list []string) string {
	const limit = 8
	if len(list) == 0 {
		return "nothing"
	}
	var b strings.Builder
	for i, s := range list {
		if i == limit {
			fmt.Fprintf(&b, " and %d more", len(list)-limit)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(quote(s))
	}
	return b.String()
}
