package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"writ/domain/eventstore"
)

const (
	// maxMessageBytes bounds one server-sent event: the largest event there can
	// be, with data and metadata in JSON, and its frame.
	maxMessageBytes = eventstore.MaxEventBytes + 64<<10
	// silence is for how long a service may say nothing: three heartbeats.
	silence = 45 * time.Second
)

// A message is one server-sent event.
type message struct {
	name, id, data string
}

// A lostError says that a stream ended without a word: go on behind the last
// id.
type lostError struct{ err error }

func (e *lostError) Error() string { return "the connection was lost: " + e.err.Error() }

// decodeEvent reads the data of a server-sent event. Members that are not known
// here are passed over: the service may be newer.
func decodeEvent(data string, v any) error {
	if err := json.Unmarshal([]byte(data), v); err != nil {
		return fmt.Errorf("read an event of the service: %w", err)
	}
	return nil
}

// stream asks for server-sent events behind an id, if one is given, and hands
// them on until take or the service ends it; the error is that of take, a
// *httpapi.Problem, or a *lostError.
func (c *client) stream(ctx context.Context, path, lastID string, take func(message) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	if c.token != nil {
		req.Header.Set("Authorization", "Bearer "+string(c.token))
	}
	// A connection that died without a word is noticed by its silence.
	quiet := time.AfterFunc(silence, func() { cancel(fmt.Errorf("nothing came for %s", silence)) })
	defer quiet.Stop()
	resp, err := c.http.Do(req)
	if err != nil {
		return &lostError{cut(ctx, err)}
	}
	defer resp.Body.Close()
	if kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";"); resp.StatusCode != http.StatusOK || kind != "text/event-stream" {
		data, err := io.ReadAll(io.LimitReader(resp.Body, maxReplyBytes))
		if err != nil {
			return &lostError{cut(ctx, err)}
		}
		r, err := readReply(c.base, resp, data)
		if err == nil && r.problem != nil {
			return r.problem
		}
		return errors.Join(err, fmt.Errorf("ask %s: the answer is no stream of events", c.base))
	}
	return readMessages(resp.Body, func(m message) error {
		quiet.Reset(silence)
		return take(m)
	}, func(err error) error { return &lostError{cut(ctx, err)} })
}

// cut gives the reason why a request was ended from here, if it was, and no
// URL in any case: it may hold nonces.
func cut(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}

// readMessages reads a stream of server-sent events: fields of a line each, an
// empty line after each event. What is not whole at the end is dropped.
func readMessages(r io.Reader, take func(message) error, lost func(error) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxMessageBytes)
	lines.Split(wholeLines)
	var m message
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			if err := take(m); err != nil {
				return err
			}
			m = message{}
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			m.name = value
		case "id":
			m.id = value
		case "data":
			m.data += value // the service sends one line of it
		}
	}
	err := lines.Err()
	if errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("read the stream: an event has more than %d bytes, which is none of writ's", maxMessageBytes)
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return lost(err)
}

// wholeLines is bufio.ScanLines but for what has no line end: that was cut off.
func wholeLines(data []byte, atEOF bool) (advance int, line []byte, err error) {
	advance, line, err = bufio.ScanLines(data, false)
	if advance == 0 && atEOF {
		advance = len(data)
	}
	return advance, line, err
}
