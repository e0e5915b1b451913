package whep

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pion/sdp/v3"

	"gantry/internal/proto/whip"
	"gantry/internal/rtc"
	"gantry/media"
)

// captureURI names the header extension that says when a picture was captured.
const captureURI = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"

// playoutURI names the header extension that bounds how long the player holds a picture back.
const playoutURI = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"

// transportURI names the header extension that numbers all packets of a viewer, for feedback on each.
const transportURI = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"

// maxSections bounds the media sections of an offer.
const maxSections = 16

// A section is one media section of a session: what is sent in it, if anything.
type section struct {
	mid, kind, proto string
	track            int   // of the stream; -1: nothing is sent
	layers           []int // tracks of the same codec that may be sent in track's place, and track
	pt, rtxPT        uint8
	rtpmap, fmtp     string
	feedback         []string // values of a=rtcp-fb
	nack             bool
	extensions
	ssrc, rtxSSRC uint32
	rejected      bool // port 0: not audio or video
	bundled       bool
}

// extensions are the numbers of a section's RTP header extensions; 0: not sent.
type extensions struct {
	captureID   uint8
	transportID uint8  // of the transport-wide sequence number, where feedback on it is negotiated
	playoutID   uint8  // of the bounds of the player's delay
	playoutMost uint16 // in units of 10 ms
}

// A plan is what a session was negotiated to be.
type plan struct {
	counter  bool // the server's own offer
	sections []section
	cname    string
}

// bound has players hold pictures back by 0 to most, where they negotiate it; 0 leaves it to them.
func (p *plan) bound(most time.Duration) {
	for i := range p.sections {
		s := &p.sections[i]
		if s.playoutMost = uint16(most / playoutUnit); s.playoutMost == 0 {
			s.playoutID = 0
		}
	}
}

// playoutUnit is what playout-delay counts in, with 12 bits for each bound.
const playoutUnit = 10 * time.Millisecond

func (p *plan) audioOnly() bool {
	return !slices.ContainsFunc(p.sections, func(s section) bool { return s.kind == "video" && s.track >= 0 })
}

// has tells whether a track may be sent in one of the sections.
func (p *plan) has(track int) bool {
	return slices.ContainsFunc(p.sections, func(s section) bool { return s.track >= 0 && slices.Contains(s.layers, track) })
}

// bundleMID names the section whose transport all share.
func (p *plan) bundleMID() string {
	for _, s := range p.sections {
		if !s.rejected {
			return s.mid
		}
	}
	return ""
}

// A mismatchError says why an offer that is sound cannot be answered with what the stream has.
type mismatchError struct{ reason string }

func (e *mismatchError) Error() string { return e.reason }

func malformed(format string, args ...any) error { return whip.Errorf(400, format, args...) }

func unfit(format string, args ...any) error { return whip.Errorf(422, format, args...) }

// parse reads an SDP body.
func parse(body string) (*sdp.SessionDescription, error) {
	var d sdp.SessionDescription
	if err := d.UnmarshalString(body); err != nil {
		return nil, malformed("malformed SDP: %v", err)
	}
	if len(d.MediaDescriptions) == 0 {
		return nil, malformed("malformed SDP: no media section")
	}
	if len(d.MediaDescriptions) > maxSections {
		return nil, unfit("more than %d media sections", maxSections)
	}
	return &d, nil
}

// remoteParameters reads ICE and DTLS of the section whose transport is shared.
func remoteParameters(d *sdp.SessionDescription, m *sdp.MediaDescription) (rtc.Parameters, error) {
	r, err := rtc.ReadParameters(d, m, whip.MaxCandidates)
	switch {
	case errors.Is(err, rtc.ErrFingerprint):
		return r, unfit("%v", err)
	case err != nil:
		return r, malformed("malformed SDP: %v", err)
	}
	return r, nil
}

