package whep

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"

	"gantry/internal/rtc"
)

// sdp writes the answer, or the counter-offer, with our side's transport.
func (p *plan) sdp(local rtc.Parameters, lite bool) (string, error) {
	var id [8]byte
	_, _ = rand.Read(id[:])
	d := sdp.SessionDescription{
		Origin:           sdp.Origin{Username: "-", SessionID: binary.BigEndian.Uint64(id[:]) >> 2, SessionVersion: 1, NetworkType: "IN", AddressType: "IP4", UnicastAddress: "0.0.0.0"},
		SessionName:      "-",
		TimeDescriptions: []sdp.TimeDescription{{}},
	}
	group := "BUNDLE"
	for _, s := range p.sections {
		if s.bundled && !s.rejected {
			group += " " + s.mid
		}
	}
	if group != "BUNDLE" {
		d.WithValueAttribute("group", group)
	}
	d.WithValueAttribute("msid-semantic", " WMS *")
	if lite {
		d.WithPropertyAttribute("ice-lite")
	}
	first := true
	for i := range p.sections {
		s := &p.sections[i]
		m := s.describe(p)
		if !s.rejected {
			transport(m, local, first, p.counter)
			first = false
		}
		d.WithMedia(m)
	}
	b, err := d.Marshal()
	if err != nil {
		return "", fmt.Errorf("write SDP: %w", err)
	}
	return string(b), nil
}

// transport adds ICE and DTLS to a section; candidates are the first's, whose transport all share.
func transport(m *sdp.MediaDescription, local rtc.Parameters, first, offer bool) {
	m.WithValueAttribute("ice-ufrag", local.Ufrag)
	m.WithValueAttribute("ice-pwd", local.Pwd)
	m.WithValueAttribute("ice-options", "trickle")
	m.WithValueAttribute("fingerprint", local.Fingerprint)
	if offer {
		m.WithValueAttribute("setup", "actpass")
		m.WithPropertyAttribute("rtcp-mux-only")
	} else {
		m.WithValueAttribute("setup", "passive") // so that we choose the SRTP profile
	}
	m.WithPropertyAttribute("rtcp-mux")
	m.WithPropertyAttribute("rtcp-rsize")
	if first {
		for _, c := range local.Candidates {
			m.WithValueAttribute("candidate", strings.TrimPrefix(c, "candidate:"))
		}
		m.WithPropertyAttribute("end-of-candidates")
	}
}

// describe writes a section without its transport.
func (s *section) describe(p *plan) *sdp.MediaDescription {
	m := &sdp.MediaDescription{
		MediaName: sdp.MediaName{Media: s.kind, Port: sdp.RangedPort{Value: 9}, Protos: strings.Split(s.proto, "/")},
		ConnectionInformation: &sdp.ConnectionInformation{NetworkType: "IN", AddressType: "IP4",
			Address: &sdp.Address{Address: "0.0.0.0"}},
	}
	if s.rejected {
		m.MediaName.Port.Value = 0
		m.MediaName.Formats = []string{"0"}
		if s.kind == "application" {
			m.MediaName.Formats = []string{"webrtc-datachannel"}
		}
		return m
	}
	pt := strconv.Itoa(int(s.pt))
	m.MediaName.Formats = []string{pt}
	m.WithValueAttribute("mid", s.mid)
	if s.rtpmap != "" {
		m.WithValueAttribute("rtpmap", pt+" "+s.rtpmap)
	}
	if s.track < 0 {
		m.WithPropertyAttribute("inactive")
		return m
	}
	m.WithPropertyAttribute("sendonly")
	m.WithValueAttribute("msid", "gantry "+s.kind)
	if s.fmtp != "" {
		m.WithValueAttribute("fmtp", pt+" "+s.fmtp)
	}
	for _, f := range s.feedback {
		m.WithValueAttribute("rtcp-fb", pt+" "+f)
	}
	if s.captureID != 0 {
		m.WithValueAttribute("extmap", fmt.Sprintf("%d %s", s.captureID, captureURI))
	}
	if s.playoutID != 0 {
		m.WithValueAttribute("extmap", fmt.Sprintf("%d %s", s.playoutID, playoutURI))
	}
	if s.transportID != 0 {
		m.WithValueAttribute("extmap", fmt.Sprintf("%d %s", s.transportID, transportURI))
	}
	ssrcs := []uint32{s.ssrc}
	if s.rtxPT != 0 {
		rtx := strconv.Itoa(int(s.rtxPT))
		m.MediaName.Formats = append(m.MediaName.Formats, rtx)
		m.WithValueAttribute("rtpmap", rtx+" rtx/90000")
		m.WithValueAttribute("fmtp", rtx+" apt="+pt)
		m.WithValueAttribute("ssrc-group", fmt.Sprintf("FID %d %d", s.ssrc, s.rtxSSRC))
		ssrcs = append(ssrcs, s.rtxSSRC)
	}
	for _, ssrc := range ssrcs {
		m.WithValueAttribute("ssrc", fmt.Sprintf("%d cname:%s", ssrc, p.cname))
		m.WithValueAttribute("ssrc", fmt.Sprintf("%d msid:gantry %s", ssrc, s.kind))
	}
	return m
}
