package kills_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"writ/adapters/pvesim"
	"writ/domain/op"
	"writ/domain/signedop"
)

// alice signs, within the test: what is under load is the service.
func alice() signedop.Signer {
	seed := sha256.Sum256([]byte("alice"))
	signer, err := signedop.NewRawSigner(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		panic(err)
	}
	return signer
}

// An order is a writ for one guest, with all that was ever told about it.
type order struct {
	nonce op.Nonce
	guest pvesim.Guest
	body  []byte // of a submission

	mu sync.Mutex // guards what follows
	// acked: some answer was a 2xx. From then on the op must be on record.
	acked bool
	// done: it was told that the op had taken effect, which is final; spent: that
	// it never can any more.
	done, spent bool
	waits       bool           // for people, by what it was told last
	attempts    map[string]int // every attempt that was ever named, with its number
	last        string
	wrong       []string
}

// newOrder makes a guest and signs for its destruction. The VMID is whichever is
// free: often one that an order before has freed.
func (c *cluster) newOrder(n int, audience string, rng *rand.Rand) (*order, error) {
	g := pvesim.Guest{Node: c.node(n), Name: fmt.Sprintf("web-%d", n), Disks: []string{"local-lvm:1"}, MACs: []string{""}}
	var mark [16]byte
	binary.BigEndian.PutUint64(mark[:], uint64(n)+1)
	if n%3 == 0 {
		g.Kind, g.Description = pvesim.LXC, fmt.Sprintf("writ-id:%x", mark)
	}
	if rng.IntN(2) == 0 {
		g.Disks = append(g.Disks, "local-lvm:1")
	}
	if err := c.sim(http.MethodPost, "guests", g, &g); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "order %d of %s", n, audience))
	now := time.Now().UTC().Truncate(time.Second)
	d := signedop.Document{
		Version: 1, Nonce: op.Nonce(fmt.Sprintf("%x", sum[:16])), Audience: audience, Class: op.GuestDestroy,
		Target: op.Target{Node: g.Node, Guest: &op.Guest{Type: op.GuestType(g.Kind), VMID: g.VMID}},
		Role:   "operator", RequestedBy: "alice", NotBefore: now.Add(-time.Minute), ExpiresAt: now.Add(2 * time.Hour), Reason: "retire " + g.Name,
	}
	d.Expect = signedop.Expect{Name: g.Name, SMBIOSUUID: g.UUID, VMGenID: g.GenID, Volumes: slices.Sorted(slices.Values(g.Disks))}
	if g.Kind == pvesim.LXC {
		d.Expect.MACs, d.Expect.WritID = g.MACs, fmt.Sprintf("%x", mark)
	}
	writ, err := signedop.Seal(d, alice())
	if err != nil {
		return nil, err
	}
	body := fmt.Sprintf(`{"intent":{"class":"guest-destroy","target":{"node":%q,"guest":{"type":%q,"vmid":%d}}},"envelope":%q}`,
		g.Node, g.Kind, g.VMID, base64.StdEncoding.EncodeToString(writ))
	return &order{nonce: d.Nonce, guest: g, body: []byte(body), attempts: make(map[string]int)}, nil
}

// bystander makes a guest that no writ names.
func (c *cluster) bystander(n int) (g pvesim.Guest, err error) {
	g = pvesim.Guest{Node: c.node(n), Name: fmt.Sprintf("db-%d", n), Disks: []string{"local-lvm:1"}, MACs: []string{""}}
	return g, c.sim(http.MethodPost, "guests", g, &g)
}

func (c *cluster) node(n int) string { return fmt.Sprintf("pve%d", 1+n%len(c.URLs)) }

// An answer is what a submission is told, whatever the status.
type answer struct {
	Outcome, Reason, Detail, State, Effect string

	OpID    string `json:"op_id"`
	Attempt int    `json:"attempt"`
}

// deliver sends the writ. What the connection's end leaves open is no answer.
func (o *order) deliver(client *http.Client, base, wait string) (told string, err error) {
	// What was heard before it is sent holds for the answer. What others hear
	// meanwhile may have been said after it.
	o.mu.Lock()
	done, spent := o.done, o.spent
	o.mu.Unlock()
	resp, err := client.Post(base+"/v1/ops"+wait, "application/json", bytes.NewReader(o.body))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var a answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return "", fmt.Errorf("status %s: %w", resp.Status, err)
	}
	return o.hear(resp.StatusCode, a, done, spent), nil
}

// hear notes an answer, and what it contradicts: done and spent are what was heard
// before the question.
func (o *order) hear(status int, a answer, done, spent bool) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	told := fmt.Sprintf("%d %s%s", status, a.Outcome, a.Reason)
	o.last = told + ": " + a.Detail
	if a.OpID != "" {
		if n, known := o.attempts[a.OpID]; known && n != a.Attempt {
			o.wrong = append(o.wrong, fmt.Sprintf("attempt %s had the number %d, then %d", a.OpID, n, a.Attempt))
		}
		o.attempts[a.OpID] = a.Attempt
	}
	o.waits = a.Outcome == "indeterminate"
	switch status {
	case http.StatusOK:
		o.acked, o.done = true, true
		if spent {
			o.wrong = append(o.wrong, "it was spent, and then was told to be "+o.last)
		}
	case http.StatusAccepted:
		o.acked = true
		if done || spent {
			o.wrong = append(o.wrong, "it had ended, and then was told to be "+o.last)
		}
	case http.StatusConflict, http.StatusPreconditionFailed, http.StatusFailedDependency:
		o.spent = o.spent || strings.HasSuffix(told, "nonce-spent") || a.Effect != "" && a.Effect != "none"
		if done {
			o.wrong = append(o.wrong, "it had taken effect, and then was told to be "+o.last)
		}
		if status == http.StatusConflict && !o.spent {
			o.wrong = append(o.wrong, o.last)
		}
	case http.StatusServiceUnavailable, http.StatusTooManyRequests: // ask again
	default:
		o.wrong = append(o.wrong, o.last)
	}
	return told
}

// settled tells whether nothing more is to come of delivering it again.
func (o *order) settled() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.done || o.spent
}

func (o *order) waitsForPeople() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.waits
}

func (o *order) isAcked() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.acked
}
