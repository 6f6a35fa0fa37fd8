package signedop

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of what a document may say, in bytes or items.
const (
	// MaxReasonBytes bounds a document's reason.
	MaxReasonBytes = 1024
	// MaxNameBytes bounds a name: of an agent, a role, a person.
	MaxNameBytes = 64
	// MaxTextBytes bounds what the host names: a guest, a volume.
	MaxTextBytes = 512
	// MaxListItems bounds a list of expectations.
	MaxListItems = 256
)

// A MalformedError says that bytes are neither a writ nor a resolution, or not
// the one that was asked for, or a document not one that could be signed. It shows no more than a clipped piece of what was found,
// and of the nonce nothing.
type MalformedError struct {
	// Field is the member, such as target.guest.vmid or signatures[2].sig;
	// "envelope", "document" or "resolution" if it is the whole.
	Field string
	// Why says what was found and what is required.
	Why string
}

// Error names the field and what is wrong with it.
func (e *MalformedError) Error() string { return "malformed " + e.Field + ": " + e.Why }

func malformed(field, format string, args ...any) *MalformedError {
	return &MalformedError{Field: field, Why: fmt.Sprintf(format, args...)}
}

// CheckName refuses what can't be the name of an agent, a role or a person: 1
// to MaxNameBytes ASCII letters, digits and ". _ - @", of which the first is a
// letter or digit. Names are compared byte for byte.
func CheckName(s string) error {
	if s == "" {
		return errors.New("missing or empty: a name is required")
	}
	if len(s) > MaxNameBytes {
		return fmt.Errorf("%s is %d bytes, at most %d are allowed in a name", quote(s), len(s), MaxNameBytes)
	}
	for i := range len(s) {
		c := s[i]
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alnum && (i == 0 || !strings.ContainsRune("._-@", rune(c))) {
			return fmt.Errorf("%s is not a name: letters, digits and . _ - @ are allowed, the first a letter or digit", quote(s))
		}
	}
	return nil
}

// checkText refuses text that could show as something else than it is.
func checkText(s string, limit int) error {
	if s == "" {
		return errors.New("missing or empty: text is required")
	}
	if len(s) > limit {
		return fmt.Errorf("%d bytes, at most %d are allowed", len(s), limit)
	}
	if !utf8.ValidString(s) {
		return errors.New("not valid UTF-8")
	}
	for i, r := range s {
		if deceptive(r) {
			return fmt.Errorf("character %U at byte %d is not allowed: control, direction and invisible characters are refused", r, i)
		}
	}
	if strings.TrimSpace(s) != s {
		return errors.New("begins or ends with a space")
	}
	return nil
}

// deceptive tells whether a character steers a terminal, changes the direction
// of text or can't be seen. The ranges are fixed here instead of taken from
// the Unicode tables of the Go release, so that every program, of whatever
// age, gives the same verdict over the same document.
func deceptive(r rune) bool {
	if ' ' <= r && r <= '~' {
		return false // nearly all that is ever asked, and in none of the ranges
	}
	ranges := [...][2]rune{
		{0x0000, 0x001f}, {0x007f, 0x009f}, // controls
		{0x00ad, 0x00ad},                   // soft hyphen
		{0x034f, 0x034f}, {0x061c, 0x061c}, // grapheme joiner, Arabic letter mark
		{0x115f, 0x1160}, {0x3164, 0x3164}, {0xffa0, 0xffa0}, // Hangul fillers
		{0x17b4, 0x17b5}, {0x180b, 0x180f}, // Khmer and Mongolian invisibles
		{0x200b, 0x200f}, {0x2028, 0x202e}, // zero width, line ends, embedding
		{0x2800, 0x2800},                   // blank Braille pattern
		{0x2060, 0x206f},                   // invisible operators, isolates
		{0xd800, 0xf8ff},                   // surrogates, private use
		{0xfdd0, 0xfdef},                   // noncharacters
		{0xfe00, 0xfe0f}, {0xfeff, 0xfeff}, // variation selectors, byte order mark
		{0xfff0, 0xffff},                       // annotation, replacement character, noncharacters
		{0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a}, // shorthand and musical controls
		{0xe0000, 0x10ffff}, // tags, variation selectors, private use
	}
	for _, x := range ranges {
		if x[0] <= r && r <= x[1] {
			return true
		}
	}
	return r&0xfffe == 0xfffe // last two of each plane
}

// checkHex refuses all but lower-case hex of a given length.
func checkHex(s string, digits int) error {
	if len(s) != digits || strings.Trim(s, "0123456789abcdef") != "" {
		return fmt.Errorf("%s is not %d lower-case hex digits", quote(s), digits)
	}
	return nil
}

// checkUUID refuses all but the canonical form of a UUID.
func checkUUID(s string) error {
	parts := strings.Split(s, "-")
	lengths := []int{8, 4, 4, 4, 12}
	if len(parts) == len(lengths) {
		ok := true
		for i, part := range parts {
			ok = ok && checkHex(part, lengths[i]) == nil
		}
		if ok {
			return nil
		}
	}
	return fmt.Errorf("%s is not a UUID in lower case, such as 5c6f0a1e-7b2d-4c3f-8a4e-9d0b1c2f3a5e", quote(s))
}

// checkMAC refuses all but the form in which Proxmox VE writes a MAC address.
func checkMAC(s string) error {
	ok := len(s) == 17
	for i := 0; ok && i < len(s); i++ {
		if c := s[i]; i%3 == 2 {
			ok = c == ':'
		} else {
			ok = '0' <= c && c <= '9' || 'A' <= c && c <= 'F'
		}
	}
	if !ok {
		return fmt.Errorf("%s is not a MAC address in upper case, such as BC:24:11:0A:1B:2C", quote(s))
	}
	return nil
}

// maxInteger is the largest integer that every JSON reader takes for itself.
const maxInteger = 1<<53 - 1

// clipBytes is how much of foreign text is shown in an error.
const clipBytes = 48

// quote shows foreign text: clipped, and with nothing that a terminal obeys.
func quote(s string) string {
	if len(s) > clipBytes {
		return strconv.QuoteToASCII(s[:clipBytes]) + "…"
	}
	return strconv.QuoteToASCII(s)
}