// answerPlan plans the answer to a client's offer. A *mismatchError says that a counter-offer is due.
func answerPlan(offer string, tracks []media.Track) (plan, rtc.Parameters, error) {
	var none rtc.Parameters
	d, err := parse(offer)
	if err != nil {
		return plan{}, none, err
	}
	bundle, _ := d.Attribute("group")
	bundled := strings.Fields(bundle)
	p := plan{cname: newCNAME()}
	var shared *sdp.MediaDescription
	var reason string
	sending := 0
	for i, m := range d.MediaDescriptions {
		kind := m.MediaName.Media
		s := section{kind: kind, proto: strings.Join(m.MediaName.Protos, "/"), track: -1}
		s.mid, _ = m.Attribute("mid")
		if s.mid == "" {
			s.mid = strconv.Itoa(i)
		}
		s.bundled = slices.Contains(bundled, s.mid)
		if kind != "audio" && kind != "video" || m.MediaName.Port.Value == 0 && !s.bundled {
			s.rejected = true
			p.sections = append(p.sections, s)
			continue
		}
		if _, ok := m.Attribute("rtcp-mux"); !ok {
			return plan{}, none, unfit("a=rtcp-mux is needed in every media section")
		}
		if shared == nil {
			shared = m
		} else if len(bundled) < 2 || bundled[0] != "BUNDLE" || !s.bundled {
			return plan{}, none, unfit("all media sections must be in one BUNDLE group")
		}
		s.pt = firstFormat(m)
		s.rtpmap = rtpmaps(m)[s.pt]
		if receives(d, m) {
			track, why := p.fit(&s, m, tracks)
			if s.track = track; track >= 0 {
				sending++
			} else if why != "" && reason == "" {
				reason = why
			}
		}
		p.sections = append(p.sections, s)
	}
	if shared == nil {
		return plan{}, none, &mismatchError{"the offer has no audio and no video section"}
	}
	remote, err := remoteParameters(d, shared)
	if err != nil {
		return plan{}, none, err
	}
	switch setup, _ := rtc.Attribute(d, shared, "setup"); setup {
	case "actpass", "active":
	case "passive":
		return plan{}, none, unfit("a=setup:passive cannot be answered: offer actpass")
	default:
		return plan{}, none, malformed("malformed SDP: a=setup is missing or unknown")
	}
	if reason != "" {
		return plan{}, none, &mismatchError{reason}
	}
	if sending == 0 {
		return plan{}, none, &mismatchError{"the offer has no section that receives what the stream has"}
	}
	return p, remote, nil
}

// receives tells whether the client wants to receive in m.
func receives(d *sdp.SessionDescription, m *sdp.MediaDescription) bool {
	for _, list := range [][]sdp.Attribute{m.Attributes, d.Attributes} {
		for _, a := range list {
			switch a.Key {
			case "recvonly", "sendrecv":
				return true
			case "sendonly", "inactive":
				return false
			}
		}
	}
	return true // RFC 8866 §6.7
}

func firstFormat(m *sdp.MediaDescription) uint8 {
	for _, f := range m.MediaName.Formats {
		if n, err := strconv.ParseUint(f, 10, 7); err == nil {
			return uint8(n)
		}
	}
	return 0
}

// values returns "payload type → value" of an attribute that begins with the payload type.
func values(m *sdp.MediaDescription, key string) map[uint8]string {
	out := map[uint8]string{}
	for _, a := range m.Attributes {
		if a.Key != key {
			continue
		}
		number, value, _ := strings.Cut(a.Value, " ")
		if n, err := strconv.ParseUint(number, 10, 7); err == nil {
			out[uint8(n)] = strings.TrimSpace(value)
		}
	}
	return out
}

func rtpmaps(m *sdp.MediaDescription) map[uint8]string { return values(m, "rtpmap") }

