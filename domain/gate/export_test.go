package gate

import "writ/domain/op"

// Version 1 of the op document can't order ops on volumes, backups and
// storages, so no writ leads Permit to them yet. What it will do with their
// targets is tested through these.

// GrantsForTest is what the rule checks of Permit say.
func (p *Policy) GrantsForTest(role string, c op.Class, t op.Target, f op.Facts) (granted, why string) {
	return p.roles[role].grants(c, t, f)
}

// TouchesSelfForTest is what the check against writ itself says.
func (s Site) TouchesSelfForTest(c op.Class, t op.Target, f op.Facts) string {
	return s.touchesSelf(c, t, f)
}
