package gate_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

// A signing is one signature in a random set.
type signing struct {
	person  int
	laptop  bool // with the person's second key
	revoked bool // by a key that was revoked
	broken  bool
}

// enoughPeople is the slow and obvious twin: it goes through every person and
// asks whether any signature speaks for them.
func enoughPeople(sigs []signing, people int, holds func(int) bool, requester int, requesterCounts bool, quorum int) bool {
	n := 0
	for person := range people {
		speaks := false
		for _, s := range sigs {
			speaks = speaks || s.person == person && !s.revoked && !s.broken
		}
		if speaks && holds(person) && (person != requester || requesterCounts) {
			n++
		}
	}
	return n >= quorum
}

func TestQuorumIsOneOfDistinctPeople(t *testing.T) {
	const people = 5
	rnd := rand.New(rand.NewPCG(1, 2))
	signer := func(s signing) signedop.Signer {
		n := byte(10 + s.person)
		if s.laptop {
			n += 20
		}
		if s.revoked {
			n += 40
		}
		return rawSigner(n)
	}
	name := func(person int) string { return fmt.Sprintf("p%d", person) }
	verdicts := make(map[bool]int)
	for round := range 400 {
		doc := gate.PolicyDocument{Version: 1, People: make(map[string]gate.Person), Roles: make(map[string]gate.Role)}
		role := gate.Role{
			MaxLifetime: "24h", RequesterCounts: rnd.IntN(2) == 0,
			Allow: []gate.Rule{{Classes: []op.Class{op.GuestDestroy}, On: gate.On{VMIDs: []string{"105"}}}},
		}
		for person := range people {
			gone := key(signer(signing{person: person, revoked: true}))
			gone.RevokedAt = "2026-01-01T00:00:00Z"
			doc.People[name(person)] = gate.Person{Keys: []gate.Key{
				key(signer(signing{person: person})), key(signer(signing{person: person, laptop: true})), gone,
			}}
			if rnd.IntN(3) > 0 {
				role.Holders = append(role.Holders, name(person))
			}
		}
		if len(role.Holders) == 0 {
			continue
		}
		role.Quorum = 1 + rnd.IntN(len(role.Holders))
		doc.Roles["operator"] = role

		var all []signing
		for person := range people {
			all = append(all, signing{person: person}, signing{person: person, laptop: true}, signing{person: person, revoked: true})
		}
		rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		sigs := all[:1+rnd.IntN(8)]
		requester := rnd.IntN(people + 1) // the last is none of them

		r := allowed()
		r.policy, r.order.RequestedBy, r.signers = doc, name(requester), nil
		for i := range sigs {
			r.signers = append(r.signers, signer(sigs[i]))
		}
		if victim := rnd.IntN(2 * len(sigs)); victim < len(sigs) {
			sigs[victim].broken = true
			r.mangle = breakSignature(victim)
		}
		d := r.decide()
		holds := func(person int) bool { return slices.Contains(role.Holders, name(person)) }
		want := enoughPeople(sigs, people, holds, requester, role.RequesterCounts, role.Quorum)
		verdicts[want]++
		if d.Allowed() != want {
			t.Fatalf("round %d: allowed %t (%s: %s), want %t\nsignatures %+v\nholders %v, quorum %d, requester %s, counts %t",
				round, d.Allowed(), d.Reason, d.Detail, want, sigs, role.Holders, role.Quorum, name(requester), role.RequesterCounts)
		}
		if d.Allowed() && len(d.Signers) < role.Quorum {
			t.Fatalf("round %d: allowed with the signers %v, want at least %d", round, d.Signers, role.Quorum)
		}
	}
	if verdicts[true] < 50 || verdicts[false] < 50 {
		t.Errorf("%d allowed and %d refused: the random sets don't test both", verdicts[true], verdicts[false])
	}
}
