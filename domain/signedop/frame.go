package signedop

import (
	"time"

	"writ/domain/op"
)

// A frame is what every kind of document says: which op it is about, to whom
// it speaks, who signs it, when it holds and why.
type frame struct {
	nonce                op.Nonce
	audience             string
	role, requestedBy    string
	notBefore, expiresAt time.Time
	reason               string
}

func (f frame) check() error {
	if _, err := op.ParseNonce(string(f.nonce)); err != nil {
		return inField("nonce", err)
	}
	if err := checkAudience(f.audience); err != nil {
		return err
	}
	if err := CheckName(f.role); err != nil {
		return inField("role", err)
	}
	if err := CheckName(f.requestedBy); err != nil {
		return inField("requested_by", err)
	}
	if err := f.checkTimes(); err != nil {
		return err
	}
	if err := checkText(f.reason, MaxReasonBytes); err != nil {
		return inField("reason", err)
	}
	return nil
}

func (f frame) checkTimes() error {
	for _, t := range []struct {
		field string
		at    time.Time
	}{{"not_before", f.notBefore}, {"expires_at", f.expiresAt}} {
		_, offset := t.at.Zone()
		if t.at.IsZero() || offset != 0 || t.at.Nanosecond() != 0 || t.at.Year() < 1 || t.at.Year() > 9999 {
			return malformed(t.field, "%s is %v", t.at.Format(time.RFC3339Nano), errTimeForm)
		}
	}
	if !f.notBefore.Before(f.expiresAt) {
		return malformed("expires_at", "%s is not after not_before, %s", f.expiresAt.Format(timeLayout), f.notBefore.Format(timeLayout))
	}
	return nil
}
