package proxmox

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// A Bypass is who can still destroy what writ guards without a writ: not by a
// fault of the host, but because the host lets them.
type Bypass struct {
	// Complete is false if something could not be read or does not fit together:
	// then somebody may be missing. Unread says what, and what to do about it.
	Complete bool     `json:"complete"`
	Unread   []string `json:"unread"`
	// Holders are all users and tokens but those of the service, root@pam first.
	Holders []Holder `json:"holders"`
	// Own are the service's users and their tokens, those of attempts aside.
	Own []Holder `json:"own"`
	// Attempts are tokens of attempts that the host would still take. Spent is
	// how many others it remembers.
	Attempts []Holder `json:"attempts"`
	Spent    int      `json:"spent_attempts"`
}

// A Holder is a user or a token that can destroy something.
type Holder struct {
	Who   string      `json:"who"`
	State HolderState `json:"state"`
	// Expires is when the host stops to take it.
	Expires *time.Time `json:"expires,omitempty"`
	// As is the user whose rights a token has whole, because it is not separated
	// from it; By is empty then.
	As string          `json:"as,omitempty"`
	By []GrantedPowers `json:"by"`
}

// A HolderState says whether the host takes a user or token at all.
type HolderState string

// What the host takes, and what it would take again if somebody said so.
const (
	HolderActive   HolderState = "active"
	HolderDisabled HolderState = "disabled"
	HolderExpired  HolderState = "expired"
)

// Bypass finds who can destroy something without a writ. Own are the users of
// the service.
func (a *Access) Bypass(own []string, now time.Time) Bypass {
	b := Bypass{Complete: true, Unread: []string{}, Holders: []Holder{}, Own: []Holder{}, Attempts: []Holder{}}
	for _, user := range slices.SortedFunc(maps.Keys(a.Users), rootFirst) {
		mine := slices.Contains(own, user)
		u := a.Users[user]
		add := func(h Holder) {
			if mine {
				b.Own = append(b.Own, h)
			} else {
				b.Holders = append(b.Holders, h)
			}
		}
		powers := a.powersOf(user)
		if user == superuser {
			powers = []GrantedPowers{{
				Grant: Grant{Path: "/", Role: administrator},
				Lets:  []Power{{Name: "everything", Privileges: []string{}, What: "everything; it alone wipes disks", On: []string{"/"}}},
			}}
		}
		state, until := u.state(now)
		if len(powers) > 0 {
			add(Holder{Who: user, State: state, Expires: until, By: powers})
		}
		for _, name := range slices.Sorted(maps.Keys(u.Tokens)) {
			h, some := a.tokenHolder(user, name, powers, now)
			attempt := mine && attemptForm.MatchString(name)
			switch {
			case attempt && h.State != HolderActive:
				b.Spent++
			case attempt:
				b.Attempts = append(b.Attempts, h)
			case some:
				add(h)
			}
		}
	}
	return b
}

// tokenHolder gives what a token may do; false if that is nothing.
func (a *Access) tokenHolder(user, name string, ofUser []GrantedPowers, now time.Time) (Holder, bool) {
	t := a.Users[user].Tokens[name]
	h := Holder{Who: user + "!" + name, By: []GrantedPowers{}}
	h.State, h.Expires = a.Users[user].state(now)
	if until := expiry(t.Expire); until != nil && (h.Expires == nil || until.Before(*h.Expires)) {
		h.Expires = until
		if h.State == HolderActive && !now.Before(*until) {
			h.State = HolderExpired
		}
	}
	if !t.Separated {
		h.As = user
		return h, len(ofUser) > 0
	}
	if powers := a.powersOf(h.Who); len(powers) > 0 {
		h.By = powers
	}
	return h, len(h.By) > 0
}

func (u AccessUser) state(now time.Time) (HolderState, *time.Time) {
	until := expiry(u.Expire)
	switch {
	case !u.Enabled:
		return HolderDisabled, until
	case until != nil && !now.Before(*until):
		return HolderExpired, until
	}
	return HolderActive, until
}

func expiry(seconds int64) *time.Time {
	if seconds == 0 {
		return nil
	}
	t := time.Unix(seconds, 0).UTC()
	return &t
}

func rootFirst(x, y string) int {
	if (x == superuser) != (y == superuser) {
		return rank(y == superuser) - rank(x == superuser)
	}
	return strings.Compare(x, y)
}
