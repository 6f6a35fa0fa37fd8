package proxmox

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Bypass reads users, tokens, roles, pools and the access control list of the
// cluster, and finds who can destroy something without a writ, whose users and
// tokens are told apart. It changes nothing. What it could not read, or finds
// that the host computes otherwise, stands in the result, which is then not
// complete. Now is by the host's clock. Progress, which may be nil, is called
// before each step.
//
// An error means that hardly anything could be read.
func (h *Host) Bypass(ctx context.Context, now time.Time, progress func(what string)) (Bypass, error) {
	if progress == nil {
		progress = func(string) {}
	}
	a, unread, err := h.ReadAccess(ctx, progress)
	if err != nil {
		return Bypass{}, err
	}
	b := a.Bypass(h.users(), now)
	// Only somebody who sees everything gets to know what the host computes for
	// others.
	if len(unread) == 0 {
		unread = h.compareAccess(ctx, a, progress)
	}
	b.Unread = append(b.Unread, unread...)
	b.Complete = len(b.Unread) == 0
	return b, nil
}

// users are those that the service is to the host.
func (h *Host) users() []string {
	reader, _, _ := strings.Cut(h.token, "!")
	if h.service == nil || h.service.user == reader {
		return []string{reader}
	}
	return []string{reader, h.service.user}
}

// ReadAccess reads who may do what on the cluster, and says what of that is
// hidden from the token. Progress is called before each step.
func (h *Host) ReadAccess(ctx context.Context, progress func(what string)) (*Access, []string, error) {
	a := &Access{Users: make(map[string]AccessUser), Roles: make(map[string][]string), Pools: make(map[string][]string)}
	var unread []string
	hide := func(what, privilege, object string) {
		unread = append(unread, fmt.Sprintf("%s: token %s sees only what is its own, give it %s on %s", what, h.token, privilege, object))
	}
	onAccess, err := h.rights(ctx, "/access")
	if err != nil {
		return nil, nil, fmt.Errorf("read the token's own rights: %w", err)
	}
	if !onAccess["Sys.Audit"] {
		hide("the access control list", "Sys.Audit", "/access")
	}
	onGroups, err := h.rights(ctx, "/access/groups")
	if err != nil {
		return nil, nil, fmt.Errorf("read the token's own rights: %w", err)
	}
	if !onGroups["Sys.Audit"] && !onGroups["User.Modify"] {
		hide("users and their tokens", "Sys.Audit", "/access/groups")
	}
	for _, step := range []struct {
		what string
		read func(context.Context, *Access) error
	}{{"roles", h.readRoles}, {"users and their tokens", h.readUsers}, {"the access control list", h.readACL}} {
		progress("read " + step.what)
		if err := step.read(ctx, a); err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", step.what, err)
		}
	}
	progress("read pools")
	hidden, err := h.readPools(ctx, a)
	if err != nil {
		return nil, nil, fmt.Errorf("read pools: %w", err)
	}
	for _, object := range hidden {
		hide("the members of pools", "Pool.Audit", object)
	}
	slices.Sort(unread)
	return a, unread, nil
}

func (h *Host) readList(ctx context.Context, path string, rows any) error {
	r, err := h.get(ctx, h.front, path)
	if err != nil {
		return err
	}
	if err := r.decode(rows); err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	return nil
}

// readRoles reads all roles, which anybody may.
func (h *Host) readRoles(ctx context.Context, a *Access) error {
	var rows []struct {
		Role       string `json:"roleid"`
		Privileges string `json:"privs"`
	}
	if err := h.readList(ctx, "/access/roles", &rows); err != nil {
		return err
	}
	for _, row := range rows {
		a.Roles[row.Role] = splitNames(row.Privileges)
	}
	if len(a.Roles[administrator]) == 0 {
		return fmt.Errorf("the host lists no role %s", administrator)
	}
	return nil
}

func splitNames(list string) []string {
	names := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == ';' })
	slices.Sort(names)
	return names
}

func (h *Host) readUsers(ctx context.Context, a *Access) error {
	var rows []struct {
		User   string `json:"userid"`
		Enable *flag  `json:"enable"`
		Expire number `json:"expire"`
		Groups string `json:"groups"`
		Tokens []struct {
			Name      string `json:"tokenid"`
			Separated *flag  `json:"privsep"`
			Expire    number `json:"expire"`
			Comment   string `json:"comment"`
		} `json:"tokens"`
	}
	if err := h.readList(ctx, "/access/users?full=1", &rows); err != nil {
		return err
	}
	for _, row := range rows {
		u := AccessUser{
			Enabled: row.Enable == nil || bool(*row.Enable), // not said is taken for the worse
			Expire:  int64(row.Expire), Groups: splitNames(row.Groups), Tokens: make(map[string]AccessToken),
		}
		for _, t := range row.Tokens {
			u.Tokens[t.Name] = AccessToken{Separated: t.Separated != nil && bool(*t.Separated), Expire: int64(t.Expire), Comment: t.Comment}
		}
		a.Users[row.User] = u
	}
	if _, listed := a.Users[superuser]; !listed {
		a.Users[superuser] = AccessUser{Enabled: true} // it is there, whoever may see it
	}
	return nil
}