// fit chooses the track and the format for a section of the client: of several codecs the best that the client has. It returns
// -1 and, when the stream has such media but the client cannot take it, the reason.
func (p *plan) fit(s *section, m *sdp.MediaDescription, tracks []media.Track) (int, string) {
	var why string
	found, bestCodec := -1, 0
	maps, fmtps := rtpmaps(m), values(m, "fmtp")
	for i, t := range tracks {
		if t.Codec.Audio() != (s.kind == "audio") || p.sends(i) || t.Packing != media.RTP {
			continue
		}
		if found >= 0 && efficiency(t.Codec) <= bestCodec {
			continue
		}
		best := 0
		for _, f := range m.MediaName.Formats {
			n, err := strconv.ParseUint(f, 10, 7)
			pt := uint8(n)
			if err != nil || rtpmap(t) == "" || !sameMap(maps[pt], rtpmap(t)) {
				continue
			}
			offered := parameters(fmtps[pt])
			if rank := decodes(offered, t); rank > best {
				best = rank
				s.pt, s.rtpmap, s.fmtp = pt, maps[pt], fmtpOf(t, offered)
			}
		}
		if best > 0 {
			found, bestCodec = i, efficiency(t.Codec)
		} else if why == "" {
			why = fmt.Sprintf("the stream's %s is %s, which the offer does not take", s.kind, describe(t))
		}
	}
	if found < 0 {
		return -1, why
	}
	s.complete(m, maps, fmtps)
	offered := parameters(fmtps[s.pt])
	s.layers = p.alike(tracks, found, func(t media.Track) bool { return decodes(offered, t) > 0 })
	return found, ""
}

// alike returns the tracks that can be sent in the place of one, and that one.
func (p *plan) alike(tracks []media.Track, track int, can func(media.Track) bool) []int {
	if tracks[track].Codec.Audio() {
		return []int{track}
	}
	var all []int
	for i, t := range tracks {
		same := t.Codec == tracks[track].Codec && t.Packing == tracks[track].Packing && t.ClockRate == tracks[track].ClockRate
		if i == track || same && !p.sends(i) && can(t) {
			all = append(all, i)
		}
	}
	return all
}

func (p *plan) sends(track int) bool {
	return slices.ContainsFunc(p.sections, func(s section) bool { return s.track == track || slices.Contains(s.layers, track) })
}

// sameMap compares two values of a=rtpmap; the channels of mono may be left out.
func sameMap(a, b string) bool {
	return strings.EqualFold(a, b) || strings.EqualFold(a+"/1", b) || strings.HasPrefix(strings.ToLower(a), "opus/48000") && strings.HasPrefix(b, "opus/")
}

// complete adds what goes with a format: RTX, feedback, header extensions, and our SSRCs.
func (s *section) complete(m *sdp.MediaDescription, maps, fmtps map[uint8]string) {
	var wide, remb bool
	for pt, name := range maps {
		if strings.EqualFold(name, "rtx/90000") && parameters(fmtps[pt])["apt"] == strconv.Itoa(int(s.pt)) {
			s.rtxPT = pt
		}
	}
	for _, a := range m.Attributes {
		switch a.Key {
		case "rtcp-fb":
			number, value, _ := strings.Cut(a.Value, " ")
			if number != "*" && number != strconv.Itoa(int(s.pt)) {
				continue
			}
			switch value {
			case "nack":
				s.nack = true
				s.feedback = append(s.feedback, value)
			case "nack pli", "ccm fir":
				s.feedback = append(s.feedback, value)
			case "transport-cc":
				wide = true
			case "goog-remb":
				remb = true
			}
		case "extmap":
			id, uri, _ := strings.Cut(a.Value, " ")
			id, _, _ = strings.Cut(id, "/")
			n, err := strconv.ParseUint(id, 10, 8)
			if err != nil || n == 0 || n > 14 {
				continue
			}
			switch uri, _, _ = strings.Cut(strings.TrimSpace(uri), " "); {
			case uri == captureURI:
				s.captureID = uint8(n)
			case uri == playoutURI && s.kind != "audio":
				s.playoutID = uint8(n)
			case uri == transportURI && s.kind != "audio": // sound is too little to tell anything
				s.transportID = uint8(n)
			}
		}
	}
	if !wide {
		s.transportID = 0
	}
	s.identify()
	switch {
	case s.transportID != 0:
		s.feedback = append(s.feedback, "transport-cc")
	case remb && s.kind != "audio":
		s.feedback = append(s.feedback, "goog-remb")
	}
}

