package proxmox

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"writ/domain/op"
)

// An Enrolment says how a guest is marked.
type Enrolment struct {
	Node   string `json:"node"`
	WritID string `json:"writ_id"`
	// Already: it had the mark before, and nothing was written.
	Already bool `json:"already"`
}

// maxMarkQuery bounds what is written of a description: the host takes 8 KiB of
// header (pve-http-server AnyEvent.pm).
const maxMarkQuery = 6000

// markTries is how often a guest whose configuration changes is looked at again.
const markTries = 3

// Enrol puts a mark of 128 random bits into a guest's description, by which it
// can be told from the next guest under its VMID: a container has nothing else
// that is its own for good. A guest that has one keeps it.
//
// The host is asked to write only if the configuration is still the one that was
// read, so nobody's change to the description is lost. After an error the mark
// may be there or not: call it again. The mark goes with the guest where it
// migrates; a restore brings back the description of the backup.
func (h *Host) Enrol(ctx context.Context, target op.Target) (Enrolment, error) {
	g, err := guestOf(target)
	if err != nil {
		return Enrolment{}, err
	}
	for range markTries {
		at, err := h.locate(ctx, target.Node, g)
		if err != nil {
			return Enrolment{}, fmt.Errorf("enrol %s: %w", target, err)
		}
		if !at.found {
			return Enrolment{}, fmt.Errorf("enrol %s: there is no such guest", target)
		}
		seen := at.config.seen
		if seen.WritID != "" {
			return Enrolment{Node: seen.Node, WritID: seen.WritID, Already: true}, nil
		}
		id, err := h.mark(ctx, seen.Node, g)
		if isConflict(err) || isMissing(err, seen.Node, g) {
			continue // it is not as it was just read: look again
		}
		if err != nil {
			return Enrolment{}, fmt.Errorf("enrol %s: %w", target, err)
		}
		return Enrolment{Node: seen.Node, WritID: id}, nil
	}
	return Enrolment{}, fmt.Errorf("enrol %s: its configuration changes all the time", target)
}

// mark adds the mark to the description as it is, below what is there.
func (h *Host) mark(ctx context.Context, node string, g op.Guest) (string, error) {
	path := guestPath(node, g) + "/config"
	r, err := h.get(ctx, h.at(node), path)
	if err != nil {
		return "", err
	}
	var raw map[string]jsontext.Value
	if err := r.decode(&raw); err != nil {
		return "", fmt.Errorf("GET %s: %w", path, err)
	}
	text := func(key string) string {
		if raw[key] == nil {
			return ""
		}
		s, err := scalar(raw[key])
		if err != nil {
			return ""
		}
		return s
	}
	digest, description := text("digest"), text("description")
	if !digestForm.MatchString(digest) {
		return "", fmt.Errorf("GET %s: the configuration's digest is %q, not that of a file", path, clip(digest))
	}
	if strings.Contains(description, "writ-id:") {
		return "", fmt.Errorf("its description holds something that reads like a mark and is none: take it out by hand")
	}
	var bits [16]byte
	_, _ = rand.Read(bits[:]) // never fails
	id := hex.EncodeToString(bits[:])
	if description = strings.TrimRight(description, "\n"); description != "" {
		description += "\n\n"
	}
	query := url.Values{"description": {description + "writ-id:" + id}, "digest": {digest}}
	if n := len(query.Encode()); n > maxMarkQuery {
		return "", fmt.Errorf("its description is too long to be written together with a mark (%d bytes in a request, %d fit): shorten it, or add the line writ-id:%s by hand", n, maxMarkQuery, id)
	}
	m := mutation{
		kind: marks, by: subject{node: node, guest: g},
		request: op.Request{Method: http.MethodPut, Path: path, Query: query.Encode()},
	}
	if _, err := h.send(ctx, h.at(node), m, h.shared, h.pollTimeout); err != nil {
		return "", err
	}
	return id, nil
}
