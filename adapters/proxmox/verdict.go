package proxmox

import (
	"errors"
	"net/http"
	"regexp"

	"writ/domain/engine"
	"writ/domain/op"
)

// A rule names one kind of failure of a launch that proves that the host
// started nothing for the request and never will.
type rule struct {
	source string // where that can be looked up
	proves func(a attempt, err error) bool
}

// The rules. They are about requests that Proxmox VE carries out in a task,
// and no others: a call that works synchronously can fail half-way with the
// same status.
//
// Not here, and so ambiguous, are among others: 596, 597 and 599 (the next hop
// may have read the request, and may still act on it), 502 to 504 and 404 (not
// from Proxmox VE), 400 without the errors of its parameters (what the server
// makes of an error text that it can't send), 500 with any other text (a task
// that can't be listed is running, and its start is answered 500), any broken
// connection, and any redirect.
func rules() []rule {
	return []rule{
		{
			source: "net/http/httptrace: without GotConn there was no connection to write to",
			proves: func(_ attempt, err error) bool {
				re, ok := errors.AsType[*RequestError](err)
				return ok && !re.Written
			},
		},
		{
			source: "pve-http-server AnyEvent.pm: parameters are verified before the method is called",
			proves: onStatus(http.StatusBadRequest, func(_ attempt, e *StatusError) bool { return len(e.Errors) > 0 }),
		},
		{
			source: "pve-http-server AnyEvent.pm#authenticate_and_handle_request: every hop authenticates before it does anything",
			proves: onStatus(http.StatusUnauthorized, always),
		},
		{
			source: "pve-manager HTTPServer.pm#rest_handler: rights are checked before the call is passed on or made",
			proves: onStatus(http.StatusForbidden, always),
		},
		{
			// Servers before pve-http-server 5.2 answered 501 to internal
			// errors too, so the status alone proves nothing. These two texts
			// are made where a method is looked up, and nowhere else.
			source: "pve-manager HTTPServer.pm#rest_handler, pve-http-server AnyEvent.pm",
			proves: onStatus(http.StatusNotImplemented, func(a attempt, e *StatusError) bool {
				return e.Text() == "Method '"+a.request.Method+" "+a.request.Path+"' not implemented" || e.Text() == "no such uri"
			}),
		},
		{
			source: "AnyEvent::HTTP: 595 until the connection stands, 596 from the first byte written",
			proves: onStatus(595, always),
		},
		{
			source: "pve-common RESTEnvironment.pm#fork_worker and what comes before it",
			proves: onStatus(http.StatusInternalServerError, func(a attempt, e *StatusError) bool {
				return matchAny(beforeFork(), e.Text()) || a.conduct.refusals != nil && matchAny(a.conduct.refusals(a), e.Text())
			}),
		},
	}
}

func always(attempt, *StatusError) bool { return true }

// onStatus makes a condition on an answer. A page of HTML is not from Proxmox
// VE: something between has spoken, and nobody knows what it did before.
func onStatus(status int, proves func(attempt, *StatusError) bool) func(attempt, error) bool {
	return func(a attempt, err error) bool {
		e := asStatus(err)
		return e != nil && e.Status == status && !e.html && proves(a, e)
	}
}

func asStatus(err error) *StatusError {
	e, _ := errors.AsType[*StatusError](err)
	return e
}

// verdict marks an error of a launch as definite if a rule says so, and names
// the rule's source.
func verdict(a attempt, err error) (source string, marked error) {
	for _, r := range rules() {
		if r.proves(a, err) {
			return r.source, engine.Definite(err)
		}
	}
	return "none", err
}

// beforeFork are the texts of status 500 that come before the fork of any
// task, or from the fork itself having failed: the child begins only when the
// parent tells it to, which it does after all of these.
func beforeFork() []*regexp.Regexp { return anyForkTexts }

var anyForkTexts = whole(
	`hostname lookup '[^'\n]*' failed - [^\n]*`,
	`proxy loop detected`,
	`unable to fork worker - [^\n]*`,
	`got no worker upid - start worker failed`,
	`starting worker failed: [^\n]*`,
	`Unable to load access control list: [^\n]*`,
)

// whole compiles patterns that must match a text from its first byte to its
// last.
func whole(patterns ...string) []*regexp.Regexp {
	out := make([]*regexp.Regexp, len(patterns))
	for i, p := range patterns {
		out[i] = regexp.MustCompile(`\A(?:` + p + `)\z`)
	}
	return out
}

func matchAny(patterns []*regexp.Regexp, text string) bool {
	for _, p := range patterns {
		if p.MatchString(text) {
			return true
		}
	}
	return false
}

// LaunchVerdict marks the error of an announced launch as definite if it proves
// that the host started nothing and never will, and gives it back as it is if
// not. It is what the executor of the class itself goes by; for whoever carries
// an announced request to a host by other ways. The error must be or hold a
// *StatusError or a *RequestError to be told apart.
func LaunchVerdict(announced *op.Launching, err error) error {
	a, bad := announcedAttempt(announced)
	if bad != nil {
		return err
	}
	_, marked := verdict(a, err)
	return marked
}
