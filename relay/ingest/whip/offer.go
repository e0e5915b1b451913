package whip

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"

	proto "gantry/internal/proto/whip"
	"gantry/internal/rtc"
	"gantry/media"
)

const maxLayers = 6 // simulcast encodings of one track

// An offer is what a publisher wants to send.
type offer struct {
	sections []*section
	bundled  []string // mids
	remote   rtc.Parameters
	passive  bool // the publisher will be the DTLS server
}

// A section is one m-line of an offer.
type section struct {
	kind, mid, proto string
	choices          []choice // what of it can be received, in the publisher's order of preference
	layers           []string // simulcast RIDs, in the offer's order
	// formats are the payload types that the offer restricts a layer to (RFC 8851 §5), by RID.
	formats map[string][]string
	extensions
	repairs map[uint32]uint32 // SSRC of an RTX stream → that of what it repairs, as far as the offer says so
}

// extensions are the numbers of a section's RTP header extensions; 0: not negotiated.
type extensions struct {
	mid, rid, repaired, transport, capture uint8
	lines                                  []string // a=extmap of the answer
}

// A choice is a payload type that the publisher may send. Many offer every codec that they could, and send the one that they
// have: its packets tell.
type choice struct {
	codec          media.Codec
	params         payload
	rtx            *payload
	sprop          string // H.264 parameter sets from the SDP
	nack, pli, fir bool
}

// A payload is what SDP says of a payload type.
type payload struct {
	number       uint8
	rate         int // Hz
	rtpmap, fmtp string
	feedback     []string // that we give
}

// of returns the choices of a layer.
func (s *section) of(rid string) (choices []*choice) {
	types, restricted := s.formats[rid]
	for i := range s.choices {
		if c := &s.choices[i]; !restricted || slices.Contains(types, strconv.Itoa(int(c.params.number))) {
			choices = append(choices, c)
		}
	}
	return choices
}

// settled tells whether all choices are of one codec.
func settled(choices []*choice) bool {
	return !slices.ContainsFunc(choices, func(c *choice) bool { return c.codec != choices[0].codec })
}

func invalid(format string, args ...any) error {
	return proto.Errorf(http.StatusBadRequest, "the offer is malformed: "+format, args...)
}

func refused(format string, args ...any) error {
	return proto.Errorf(http.StatusUnprocessableEntity, format, args...)
}

// parseOffer reads what a publisher offers, or says what it must offer instead (RFC 9725 §4.2 and §4.4).
func parseOffer(text string) (*offer, error) {
	var d sdp.SessionDescription
	if err := d.UnmarshalString(text); err != nil {
		return nil, invalid("%v", err)
	}
	if len(d.MediaDescriptions) == 0 {
		return nil, refused("the offer has no media: offer one video track, one audio track, or both")
	}
	o := &offer{}
	for _, m := range d.MediaDescriptions {
		s, err := parseSection(&d, m)
		if err != nil {
			return nil, err
		}
		for _, other := range o.sections {
			if other.kind == s.kind {
				return nil, refused("the offer has several %v tracks: offer one, with simulcast for several sizes", s.kind)
			}
			if other.mid == s.mid {
				return nil, invalid("two media sections have the mid %q", s.mid)
			}
		}
		o.sections = append(o.sections, s)
	}
	group, _ := d.Attribute("group")
	grouped := strings.Fields(group)
	if len(grouped) > 0 && grouped[0] == "BUNDLE" {
		for _, s := range o.sections {
			if slices.Contains(grouped[1:], s.mid) {
				o.bundled = append(o.bundled, s.mid)
			}
		}
	}
	if len(o.sections) > 1 && len(o.bundled) < len(o.sections) {
		return nil, refused("the offer does not bundle its media: use the bundle policy max-bundle")
	}
	return o, o.transport(&d)
}

// transport reads how the publisher is reached: what the first section says goes for all.
func (o *offer) transport(d *sdp.SessionDescription) (err error) {
	first := d.MediaDescriptions[0]
	// RFC 9725 §4.4.2 wants actpass or active of a publisher; ffmpeg's WHIP muxer offers passive all the same.
	setup, _ := rtc.Attribute(d, first, "setup")
	o.passive = setup == "passive"
	o.remote, err = rtc.ReadParameters(d, first, proto.MaxCandidates)
	switch {
	case errors.Is(err, rtc.ErrFingerprint):
		return refused("%v", err)
	case err != nil:
		return invalid("%v", err)
	}
	return nil
}

