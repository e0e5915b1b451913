package rtc

import (
	"net/netip"

	"github.com/pion/stun/v3"
)

// checks are what a connected peer's connectivity checks must show, by which it keeps consent (RFC 7675). A peer asks every two
// seconds or so: among hundreds, what the ICE agent's queues and goroutines cost for that is more than the answer itself.
type checks struct {
	username string // ours, a colon, the peer's (RFC 8445 §7.2.2)
	password string // ours
	control  bool   // this side controls
}

// answer returns the answer to a check that came from the selected address. nil: the agent must see the message, for it is no
// such check, or not one that changes nothing.
func (c *checks) answer(b []byte, from netip.AddrPort) []byte {
	if c.username == "" || !stun.IsMessage(b) {
		return nil
	}
	m := &stun.Message{Raw: b}
	if m.Decode() != nil || m.Type != stun.BindingRequest {
		return nil
	}
	role := stun.AttrICEControlling
	if c.control {
		role = stun.AttrICEControlled
	}
	var username stun.Username
	if username.GetFrom(m) != nil || string(username) != c.username || !m.Contains(role) {
		return nil
	}
	password := stun.NewShortTermIntegrity(c.password)
	if password.Check(m) != nil {
		return nil
	}
	reply, err := stun.Build(m, stun.BindingSuccess, &stun.XORMappedAddress{IP: from.Addr().Unmap().AsSlice(), Port: int(from.Port())}, password, stun.Fingerprint)
	if err != nil {
		return nil
	}
	return reply.Raw
}