// identify gives a section that sends its SSRCs, and drops what does not go together.
func (s *section) identify() {
	if s.nack && s.rtxPT == 0 {
		s.extensions = extensions{} // see viewer.header
	}
	if !s.nack {
		s.rtxPT = 0
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	s.ssrc = binary.BigEndian.Uint32(b[:])
	if s.rtxPT != 0 {
		s.rtxSSRC = binary.BigEndian.Uint32(b[4:])
	}
}

// newCNAME returns a short-term persistent CNAME (RFC 7022 §4.2).
func newCNAME() string { return rand.Text()[:16] }

// offerPlan plans an offer of our own for what the stream has.
func offerPlan(tracks []media.Track) (plan, error) {
	p := plan{counter: true, cname: newCNAME()}
	for _, kind := range []string{"video", "audio"} {
		for i, t := range tracks {
			if rtpmap(t) == "" || t.Packing != media.RTP || t.Codec.Audio() != (kind == "audio") {
				continue
			}
			s := section{mid: strconv.Itoa(len(p.sections)), kind: kind, proto: "UDP/TLS/RTP/SAVPF", track: i, bundled: true,
				rtpmap: rtpmap(t), fmtp: fmtpOf(t, nil), extensions: extensions{captureID: 1}, pt: 111}
			if kind == "video" {
				s.pt, s.rtxPT, s.nack = 96, 97, true
				s.transportID = 2
				s.feedback = []string{"nack", "nack pli", "ccm fir", "transport-cc"}
			}
			s.layers = p.alike(tracks, i, func(media.Track) bool { return true })
			s.identify()
			p.sections = append(p.sections, s)
			break
		}
	}
	if len(p.sections) == 0 {
		return p, fmt.Errorf("the stream has nothing that WebRTC can carry")
	}
	return p, nil
}

// accept takes the client's answer to our offer.
func (p *plan) accept(answer string) (rtc.Parameters, error) {
	var none rtc.Parameters
	d, err := parse(answer)
	if err != nil {
		return none, err
	}
	if len(d.MediaDescriptions) != len(p.sections) {
		return none, unfit("the answer has %d media sections, the offer %d", len(d.MediaDescriptions), len(p.sections))
	}
	var shared *sdp.MediaDescription
	for i, m := range d.MediaDescriptions {
		s := &p.sections[i]
		if m.MediaName.Media != s.kind {
			return none, unfit("the answer's sections are not in the offer's order")
		}
		if m.MediaName.Port.Value == 0 || !receives(d, m) {
			s.track = -1
			continue
		}
		if !slices.Contains(m.MediaName.Formats, strconv.Itoa(int(s.pt))) {
			return none, unfit("the answer does not take payload type %d (%s)", s.pt, s.rtpmap)
		}
		if !slices.Contains(m.MediaName.Formats, strconv.Itoa(int(s.rtxPT))) {
			s.rtxPT = 0
		}
		again := section{pt: s.pt, kind: s.kind}
		again.complete(m, rtpmaps(m), values(m, "fmtp"))
		s.nack, s.extensions = again.nack, again.extensions
		if s.nack && s.rtxPT == 0 {
			s.extensions = extensions{}
		}
		if shared == nil {
			shared = m
		}
	}
	if shared == nil {
		return none, unfit("the answer takes nothing")
	}
	remote, err := remoteParameters(d, shared)
	if err != nil {
		return none, err
	}
	if setup, _ := rtc.Attribute(d, shared, "setup"); setup != "active" {
		return none, unfit("answer with a=setup:active")
	}
	return remote, nil
}
