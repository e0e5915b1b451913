package whep

import (
	"fmt"
	"strconv"

	"github.com/pion/sdp/v3"

	"gantry/internal/rtc"
)

// sdp writes the answer, or the counter-offer, with our side's transport.
func (p *plan) sdp(local rtc.Parameters, lite bool) (string, error) {
	var bundled []string
	for _, s := range p.sections {
		if s.bundled && !s.rejected {
			bundled = append(bundled, s.mid)
		}
	}
	d := rtc.NewDescription(bundled, lite)
	setup := "passive" // so that we choose the SRTP profile
	if p.counter {
		setup = "actpass"
	}
	first := true
	for i := range p.sections {
		s := &p.sections[i]
		m := s.describe(p)
		if !s.rejected {
			local.Describe(m, setup, first)
			if p.counter {
				m.WithPropertyAttribute("rtcp-mux-only")
			}
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

// describe writes a section without its transport.
func (s *section) describe(p *plan) *sdp.MediaDescription {
	m := rtc.NewSection(s.kind, s.proto)
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
