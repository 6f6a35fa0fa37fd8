package gate_test

import (
	"crypto/ed25519"
	"testing"

	"writ/domain/gate"
	"writ/domain/signedop"
)

// What the gate costs an op from arrival to launch: one Authenticate and two
// Permits. A bare verification of the same bytes stands beside it.
func BenchmarkGate(b *testing.B) {
	p := must(gate.Compile(document(), serial))
	b.Run("one bare ed25519.Verify", func(b *testing.B) {
		message := must(signedop.PAEOf(allowed().raw()))
		key := public(private(1))
		sig := ed25519.Sign(private(1), message)
		b.ReportAllocs()
		for b.Loop() {
			if !ed25519.Verify(key, message, sig) {
				b.Fatal("the signature does not verify")
			}
		}
	})
	for _, c := range []struct {
		name   string
		signer signedop.Signer
	}{{"raw", alice}, {"SSHSIG", bob}} {
		r := allowed()
		r.order.Role, r.signers = "solo", []signedop.Signer{c.signer}
		sub := r.submission()
		b.Run(c.name+" signature: Authenticate, Permit, Permit", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				a, d := gate.Authenticate(r.now, p, r.site, sub)
				if a == nil {
					b.Fatalf("refused: %s: %s", d.Reason, d.Detail)
				}
				for range 2 {
					if d := gate.Permit(r.now, p, r.site, a, r.facts); !d.Allowed() {
						b.Fatalf("refused: %s: %s", d.Reason, d.Detail)
					}
				}
			}
		})
		b.Run(c.name+" signature: one more Permit", func(b *testing.B) {
			a, _ := gate.Authenticate(r.now, p, r.site, sub)
			b.ReportAllocs()
			for b.Loop() {
				if d := gate.Permit(r.now, p, r.site, a, r.facts); !d.Allowed() {
					b.Fatalf("refused: %s: %s", d.Reason, d.Detail)
				}
			}
		})
	}
}
