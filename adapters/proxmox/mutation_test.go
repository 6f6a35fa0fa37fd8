package proxmox_test

import (
	"net/url"
	"strings"
	"testing"

	"writ/adapters/proxmox"
	"writ/domain/op"
)

// The last gate lets through what an attempt needs and nothing else, whoever
// composed it.
func TestMutationsThatAreLetThrough(t *testing.T) {
	w := "w-" + strings.Repeat("a", 40) + "-1"
	path := "/access/users/writ@pve/token/" + w
	login := url.Values{"username": {"writ@pve"}, "password": {"x"}}
	const expire = "comment=x&expire=1795419600&privsep=1"
	acl := "path=%2Fvms%2F105&propagate=0&roles=WritAttempt&tokens=writ%40pve%21" + w
	digest := "digest=" + strings.Repeat("0", 40)
	cases := []struct {
		name, method, path, query string
		kind                      proxmox.MutationKind
		ok                        bool
	}{
		{"destroy", "DELETE", "/nodes/pve1/qemu/105", "purge=1", proxmox.Destroys, true},
		{"destroy another guest", "DELETE", "/nodes/pve1/qemu/106", "", proxmox.Destroys, false},
		{"destroy on another node", "DELETE", "/nodes/pve2/qemu/105", "", proxmox.Destroys, false},
		{"destroy more", "DELETE", "/nodes/pve1/qemu/105", "destroy-unreferenced-disks=1", proxmox.Destroys, false},
		{"destroy, as protecting", "DELETE", "/nodes/pve1/qemu/105", "", proxmox.Protects, false},
		{"login", "POST", "/access/ticket", "", proxmox.LogsIn, true},
		{"login with a query", "POST", "/access/ticket", "password=x", proxmox.LogsIn, false},
		{"make", "POST", path, expire, proxmox.MakesToken, true},
		{"make a tombstone", "POST", path, "comment=x&expire=1&privsep=1", proxmox.MakesToken, true},
		{"make one that never ends", "POST", path, "comment=x&expire=0&privsep=1", proxmox.MakesToken, false},
		{"make one without an end", "POST", path, "comment=x&privsep=1", proxmox.MakesToken, false},
		{"make one with all the user's rights", "POST", path, "comment=x&expire=1795419600&privsep=0", proxmox.MakesToken, false},
		{"make one with the rights left open", "POST", path, "comment=x&expire=1795419600", proxmox.MakesToken, false},
		{"make another", "POST", strings.TrimSuffix(path, "1") + "2", expire, proxmox.MakesToken, false},
		{"make one of another user", "POST", "/access/users/root@pam/token/" + w, expire, proxmox.MakesToken, false},
		{"delete", "DELETE", path, "", proxmox.MakesToken, false},
		{"grant", "PUT", "/access/acl", acl, proxmox.Grants, true},
		{"grant and pass on", "PUT", "/access/acl", strings.Replace(acl, "propagate=0", "propagate=1", 1), proxmox.Grants, false},
		{"grant and leave open", "PUT", "/access/acl", strings.Replace(acl, "propagate=0&", "", 1), proxmox.Grants, false},
		{"grant on another guest", "PUT", "/access/acl", strings.Replace(acl, "105", "106", 1), proxmox.Grants, false},
		{"grant on all guests", "PUT", "/access/acl", strings.Replace(acl, "%2F105", "", 1), proxmox.Grants, false},
		{"grant another role", "PUT", "/access/acl", strings.Replace(acl, "WritAttempt", "Administrator", 1), proxmox.Grants, false},
		{"grant to a user too", "PUT", "/access/acl", acl + "&users=eve%40pve", proxmox.Grants, false},
		{"take away", "PUT", "/access/acl", "delete=1&" + acl, proxmox.Grants, false},
		{"expire", "PUT", path, "expire=1", proxmox.Expires, true},
		{"expire later", "PUT", path, "expire=1795419600", proxmox.Expires, false},
		{"never expire", "PUT", path, "expire=0", proxmox.Expires, false},
		{"expire and renew", "PUT", path, "expire=1&regenerate=1", proxmox.Expires, false},
		{"remove", "DELETE", path, "", proxmox.Removes, true},
		{"remove another", "DELETE", strings.TrimSuffix(path, "1") + "2", "", proxmox.Removes, false},
		{"remove the user", "DELETE", "/access/users/writ@pve", "", proxmox.Removes, false},
		{"remove a guest", "DELETE", "/nodes/pve1/qemu/105", "", proxmox.Removes, false},
		{"remove with a parameter", "DELETE", path, "expire=1", proxmox.Removes, false},
		{"protect", "PUT", "/nodes/pve1/qemu/105/config", digest + "&protection=1", proxmox.Protects, true},
		{"protect another", "PUT", "/nodes/pve1/qemu/106/config", digest + "&protection=1", proxmox.Protects, false},
		{"unprotect", "PUT", "/nodes/pve1/qemu/105/config", digest + "&protection=0", proxmox.Protects, false},
		{"protect and more", "PUT", "/nodes/pve1/qemu/105/config", "cores=1&" + digest + "&protection=1", proxmox.Protects, false},
		{"protect whatever is there", "PUT", "/nodes/pve1/qemu/105/config", "protection=1", proxmox.Protects, false},
		{"a query in another form", "PUT", path, "expire=%31", proxmox.Expires, false},
		{"a parameter twice", "PUT", path, "expire=1&expire=1", proxmox.Expires, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			req := op.Request{Method: c.method, Path: c.path, Query: c.query}
			var form url.Values
			if c.kind == proxmox.LogsIn {
				form = login
			}
			if err := proxmox.CheckMutation(c.kind, w, req, form); (err == nil) != c.ok {
				t.Errorf("got %v, want let through: %v", err, c.ok)
			}
			if c.ok && c.kind != proxmox.LogsIn && proxmox.CheckMutation(c.kind, w, req, login) == nil {
				t.Error("it was let through with a body")
			}
		})
	}
	for _, other := range []string{"writ", "", "w-1", strings.ToUpper(w), w + "/x"} {
		req := op.Request{Method: "PUT", Path: "/access/users/writ@pve/token/" + other, Query: "expire=1"}
		if err := proxmox.CheckMutation(proxmox.Expires, other, req, nil); err == nil {
			t.Errorf("a write to token %q, which is no attempt's, was let through", other)
		}
	}
	for name, form := range map[string]url.Values{
		"no body":      nil,
		"another user": {"username": {"root@pam"}, "password": {"x"}},
		"more":         {"username": {"writ@pve"}, "password": {"x"}, "otp": {"1"}},
	} {
		if err := proxmox.CheckMutation(proxmox.LogsIn, w, op.Request{Method: "POST", Path: "/access/ticket"}, form); err == nil {
			t.Errorf("login with %s: let through", name)
		}
	}
}
