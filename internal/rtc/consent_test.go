package rtc

import (
	"net/netip"
	"testing"

	"github.com/pion/stun/v3"
)

var (
	viewerAddr = netip.MustParseAddrPort("192.0.2.7:4000")
	ours       = checks{username: "ourufrag:theirs", password: "our password of some length"}
)

type raw struct {
	t stun.AttrType
	v []byte
}

func (a raw) AddTo(m *stun.Message) error { m.Add(a.t, a.v); return nil }

func check(t testing.TB, setters ...stun.Setter) []byte {
	t.Helper()
	m, err := stun.Build(append([]stun.Setter{stun.TransactionID}, setters...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m.Raw
}

// Checks of a peer that is connected are answered as ICE would; all others are ICE's.
func TestChecks(t *testing.T) {
	name, password := stun.NewUsername(ours.username), stun.NewShortTermIntegrity(ours.password)
	controlling := raw{stun.AttrICEControlling, make([]byte, 8)}
	for _, c := range []struct {
		name     string
		message  []byte
		answered bool
	}{
		{"consent", check(t, stun.BindingRequest, name, controlling, password, stun.Fingerprint), true},
		{"nominated again", check(t, stun.BindingRequest, name, controlling, raw{t: stun.AttrUseCandidate}, password, stun.Fingerprint), true},
		{"of the session before a restart", check(t, stun.BindingRequest, stun.NewUsername("old:theirs"), controlling, password, stun.Fingerprint), false},
		{"without the password", check(t, stun.BindingRequest, name, controlling, stun.NewShortTermIntegrity("guessed"), stun.Fingerprint), false},
		{"without integrity", check(t, stun.BindingRequest, name, controlling, stun.Fingerprint), false},
		{"two that are controlled", check(t, stun.BindingRequest, name, raw{stun.AttrICEControlled, make([]byte, 8)}, password, stun.Fingerprint), false},
		{"an answer to ours", check(t, stun.BindingSuccess, name, controlling, password, stun.Fingerprint), false},
		{"an indication", check(t, stun.NewType(stun.MethodBinding, stun.ClassIndication), name, controlling, password, stun.Fingerprint), false},
		{"no STUN", []byte{0, 1, 2, 3}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			reply := ours.answer(c.message, viewerAddr)
			if (reply != nil) != c.answered {
				t.Fatalf("answered: %v", reply != nil)
			}
			if reply == nil {
				return
			}
			request, m := &stun.Message{Raw: c.message}, &stun.Message{Raw: reply}
			if err := request.Decode(); err != nil {
				t.Fatal(err)
			}
			if err := m.Decode(); err != nil {
				t.Fatal(err)
			}
			var seen stun.XORMappedAddress
			if err := seen.GetFrom(m); err != nil || seen.String() != viewerAddr.String() {
				t.Errorf("seen at %v, %v", seen, err)
			}
			if m.Type != stun.BindingSuccess || m.TransactionID != request.TransactionID || password.Check(m) != nil || stun.Fingerprint.Check(m) != nil {
				t.Errorf("answer %v", m)
			}
		})
	}
	if (&checks{}).answer(check(t, stun.BindingRequest, stun.NewUsername(""), controlling, stun.NewShortTermIntegrity("")), viewerAddr) != nil {
		t.Error("answered before the session began")
	}
}

// What is answered knew the password, whatever else it holds.
func FuzzChecks(f *testing.F) {
	f.Add(check(f, stun.BindingRequest, stun.NewUsername(ours.username), raw{stun.AttrICEControlling, make([]byte, 8)},
		stun.NewShortTermIntegrity(ours.password), stun.Fingerprint))
	f.Add([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42})
	f.Fuzz(func(t *testing.T, b []byte) {
		if ours.answer(b, viewerAddr) == nil {
			return
		}
		m := &stun.Message{Raw: b}
		if m.Decode() != nil || stun.NewShortTermIntegrity(ours.password).Check(m) != nil {
			t.Fatalf("%x was answered", b)
		}
	})
}
