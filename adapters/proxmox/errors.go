package proxmox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// A StatusError is an answer of the host, or of something between, with any
// status but 200.
type StatusError struct {
	Method, Path string // of the request; the path below the API's root

	Status int
	// Reason is the reason phrase as sent: Proxmox VE puts the first line of
	// its error text there.
	Reason string
	// Message is the whole error text; empty before Proxmox VE 8.3 and
	// whenever the body is not the API's JSON.
	Message string
	// Errors are what is wrong with single parameters, by their names; only ever
	// set from a body that is the API's JSON.
	Errors map[string]string
	// Body is the beginning of the body, in whatever form it came.
	Body string

	envelope bool // the body was the API's JSON: an object with data
	html     bool // the body was a page, which the API never sends
}

// Error gives request, status and the host's own words.
func (e *StatusError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %d %s", e.Method, e.Path, e.Status, clipTo(e.Text(), 500))
	for _, name := range slices.Sorted(maps.Keys(e.Errors)) {
		fmt.Fprintf(&b, "; %s: %s", clip(name), clip(strings.TrimSuffix(e.Errors[name], "\n")))
	}
	return b.String()
}

// Text is the host's error text, whole as far as it is known, without its last
// line feed.
func (e *StatusError) Text() string {
	if e.Message != "" {
		return strings.TrimSuffix(e.Message, "\n")
	}
	return e.Reason
}

// about gives what is wrong with one parameter.
func (e *StatusError) about(param string) string { return strings.TrimSuffix(e.Errors[param], "\n") }

// A RequestError says that no usable answer came.
type RequestError struct {
	Method, Path string
	// Written is false only if no byte of the request can have been sent: it
	// was refused inside this process, or no connection came about.
	Written bool
	Err     error
}

// Error says what failed, and what is known of the request's fate.
func (e *RequestError) Error() string {
	fate := "not sent"
	if e.Written {
		fate = "no usable answer"
	}
	return fmt.Sprintf("%s %s: %s: %v", e.Method, e.Path, fate, e.Err)
}

// Unwrap gives the cause.
func (e *RequestError) Unwrap() error { return e.Err }

// readStatusError keeps of an answer what tells its meaning.
func readStatusError(req *http.Request, res *http.Response) *StatusError {
	// An error while reading is left out on purpose: the status is known, and
	// a body that broke off parses as nothing.
	body, _ := io.ReadAll(io.LimitReader(res.Body, maxErrorReply))
	_, reason, _ := strings.Cut(res.Status, " ")
	e := &StatusError{
		Method: req.Method, Path: pathBelowRoot(req),
		Status: res.StatusCode,
		Reason: clipTo(reason, 1000),
		Body:   clip(string(body)),
	}
	start := bytes.TrimSpace(body)
	e.html = bytes.HasPrefix(start, []byte("<")) || strings.HasPrefix(res.Header.Get("Content-Type"), "text/html")
	var shape struct {
		Data    jsontext.Value    `json:"data"`
		Message string            `json:"message"`
		Errors  map[string]string `json:"errors"`
	}
	if err := json.Unmarshal(body, &shape, jsontext.AllowInvalidUTF8(true)); err == nil && shape.Data != nil {
		e.envelope, e.Message, e.Errors = true, shape.Message, shape.Errors
	}
	return e
}

// unreachable tells whether an error means that the question did not reach
// whoever could answer it, so that asking again may help. An answer that makes
// no sense is not of that kind.
func unreachable(err error) bool {
	se := asStatus(err)
	if se == nil {
		_, ok := errors.AsType[*RequestError](err)
		return ok
	}
	switch se.Status {
	case http.StatusForbidden:
		return false
	case http.StatusBadRequest, http.StatusInternalServerError:
		return !se.envelope
	}
	return true
}