func (h *Host) readACL(ctx context.Context, a *Access) error {
	var rows []struct {
		Path      string `json:"path"`
		Kind      string `json:"type"`
		Who       string `json:"ugid"`
		Role      string `json:"roleid"`
		Propagate *flag  `json:"propagate"`
	}
	if err := h.readList(ctx, aclPath, &rows); err != nil {
		return err
	}
	for _, row := range rows {
		if row.Kind != "user" && row.Kind != "group" && row.Kind != "token" || !strings.HasPrefix(row.Path, "/") {
			return fmt.Errorf("GET %s: an entry at %q is for a %q, which is not known", aclPath, clip(row.Path), clip(row.Kind))
		}
		a.ACL = append(a.ACL, AccessEntry{
			Path: row.Path, Kind: row.Kind, Who: row.Who, Role: row.Role, Propagate: row.Propagate == nil || bool(*row.Propagate),
		})
	}
	return nil
}

// readPools reads the members of all pools, and gives the objects on which the
// token would need Pool.Audit to see the rest.
func (h *Host) readPools(ctx context.Context, a *Access) (hidden []string, err error) {
	var pools []struct {
		ID string `json:"poolid"`
	}
	if err := h.readList(ctx, "/pools", &pools); err != nil {
		return nil, err
	}
	for _, p := range pools {
		var rows []struct {
			Members []struct {
				Type    string `json:"type"`
				VMID    number `json:"vmid"`
				Storage string `json:"storage"`
			} `json:"members"`
		}
		if err := h.readList(ctx, "/pools?poolid="+url.QueryEscape(p.ID), &rows); err != nil {
			return nil, err
		}
		a.Pools[p.ID] = []string{}
		for _, row := range rows {
			for _, m := range row.Members {
				object := "/vms/" + vmidText(int(m.VMID))
				if m.Type == "storage" {
					object = "/storage/" + m.Storage
				}
				if !slices.Contains(a.Pools[p.ID], object) {
					a.Pools[p.ID] = append(a.Pools[p.ID], object)
				}
			}
		}
	}
	objects := []string{"/pool"}
	for _, e := range a.ACL {
		if strings.HasPrefix(e.Path, "/pool/") && !slices.Contains(objects, e.Path) {
			objects = append(objects, e.Path)
		}
	}
	for _, object := range objects {
		path := "/access/permissions?path=" + url.QueryEscape(object)
		var byPath map[string]map[string]flag
		if err := h.readList(ctx, path, &byPath); err != nil {
			return nil, err
		}
		passedOn, held := byPath[object]["Pool.Audit"]
		if !held || object == "/pool" && !bool(passedOn) {
			hidden = append(hidden, object)
		}
	}
	return hidden, nil
}

// compareAccess asks the host what each user and token may do, and says where it
// computes something else than this program. Tokens of attempts are left out:
// there may be thousands.
func (h *Host) compareAccess(ctx context.Context, a *Access, progress func(string)) []string {
	var wrong []string
	for _, user := range slices.Sorted(maps.Keys(a.Users)) {
		all := []string{user}
		for _, name := range slices.Sorted(maps.Keys(a.Users[user].Tokens)) {
			if !attemptForm.MatchString(name) {
				all = append(all, user+"!"+name)
			}
		}
		for _, who := range all {
			progress("ask the host what " + who + " may do")
			if why := h.compareOne(ctx, a, who); why != "" {
				wrong = append(wrong, why)
			}
		}
	}
	return wrong
}

func (h *Host) compareOne(ctx context.Context, a *Access, who string) string {
	var byPath map[string]map[string]flag
	if err := h.readList(ctx, "/access/permissions?userid="+url.QueryEscape(who), &byPath); err != nil {
		return fmt.Sprintf("what the host lets %s do could not be read: %v", who, err)
	}
	objects := slices.Concat(slices.Collect(maps.Keys(byPath)), a.objects())
	slices.Sort(objects)
	for _, object := range slices.Compact(objects) {
		theirs := slices.Sorted(maps.Keys(byPath[object]))
		ours := slices.Sorted(maps.Keys(a.Privileges(who, object)))
		if slices.Equal(ours, theirs) {
			continue
		}
		return fmt.Sprintf("the host says that %s has %q on %s, by what was read it has %q: rights were changed meanwhile, look again",
			who, theirs, object, ours)
	}
	return ""
}
