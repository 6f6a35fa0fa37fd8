package proxmox

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"writ/domain/engine"
	"writ/domain/op"
)

// A Mode says under which credentials destructive requests are sent.
type Mode string

const (
	// ModeShared sends all of them with the one configured API token. Tasks of
	// two ops on one guest can't be told apart for certain, and a request that
	// may still be on its way is stopped by the guest's protection alone.
	ModeShared Mode = "shared"
	// ModeAttempt makes an API token for each attempt, which dies with it.
	ModeAttempt Mode = "attempt"
)

// Mode tells under which credentials this Host sends destructive requests.
func (h *Host) Mode() Mode {
	if h.service == nil {
		return ModeShared
	}
	return ModeAttempt
}

// The name of an attempt's token is derived from nonce and number and nothing
// else, so that every copy of a ledger, old ones too, derives the same one, and
// the host, which makes a token only if there is none of its name, lets one of
// them through. All tokens of a nonce begin alike. 160 bits of a SHA-256 do not
// tell the nonce.
const (
	tokenTag  = "writ-attempt-token-v1\x00"
	stemBytes = 20
)

var attemptForm = regexp.MustCompile(`^w-[0-9a-f]{40}-[1-9][0-9]{0,8}$`)

// tokenStem is what the names of all tokens of a nonce begin with.
func tokenStem(n op.Nonce) string {
	sum := sha256.Sum256([]byte(tokenTag + string(n)))
	return "w-" + hex.EncodeToString(sum[:stemBytes]) + "-"
}

// tokenName is the name of one attempt's token, at most 52 characters: a task's
// UPID holds it, and is the name of a file.
func tokenName(n op.Nonce, attempt int) string {
	return tokenStem(n) + strconv.Itoa(attempt)
}

// attemptOf gives the number of the attempt whose token has this name, if it is
// one of the nonce with this stem.
func attemptOf(name, stem string) (int, bool) {
	digits, ok := strings.CutPrefix(name, stem)
	if !ok || !attemptForm.MatchString(name) {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	return n, err == nil
}

// credentialFor is the full auth id under which an attempt's request is sent.
func (h *Host) credentialFor(a engine.Attempt) (string, error) {
	if c := conductOf(a.Intent.Class); c != nil && c.on(a.Intent.Target).byRoot {
		if h.root == nil {
			return "", errNoRoot
		}
		return rootUser, nil
	}
	if h.service == nil {
		return h.token, nil
	}
	if _, err := op.ParseNonce(string(a.Nonce)); err != nil {
		return "", err
	}
	name := tokenName(a.Nonce, a.Number)
	if !attemptForm.MatchString(name) {
		return "", fmt.Errorf("attempt %d is not the number of one", a.Number)
	}
	return h.service.user + "!" + name, nil
}

// A sender is whose request an announcement is, as far as that can still be
// acted upon.
type sender struct {
	// name is that of the attempt's own token; empty if it was launched with a
	// shared one.
	name string
	// stranger says why the attempt's token can't be touched by this Host;
	// empty if it can.
	stranger string
}

// senderOf reads an announcement's credential. An attempt keeps the one that it
// was announced with, whatever the configuration says by now.
func (h *Host) senderOf(l *op.Launching) (sender, error) {
	user, name, _ := strings.Cut(l.Credential, "!")
	if !attemptForm.MatchString(name) {
		return sender{}, nil
	}
	if want := tokenName(l.Nonce, l.Attempt); name != want {
		return sender{}, fmt.Errorf("the announced credential %s is not that of attempt %d of this op", clip(l.Credential), l.Attempt)
	}
	s := sender{name: name}
	switch {
	case h.service == nil:
		s.stranger = "no service user is configured: give the password of " + user
	case h.service.user != user:
		s.stranger = fmt.Sprintf("the service user is %s: give the password of %s for as long as attempts of it are open", h.service.user, user)
	}
	return s, nil
}

// Of a token's comment, which is for people, two notes are read again.
const (
	clockMark  = "node_clock="
	expiryMark = "document_expires="
)

// clockNote says what the node's clock showed before the token was made.
func clockNote(t time.Time) string { return clockMark + t.UTC().Format(time.RFC3339) }

func clockIn(comment string) (time.Time, bool) { return noteIn(comment, clockMark) }

// expiryNote says when the signed document ends.
func expiryNote(t time.Time) string { return expiryMark + t.UTC().Format(time.RFC3339) }

func expiryIn(comment string) (time.Time, bool) { return noteIn(comment, expiryMark) }

func noteIn(comment, mark string) (time.Time, bool) {
	for word := range strings.FieldsSeq(comment) {
		if text, ok := strings.CutPrefix(word, mark); ok {
			t, err := time.Parse(time.RFC3339, text)
			return t, err == nil
		}
	}
	return time.Time{}, false
}
