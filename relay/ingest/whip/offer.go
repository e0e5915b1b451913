package whip

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	proto "gantry/internal/proto/whip"
	"gantry/media"
)

const maxLayers = 6 // simulcast encodings of one track

// A section is one m-line of an offer.
type section struct {
	kind    webrtc.RTPCodecType
	mid     string
	choices []choice // what of it can be received, in the publisher's order of preference
	layers  []string // simulcast RIDs, in the offer's order
	// formats are the payload types that the offer restricts a layer to (RFC 8851 §5), by RID.
	formats map[string][]string
	passive bool // the publisher will be the DTLS server
	// undirected: the offer does not say sendonly, nor anything else.
	undirected bool
}

// A choice is a payload type that the publisher may send. Many offer every codec that they could, and send the one that they
// have: its packets tell.
type choice struct {
	codec          media.Codec
	params         webrtc.RTPCodecParameters
	rtx            *webrtc.RTPCodecParameters
	sprop          string // H.264 parameter sets from the SDP
	nack, pli, fir bool
}

// of returns the choices of a layer.
func (s *section) of(rid string) (choices []*choice) {
	types, restricted := s.formats[rid]
	for i := range s.choices {
		if c := &s.choices[i]; !restricted || slices.Contains(types, strconv.Itoa(int(c.params.PayloadType))) {
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
func parseOffer(text string) ([]*section, error) {
	var d sdp.SessionDescription
	if err := d.UnmarshalString(text); err != nil {
		return nil, invalid("%v", err)
	}
	if len(d.MediaDescriptions) == 0 {
		return nil, refused("the offer has no media: offer one video track, one audio track, or both")
	}
	var sections []*section
	bundle, _ := d.Attribute("group")
	for _, m := range d.MediaDescriptions {
		s, err := parseSection(&d, m)
		if err != nil {
			return nil, err
		}
		for _, other := range sections {
			if other.kind == s.kind {
				return nil, refused("the offer has several %v tracks: offer one, with simulcast for several sizes", s.kind)
			}
			if other.mid == s.mid {
				return nil, invalid("two media sections have the mid %q", s.mid)
			}
		}
		sections = append(sections, s)
	}
	if len(sections) > 1 {
		grouped := strings.Fields(bundle)
		for _, s := range sections {
			if len(grouped) == 0 || grouped[0] != "BUNDLE" || !slices.Contains(grouped[1:], s.mid) {
				return nil, refused("the offer does not bundle its media: use the bundle policy max-bundle")
			}
		}
	}
	return sections, nil
}

func parseSection(d *sdp.SessionDescription, m *sdp.MediaDescription) (*section, error) {
	s := &section{}
	switch m.MediaName.Media {
	case "audio":
		s.kind = webrtc.RTPCodecTypeAudio
	case "video":
		s.kind = webrtc.RTPCodecTypeVideo
	case "application":
		return nil, refused("the offer has a data channel: WHIP carries audio and video only")
	default:
		return nil, refused("the offer has %q media: WHIP carries audio and video only", m.MediaName.Media)
	}
	attribute := func(name string) (string, bool) {
		if v, ok := m.Attribute(name); ok {
			return v, true
		}
		return d.Attribute(name)
	}
	var ok bool
	if s.mid, ok = m.Attribute("mid"); !ok || s.mid == "" {
		return nil, invalid("the %v section has no mid", s.kind)
	}
	for _, needed := range []string{"ice-ufrag", "ice-pwd", "fingerprint"} {
		if v, ok := attribute(needed); !ok || v == "" {
			return nil, invalid("the %v section has no %s", s.kind, needed)
		}
	}
	if _, bundleOnly := m.Attribute("bundle-only"); m.MediaName.Port.Value == 0 && !bundleOnly {
		return nil, refused("the %v track is off (port 0): leave it out of the offer", s.kind)
	}
	direction := directionOf(m.Attributes)
	if direction == "" {
		s.undirected = true
		direction = directionOf(d.Attributes)
	}
	if direction == "inactive" || direction == "recvonly" {
		return nil, refused("the %v track is %s: a publisher offers sendonly; to play the stream use its WHEP address", s.kind, direction)
	}
	// RFC 9725 §4.4.2 wants actpass or active of a publisher; ffmpeg's WHIP muxer offers passive all the same.
	setup, _ := attribute("setup")
	s.passive = setup == "passive"
	if _, ok := m.Attribute("rtcp-mux"); !ok {
		return nil, refused("the %v track has RTCP on a port of its own: offer rtcp-mux", s.kind)
	}
	if err := s.choose(m); err != nil {
		return nil, err
	}
	return s, s.simulcast(m)
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
		if codec == media.NoCodec || codec.Audio() != (s.kind == webrtc.RTPCodecTypeAudio) || f.parameter("packetization-mode") == "2" { // interleaved
			continue
		}
		c, err := f.choice(s.kind, pt, codec, formats["*"])
		if err != nil {
			return err
		}
		for _, pt2 := range m.MediaName.Formats {
			if r := formats[pt2]; r != nil && strings.HasPrefix(strings.ToLower(r.rtpmap), "rtx/") && r.parameter("apt") == pt {
				p, err := r.parameters(s.kind, pt2)
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
		if s.kind == webrtc.RTPCodecTypeAudio {
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
var wanted = []webrtc.RTCPFeedback{{Type: "transport-cc"}, {Type: "ccm", Parameter: "fir"}, {Type: "nack"}, {Type: "nack", Parameter: "pli"}}

func (f *format) choice(kind webrtc.RTPCodecType, pt string, codec media.Codec, wild *format) (c choice, err error) {
	c.codec, c.sprop = codec, f.parameter("sprop-parameter-sets")
	if c.params, err = f.parameters(kind, pt); err != nil {
		return c, err
	}
	for _, want := range wanted {
		line := strings.TrimSpace(want.Type + " " + want.Parameter)
		if slices.Contains(f.feedback, line) || wild != nil && slices.Contains(wild.feedback, line) {
			c.params.RTCPFeedback = append(c.params.RTCPFeedback, want)
			c.nack = c.nack || line == "nack"
			c.pli = c.pli || line == "nack pli"
			c.fir = c.fir || line == "ccm fir"
		}
	}
	return c, nil
}

func (f *format) parameters(kind webrtc.RTPCodecType, pt string) (p webrtc.RTPCodecParameters, err error) {
	parts := strings.Split(f.rtpmap, "/")
	number, err := strconv.ParseUint(pt, 10, 7)
	if err != nil || len(parts) < 2 {
		return p, invalid("payload type %q is %q", pt, f.rtpmap)
	}
	rate, err := strconv.ParseUint(parts[1], 10, 32)
	if err != nil || rate < 1000 || rate > 1e6 {
		return p, invalid("payload type %s has the clock rate %q", pt, parts[1])
	}
	p.PayloadType = webrtc.PayloadType(number)
	p.MimeType, p.ClockRate, p.SDPFmtpLine = kind.String()+"/"+parts[0], uint32(rate), f.fmtp
	if len(parts) > 2 {
		channels, err := strconv.ParseUint(parts[2], 10, 8)
		if err != nil {
			return p, invalid("payload type %s has %q channels", pt, parts[2])
		}
		p.Channels = uint16(channels)
	}
	return p, nil
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
	t := media.Track{Codec: c.codec, Packing: media.RTP, ClockRate: int(c.params.ClockRate), RID: rid}
	switch c.codec {
	case media.Opus:
		t.Channels = 2 // always signalled so (RFC 7587 §7); the bitstream says what it is
	case media.H264:
		t.Profile = strings.ToLower((&format{fmtp: c.params.SDPFmtpLine}).parameter("profile-level-id"))
	}
	return t
}

// withDirections says sendrecv where the offer says nothing, which is the same (RFC 8866 §6.7): pion takes only what is said.
func withDirections(text string, sections []*section) string {
	for _, s := range sections {
		if s.undirected {
			mid := "a=mid:" + s.mid
			text = strings.Replace(text, mid+"\r\n", mid+"\r\na=sendrecv\r\n", 1)
		}
	}
	return text
}

// remoteCandidates takes the candidates out of an SDP: pion would refuse the whole of it for one that it cannot use.
func remoteCandidates(text string) (without string, candidates []proto.Candidate) {
	var b strings.Builder
	mid := ""
	first := 0
	for line := range strings.Lines(text) {
		bare := strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(bare, "a=candidate:"):
			if len(candidates) < proto.MaxCandidates {
				candidates = append(candidates, proto.Candidate{MID: mid, Value: bare[2:]})
			}
			continue
		case bare == "a=end-of-candidates":
			continue
		case strings.HasPrefix(bare, "m="):
			first, mid = len(candidates), ""
		case strings.HasPrefix(bare, "a=mid:"):
			mid = bare[len("a=mid:"):]
			for i := first; i < len(candidates); i++ {
				candidates[i].MID = mid
			}
		}
		b.WriteString(line)
	}
	return b.String(), candidates
}

// withCredentials replaces the ICE credentials of an SDP, everywhere.
func withCredentials(text, ufrag, pwd string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "a=ice-ufrag:"):
			line = "a=ice-ufrag:" + ufrag + "\r\n"
		case strings.HasPrefix(line, "a=ice-pwd:"):
			line = "a=ice-pwd:" + pwd + "\r\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

// finishAnswer adds what RFC 9725 §4.4 wants and pion leaves out, and asks for stereo: a sender of Opus sends mono unless the
// receiver says that it prefers two channels (RFC 7587 §6.1). UDP candidates come before TCP's: simple clients, ffmpeg's among
// them, look at the first one alone.
func finishAnswer(text string, sections []*section) string {
	opus := map[string]bool{} // by payload type
	for _, s := range sections {
		for _, c := range s.choices {
			opus[fmt.Sprint(c.params.PayloadType)] = c.codec == media.Opus
		}
	}
	var b, tcp strings.Builder
	for line := range strings.Lines(text) {
		bare := strings.TrimRight(line, "\r\n")
		if strings.HasPrefix(bare, "a=candidate:") {
			if strings.Contains(bare, " tcp ") {
				tcp.WriteString(line)
				continue
			}
		} else {
			b.WriteString(tcp.String())
			tcp.Reset()
		}
		if rest, is := strings.CutPrefix(bare, "a=fmtp:"); is {
			pt, fmtp, _ := strings.Cut(rest, " ")
			if opus[pt] && (&format{fmtp: fmtp}).parameter("stereo") == "" {
				line = strings.TrimSuffix(bare, ";") + ";stereo=1\r\n"
			}
		}
		b.WriteString(line)
		if bare == "a=rtcp-mux" {
			b.WriteString("a=rtcp-mux-only\r\n")
		}
	}
	b.WriteString(tcp.String())
	return b.String()
}
