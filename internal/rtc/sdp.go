package rtc

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"strings"

	"github.com/pion/sdp/v3"
)

var (
	// ErrCredentials: a=ice-ufrag or a=ice-pwd is missing or of a wrong length (RFC 8839 §5.4).
	ErrCredentials = errors.New("a=ice-ufrag and a=ice-pwd are missing or of a wrong length")
	// ErrNoFingerprint: a=fingerprint is missing.
	ErrNoFingerprint = errors.New("a=fingerprint is missing")
	// ErrFingerprint: there is none that Peers can check.
	ErrFingerprint = errors.New("a SHA-256 a=fingerprint is needed")
)

// Attribute returns the value of a media section's attribute, or else the session's.
func Attribute(d *sdp.SessionDescription, m *sdp.MediaDescription, key string) (string, bool) {
	if v, ok := m.Attribute(key); ok {
		return v, true
	}
	return d.Attribute(key)
}

// ReadParameters reads ICE and DTLS of the section whose transport is shared, and at most so many candidates.
func ReadParameters(d *sdp.SessionDescription, m *sdp.MediaDescription, candidates int) (Parameters, error) {
	var r Parameters
	r.Ufrag, _ = Attribute(d, m, "ice-ufrag")
	r.Pwd, _ = Attribute(d, m, "ice-pwd")
	if len(r.Ufrag) < 4 || len(r.Pwd) < 22 || len(r.Ufrag) > 256 || len(r.Pwd) > 256 {
		return r, ErrCredentials
	}
	found := false
	for _, list := range [][]sdp.Attribute{m.Attributes, d.Attributes} {
		for _, a := range list {
			if a.Key == "fingerprint" {
				found = true
				if ValidFingerprint(a.Value) && r.Fingerprint == "" {
					r.Fingerprint = a.Value
				}
			}
		}
	}
	switch {
	case !found:
		return r, ErrNoFingerprint
	case r.Fingerprint == "":
		return r, ErrFingerprint
	}
	for _, a := range m.Attributes {
		if a.Key == "candidate" && len(r.Candidates) < candidates {
			r.Candidates = append(r.Candidates, "candidate:"+a.Value)
		}
	}
	return r, nil
}

// NewDescription returns a session description without media, whose sections with these mids are bundled.
func NewDescription(bundled []string, lite bool) *sdp.SessionDescription {
	var id [8]byte
	_, _ = rand.Read(id[:])
	d := &sdp.SessionDescription{
		Origin:           sdp.Origin{Username: "-", SessionID: binary.BigEndian.Uint64(id[:]) >> 2, SessionVersion: 1, NetworkType: "IN", AddressType: "IP4", UnicastAddress: "0.0.0.0"},
		SessionName:      "-",
		TimeDescriptions: []sdp.TimeDescription{{}},
	}
	if len(bundled) > 0 {
		d.WithValueAttribute("group", "BUNDLE "+strings.Join(bundled, " "))
	}
	d.WithValueAttribute("msid-semantic", " WMS *")
	if lite {
		d.WithPropertyAttribute("ice-lite")
	}
	return d
}

// NewSection returns a media section without formats.
func NewSection(kind, proto string) *sdp.MediaDescription {
	return &sdp.MediaDescription{
		MediaName: sdp.MediaName{Media: kind, Port: sdp.RangedPort{Value: 9}, Protos: strings.Split(proto, "/")},
		ConnectionInformation: &sdp.ConnectionInformation{NetworkType: "IN", AddressType: "IP4",
			Address: &sdp.Address{Address: "0.0.0.0"}},
	}
}

// Describe adds ICE and DTLS to a section, setup being "actpass", "active" or "passive". Candidates go into the first alone,
// whose transport all share; UDP's come before TCP's: simple clients, ffmpeg's among them, look at the first one alone.
func (l Parameters) Describe(m *sdp.MediaDescription, setup string, first bool) {
	m.WithValueAttribute("ice-ufrag", l.Ufrag)
	m.WithValueAttribute("ice-pwd", l.Pwd)
	m.WithValueAttribute("ice-options", "trickle")
	m.WithValueAttribute("fingerprint", l.Fingerprint)
	m.WithValueAttribute("setup", setup)
	m.WithPropertyAttribute("rtcp-mux")
	m.WithPropertyAttribute("rtcp-rsize")
	if !first {
		return
	}
	for _, tcp := range []bool{false, true} {
		for _, c := range l.Candidates {
			if strings.Contains(c, " tcp ") == tcp {
				m.WithValueAttribute("candidate", strings.TrimPrefix(c, "candidate:"))
			}
		}
	}
	m.WithPropertyAttribute("end-of-candidates")
}