func parseSection(d *sdp.SessionDescription, m *sdp.MediaDescription) (*section, error) {
	s := &section{kind: m.MediaName.Media, proto: strings.Join(m.MediaName.Protos, "/")}
	switch s.kind {
	case "audio", "video":
	case "application":
		return nil, refused("the offer has a data channel: WHIP carries audio and video only")
	default:
		return nil, refused("the offer has %q media: WHIP carries audio and video only", s.kind)
	}
	var ok bool
	if s.mid, ok = m.Attribute("mid"); !ok || s.mid == "" {
		return nil, invalid("the %v section has no mid", s.kind)
	}
	for _, needed := range []string{"ice-ufrag", "ice-pwd", "fingerprint"} {
		if v, ok := rtc.Attribute(d, m, needed); !ok || v == "" {
			return nil, invalid("the %v section has no %s", s.kind, needed)
		}
	}
	if _, bundleOnly := m.Attribute("bundle-only"); m.MediaName.Port.Value == 0 && !bundleOnly {
		return nil, refused("the %v track is off (port 0): leave it out of the offer", s.kind)
	}
	direction := directionOf(m.Attributes)
	if direction == "" {
		direction = directionOf(d.Attributes)
	}
	if direction == "inactive" || direction == "recvonly" {
		return nil, refused("the %v track is %s: a publisher offers sendonly; to play the stream use its WHEP address", s.kind, direction)
	}
	if _, ok := m.Attribute("rtcp-mux"); !ok {
		return nil, refused("the %v track has RTCP on a port of its own: offer rtcp-mux", s.kind)
	}
	if err := s.choose(m); err != nil {
		return nil, err
	}
	s.extend(m)
	return s, s.simulcast(m)
}

// extend takes the header extensions that tell us something, and which SSRC repairs which (RFC 5576 §4.2).
func (s *section) extend(m *sdp.MediaDescription) {
	known := map[string]*uint8{sdp.SDESMidURI: &s.extensions.mid, sdp.SDESRTPStreamIDURI: &s.rid, sdp.SDESRepairRTPStreamIDURI: &s.repaired,
		sdp.TransportCCURI: &s.extensions.transport, captureURI: &s.capture}
	for _, a := range m.Attributes {
		fields := strings.Fields(a.Value)
		switch {
		case a.Key == "extmap" && len(fields) > 1:
			number, direction, _ := strings.Cut(fields[0], "/")
			n, err := strconv.ParseUint(number, 10, 8)
			to := known[fields[1]]
			if err != nil || n == 0 || n > 14 || to == nil || *to != 0 || direction == "recvonly" || direction == "inactive" {
				continue
			}
			if direction == "sendonly" {
				number += "/recvonly"
			}
			*to = uint8(n)
			s.lines = append(s.lines, number+" "+fields[1])
		case a.Key == "ssrc-group" && len(fields) == 3 && fields[0] == "FID":
			original, err1 := strconv.ParseUint(fields[1], 10, 32)
			repair, err2 := strconv.ParseUint(fields[2], 10, 32)
			if err1 == nil && err2 == nil && len(s.repairs) < maxSources {
				if s.repairs == nil {
					s.repairs = map[uint32]uint32{}
				}
				s.repairs[uint32(repair)] = uint32(original)
			}
		}
	}
}

func directionOf(attributes []sdp.Attribute) string {
	for _, a := range attributes {
		switch a.Key {
		case "sendonly", "sendrecv", "recvonly", "inactive":
			return a.Key
		}
	}
	return ""
}

// choose takes the codecs of the publisher's list that can be relayed.
func (s *section) choose(m *sdp.MediaDescription) error {
	formats := map[string]*format{}
	at := func(pt string) *format {
		if formats[pt] == nil {
			formats[pt] = &format{}
		}
		return formats[pt]
	}
	for _, a := range m.Attributes {
		pt, value, _ := strings.Cut(a.Value, " ")
		switch a.Key {
		case "rtpmap":
			at(pt).rtpmap = value
		case "fmtp":
			at(pt).fmtp = value
		case "rtcp-fb":
			at(pt).feedback = append(at(pt).feedback, value)
		}
	}
	var names []string
	for _, pt := range m.MediaName.Formats {
		f := formats[pt]
		if f == nil || f.rtpmap == "" {
			continue
		}
		name, _, _ := strings.Cut(f.rtpmap, "/")
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
		codec := codecNames[strings.ToUpper(name)]
		if codec == media.NoCodec || codec.Audio() != (s.kind == "audio") || f.parameter("packetization-mode") == "2" { // interleaved
			continue
		}
		c, err := f.choice(pt, codec, formats["*"])
		if err != nil {
			return err
		}
		for _, pt2 := range m.MediaName.Formats {
			if r := formats[pt2]; r != nil && strings.HasPrefix(strings.ToLower(r.rtpmap), "rtx/") && r.parameter("apt") == pt {
				p, err := r.payload(pt2)
				if err != nil {
					return err
				}
				c.rtx = &p
				break
			}
		}
		s.choices = append(s.choices, c)
	}
	if len(s.choices) == 0 {
		known := "H264, H265, AV1, VP9 or VP8"
		if s.kind == "audio" {
			known = "opus"
		}
		return refused("the %v track is offered as %s: encode it as %s", s.kind, strings.Join(names, ", "), known)
	}
	return nil
}

