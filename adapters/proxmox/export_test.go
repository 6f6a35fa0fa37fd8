package proxmox

import (
	"context"
	"net/url"
	"time"

	"writ/domain/op"
)

// Smuggle sends requests below the launch, as a library gone wrong would:
// each of them in the one exchange that was opened for the announced request.
// It gives the last one's error.
func (h *Host) Smuggle(ctx context.Context, announced op.Request, method string, targets ...string) error {
	x := smuggling(h, announced)
	var err error
	for _, target := range targets {
		if err = h.front.writes.Req(withExchange(ctx, x), method, target, nil, nil); err != nil {
			err = plain(method, target, err)
		}
	}
	return err
}

func smuggling(h *Host, announced op.Request) *exchange {
	return &exchange{host: h.front.base.Host, want: announced, change: &mutation{
		kind: acts, request: announced, by: subject{conduct: destroyConduct(), node: "pve1", guest: op.Guest{Type: op.QEMU, VMID: 105}},
	}}
}

// SmuggleWith sends a request with a ticket, or, without a user, with a token: the
// wipe of a disk, or the destruction of a guest.
func (h *Host) SmuggleWith(ctx context.Context, user string, wipe bool) error {
	announced, by := op.Request{Method: "DELETE", Path: "/nodes/pve1/qemu/105"}, subject{conduct: destroyConduct(), node: "pve1", guest: op.Guest{Type: op.QEMU, VMID: 105}}
	if wipe {
		announced, by = op.Request{Method: "PUT", Path: wipePath("pve1"), Query: "disk=%2Fdev%2Fsdb"}, subject{conduct: diskConduct(), node: "pve1", target: op.Target{Node: "pve1", Disk: "/dev/sdb"}}
	}
	as := &credential{id: "a@pve!t", secret: "s"}
	if user != "" {
		as = &credential{id: user, ticket: "t", csrf: "c"}
	}
	target := announced.Path
	if announced.Query != "" {
		target += "?" + announced.Query
	}
	x := &exchange{host: h.front.base.Host, as: as, want: announced, change: &mutation{kind: acts, request: announced, by: by}}
	err := h.front.writes.Req(withExchange(ctx, x), announced.Method, target, nil, nil)
	if err != nil {
		err = plain(announced.Method, target, err)
	}
	return err
}

// ReadAsRoot reads with a ticket of root@pam.
func (h *Host) ReadAsRoot(ctx context.Context, path string) error {
	_, err := h.getAs(ctx, h.front, path, &credential{id: rootUser, ticket: "t", csrf: "c"})
	return err
}

// SmuggleBody sends a request with a body over the connection for writes.
func (h *Host) SmuggleBody(ctx context.Context, announced op.Request) error {
	x := smuggling(h, announced)
	err := h.front.writes.Req(withExchange(ctx, x), announced.Method, announced.Path, []byte(`{"purge":1}`), nil)
	return plain(announced.Method, announced.Path, err)
}

// SmuggleRead sends a request that is not a read over the connection for reads.
func (h *Host) SmuggleRead(ctx context.Context, method, target string) error {
	x := &exchange{host: h.front.base.Host, want: op.Request{Method: method}}
	return plain(method, target, h.front.reads.Req(withExchange(ctx, x), method, target, nil, nil))
}

// SmuggleBare sends a request outside of any exchange.
func (h *Host) SmuggleBare(ctx context.Context, method, target string) error {
	return plain(method, target, h.front.writes.Req(ctx, method, target, nil, nil))
}

// ParseConfig parses the data of a read of a guest's configuration.
func ParseConfig(node string, g op.Guest, data []byte) (op.Observed, error) {
	c, err := parseConfig(node, g, reply{data: data})
	return c.seen, err
}

// Hurry replaces both timeouts, which New wants to be long.
func (h *Host) Hurry(d time.Duration) { h.pollTimeout, h.launchTimeout = d, d }

// HurryFence replaces how long a node is given to see that a token is dead.
func (h *Host) HurryFence(d time.Duration) { h.fenceTimeout = d }

// A MutationKind is what a mutation does.
type MutationKind = mutationKind

// Kinds of mutations.
const (
	Destroys   = acts
	LogsIn     = logsIn
	MakesToken = makesToken
	Grants     = grants
	Expires    = expires
	Protects   = protects
	Removes    = removes
)

// CheckMutation asks the last gate about a mutation of attempt 1 on machine 105.
func CheckMutation(kind MutationKind, token string, req op.Request, form url.Values) error {
	return mutation{
		kind: kind, request: req, form: form,
		by: subject{user: "writ@pve", token: token, role: "WritAttempt", rights: []right{{"/vms/105", "VM.Allocate"}}, conduct: destroyConduct(), node: "pve1", guest: op.Guest{Type: op.QEMU, VMID: 105}},
	}.check()
}
