package whip

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"

	"gantry/internal/rtc"
	"gantry/media"
)

// answer writes the SDP answer (RFC 9725 §4.4), with our side's transport.
func (o *offer) answer(local rtc.Parameters, lite bool) (string, error) {
	d := rtc.NewDescription(o.bundled, lite)
	setup := "passive" // so that the cheapest cipher that both have is taken (RFC 7714; RFC 5764 §4.1.2)
	if o.passive {
		setup = "active"
	}
	for i, s := range o.sections {
		m := s.describe()
		local.Describe(m, setup, i == 0)
		m.WithPropertyAttribute("rtcp-mux-only")
		d.WithMedia(m)
	}
	b, err := d.Marshal()
	if err != nil {
		return "", fmt.Errorf("write SDP: %w", err)
	}
	return string(b), nil
}

// describe writes a section without its transport.
func (s *section) describe() *sdp.MediaDescription {
	m := rtc.NewSection(s.kind, s.proto)
	m.WithValueAttribute("mid", s.mid)
	m.WithPropertyAttribute("recvonly")
	for _, line := range s.lines {
		m.WithValueAttribute("extmap", line)
	}
	for i := range s.choices {
		c := &s.choices[i]
		c.params.describe(m, c.codec == media.Opus)
		if c.rtx != nil {
			c.rtx.describe(m, false)
		}
	}
	for _, rid := range s.layers {
		m.WithValueAttribute("rid", rid+" recv")
	}
	if len(s.layers) > 0 {
		m.WithValueAttribute("simulcast", "recv "+strings.Join(s.layers, ";"))
	}
	return m
}

// describe adds a payload type. A sender of Opus sends mono unless the receiver says that it prefers two channels (RFC 7587
// §6.1), so we ask for stereo.
func (p *payload) describe(m *sdp.MediaDescription, opus bool) {
	number := strconv.Itoa(int(p.number))
	m.MediaName.Formats = append(m.MediaName.Formats, number)
	m.WithValueAttribute("rtpmap", number+" "+p.rtpmap)
	fmtp := strings.TrimSuffix(p.fmtp, ";")
	if opus && (&format{fmtp: fmtp}).parameter("stereo") == "" {
		fmtp = strings.TrimPrefix(fmtp+";stereo=1", ";")
	}
	if fmtp != "" {
		m.WithValueAttribute("fmtp", number+" "+fmtp)
	}
	for _, f := range p.feedback {
		m.WithValueAttribute("rtcp-fb", number+" "+f)
	}
}
