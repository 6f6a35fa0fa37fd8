package proxmox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"writ/domain/engine"
)

// rootUser is the one user who may wipe a disk. No token is that user, not even
// one of its own.
const rootUser = "root@pam"

// A root is the login of that user. Nothing of it is kept between two wipes but
// the password: a ticket of root@pam would let whoever has it do everything.
type root struct{ password Secret }

// Format implements fmt.Formatter, for every verb.
func (*root) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

var errNoRoot = fmt.Errorf("%w: only root@pam with its password can wipe a disk, and none is configured (host.proxmox.wipe_password_file)", engine.ErrNoExecutor)

// asRoot gets a ticket to send an announced request of root@pam with, if the
// target is still what was announced. Every error is definite: it is about what
// comes before the request, which goes with the ticket alone.
func (h *Host) asRoot(ctx context.Context, t attempt, expires time.Time) (*credential, error) {
	if h.root == nil {
		return nil, engine.Definite(errNoRoot)
	}
	as, err := h.askTicket(ctx, h.at(t.node), rootUser, h.root.password)
	if err != nil {
		// Not wrapped: it is about the login, and tells nothing of the request.
		return nil, engine.Definite(fmt.Errorf("log in as %s: %s", rootUser, withoutSecrets(err)))
	}
	if err := t.conduct.recheck(ctx, h, t); err != nil {
		return nil, engine.Definite(err)
	}
	if !time.Now().Before(expires) {
		return nil, engine.Definite(fmt.Errorf("the signed document expired at %s, while the launch was prepared", expires.UTC().Format(time.RFC3339)))
	}
	return as, nil
}

// withoutSecrets says why a login failed, for logs and the record. Of an answer it
// gives the status alone, and the one text that the host itself has for it:
// whatever stands between may repeat in its own what it was sent, or was to pass
// on.
func withoutSecrets(err error) string {
	e := asStatus(err)
	if re, ok := errors.AsType[*RequestError](err); ok && re.Written {
		// net/http quotes what is no answer.
		text := "no usable answer"
		if errors.Is(err, context.DeadlineExceeded) {
			text = "no answer in time"
		}
		return fmt.Sprintf("%s %s: %s", re.Method, re.Path, text)
	}
	if e == nil {
		return err.Error()
	}
	text := "what it said is not shown, as it may hold the password"
	if e.Text() == loginRefused {
		text = loginRefused
	}
	return fmt.Sprintf("%s %s: %d (%s)", e.Method, e.Path, e.Status, text)
}

// loginRefused is what the host says to a wrong password, and of a user that is
// disabled (pve-access-control API2/AccessControl.pm#create_ticket).
const loginRefused = "authentication failure"

// isTicketOf tells whether it is the ticket of a user.
func (c *credential) isTicketOf(user string) bool { return c != nil && c.ticket != "" && c.id == user }

// isRoots tells whether it is a request that root@pam alone may send.
func (m *mutation) isRoots() bool {
	return m != nil && m.kind == acts && m.by.conduct != nil && m.by.conduct.byRoot
}