var codecNames = map[string]media.Codec{"H264": media.H264, "H265": media.H265, "AV1": media.AV1, "VP8": media.VP8, "VP9": media.VP9, "OPUS": media.Opus}

// A format is what an SDP says of one payload type.
type format struct {
	rtpmap, fmtp string
	feedback     []string
}

func (f *format) parameter(name string) string {
	for p := range strings.SplitSeq(f.fmtp, ";") {
		if key, value, _ := strings.Cut(strings.TrimSpace(p), "="); strings.EqualFold(key, name) {
			return value
		}
	}
	return ""
}

// wanted is the feedback that we give where the publisher takes it.
var wanted = []string{"transport-cc", "ccm fir", "nack", "nack pli"}

func (f *format) choice(pt string, codec media.Codec, wild *format) (c choice, err error) {
	c.codec, c.sprop = codec, f.parameter("sprop-parameter-sets")
	if c.params, err = f.payload(pt); err != nil {
		return c, err
	}
	for _, want := range wanted {
		if slices.Contains(f.feedback, want) || wild != nil && slices.Contains(wild.feedback, want) {
			c.params.feedback = append(c.params.feedback, want)
			c.nack = c.nack || want == "nack"
			c.pli = c.pli || want == "nack pli"
			c.fir = c.fir || want == "ccm fir"
		}
	}
	return c, nil
}

func (f *format) payload(pt string) (p payload, err error) {
	parts := strings.Split(f.rtpmap, "/")
	number, err := strconv.ParseUint(pt, 10, 7)
	if err != nil || len(parts) < 2 {
		return p, invalid("payload type %q is %q", pt, f.rtpmap)
	}
	rate, err := strconv.ParseUint(parts[1], 10, 32)
	if err != nil || rate < 1000 || rate > 1e6 {
		return p, invalid("payload type %s has the clock rate %q", pt, parts[1])
	}
	if len(parts) > 2 {
		if _, err := strconv.ParseUint(parts[2], 10, 8); err != nil {
			return p, invalid("payload type %s has %q channels", pt, parts[2])
		}
	}
	return payload{number: uint8(number), rate: int(rate), rtpmap: f.rtpmap, fmtp: f.fmtp}, nil
}

// simulcast reads the layers that are sent (RFC 8853 §5.1). Of alternatives for a layer the first is taken.
func (s *section) simulcast(m *sdp.MediaDescription) error {
	value, ok := m.Attribute("simulcast")
	if !ok {
		return nil
	}
	fields := strings.Fields(value)
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i] != "send" {
			continue
		}
		for layer := range strings.SplitSeq(fields[i+1], ";") {
			rid, _, _ := strings.Cut(layer, ",")
			rid = strings.TrimPrefix(rid, "~") // paused at first
			if rid == "" || len(rid) > 64 || slices.Contains(s.layers, rid) {
				return invalid("a=simulcast:%s", value)
			}
			s.layers = append(s.layers, rid)
		}
	}
	s.restrict(m)
	for _, rid := range s.layers {
		if len(s.of(rid)) == 0 {
			return refused("the layer %q is in a codec that is not received", rid)
		}
	}
	if len(s.layers) > maxLayers {
		return refused("the %v track has %d layers: offer at most %d", s.kind, len(s.layers), maxLayers)
	}
	return nil
}

// restrict reads which payload types each layer may have, as publishers say whose layers are in different codecs.
func (s *section) restrict(m *sdp.MediaDescription) {
	for _, a := range m.Attributes {
		rid, rest, _ := strings.Cut(a.Value, " ")
		if a.Key != "rid" || !slices.Contains(s.layers, rid) {
			continue
		}
		_, restrictions, _ := strings.Cut(rest, " ")
		if types := (&format{fmtp: restrictions}).parameter("pt"); types != "" {
			if s.formats == nil {
				s.formats = map[string][]string{}
			}
			s.formats[rid] = strings.Split(types, ",")
		}
	}
}

// track returns what is published of a choice.
func (c *choice) track(rid string) media.Track {
	t := media.Track{Codec: c.codec, Packing: media.RTP, ClockRate: c.params.rate, RID: rid}
	switch c.codec {
	case media.Opus:
		t.Channels = 2 // always signalled so (RFC 7587 §7); the bitstream says what it is
	case media.H264:
		t.Profile = strings.ToLower((&format{fmtp: c.params.fmtp}).parameter("profile-level-id"))
	}
	return t
}
