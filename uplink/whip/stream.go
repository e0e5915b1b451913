package whip

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	"gantry/media"
)

// absCaptureTimeURI is the header extension that carries when a picture was taken.
const absCaptureTimeURI = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"

// Payload types that the offer proposes. Each of video's has that of its retransmissions after it.
const (
	h264PayloadType  = 96
	h265PayloadType  = 98
	audioPayloadType = 111
)

// maxRID is how long the name of a layer may be: it goes in header extensions (RFC 8852 §3.3).
const maxRID = 16

// A stream is one track on the wire. It is pion's TrackLocal: Bind tells what was negotiated.
type stream struct {
	track  media.Track
	index  int // of the track in the Program
	msid   string
	rid    string // of a simulcast layer; empty: the track is its only encoding
	clock  rtpClock
	mid    string // after the offer
	sender *webrtc.RTPSender

	known atomic.Bool // the server reports on it, so it knows which layer the SSRC is

	once  sync.Once
	ready chan struct{} // closed when wire is set
	wire  wire
	lane  atomic.Pointer[lane] // once media flows
}

// wire is what the answer settled for one stream. Identifiers that are 0 were not negotiated.
type wire struct {
	out                  webrtc.TrackLocalWriter
	ssrc, rtxSSRC        uint32
	payloadType, rtxType uint8
	twcc, capture        uint8 // header extension identifiers
	midExt, ridExt, rrid uint8
}

func newStream(t media.Track, msid string) (*stream, error) {
	if t.Packing != media.AccessUnits {
		return nil, fmt.Errorf("%v track is packed as RTP, WHIP takes access units", t.Codec)
	}
	var rate uint32
	switch t.Codec {
	case media.H264:
		if len(t.Profile) != 6 {
			return nil, fmt.Errorf("H264 track has no profile-level-id (%q)", t.Profile)
		}
		rate = 90000
	case media.H265:
		rate = 90000
	case media.Opus:
		rate = 48000
	default:
		return nil, fmt.Errorf("WHIP does not carry %v here", t.Codec)
	}
	return &stream{track: t, msid: msid, clock: rtpClock{rate: rate, base: rand.Uint32()}, ready: make(chan struct{})}, nil
}

// newStreams makes the streams of a programme, in its order. WHIP has at most one track of each kind (RFC 9725 §4.4.2), and one of
// video may have several layers (RFC 8853), each a track of the Programme with another RID.
func newStreams(tracks []media.Track, msid string) ([]*stream, error) {
	var streams []*stream
	seen := map[webrtc.RTPCodecType]int{}
	rids := map[string]bool{}
	for i, t := range tracks {
		s, err := newStream(t, msid)
		if err != nil {
			return nil, err
		}
		s.index = i
		seen[s.Kind()]++
		rids[t.RID] = true
		streams = append(streams, s)
	}
	if seen[webrtc.RTPCodecTypeAudio] > 1 {
		return nil, fmt.Errorf("two audio tracks, WHIP carries one")
	}
	if n := seen[webrtc.RTPCodecTypeVideo]; n > 1 {
		for _, s := range streams {
			if s.Kind() == webrtc.RTPCodecTypeVideo {
				if s.rid = s.track.RID; !validRID(s.rid) {
					return nil, fmt.Errorf("the layer %q is not named by 1 to %d letters and digits", s.rid, maxRID)
				}
			}
		}
		if delete(rids, ""); len(rids) < n {
			return nil, fmt.Errorf("two video tracks of one name, WHIP carries one of each")
		}
	}
	level(streams)
	if len(streams) == 0 {
		return nil, fmt.Errorf("programme has no track")
	}
	return streams, nil
}

// validRID tells whether a name is one that RFC 8852 §3 allows.
func validRID(rid string) bool {
	return rid != "" && len(rid) <= maxRID && !strings.ContainsFunc(rid, func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	})
}

// level gives all layers in H.264 the profile-level-id of the most demanding: they have one payload type.
func level(streams []*stream) {
	most := ""
	for _, s := range streams {
		if id := strings.ToLower(s.track.Profile); s.track.Codec == media.H264 {
			if most == "" || id[:2] > most[:2] {
				most = id[:4] + most[min(4, len(most)):]
			}
			if len(most) < 6 || id[4:] > most[4:] {
				most = most[:4] + id[4:]
			}
		}
	}
	for _, s := range streams {
		if s.track.Codec == media.H264 {
			s.track.Profile = most
		}
	}
}

// mime is the codec's name in SDP.
func (s *stream) mime() string {
	switch s.track.Codec {
	case media.Opus:
		return webrtc.MimeTypeOpus
	case media.H265:
		return webrtc.MimeTypeH265
	}
	return webrtc.MimeTypeH264
}

// payloadType is what the offer proposes for the stream.
func (s *stream) payloadType() webrtc.PayloadType {
	switch s.track.Codec {
	case media.Opus:
		return audioPayloadType
	case media.H265:
		return h265PayloadType
	}
	return h264PayloadType
}

// register offers the stream's codec; another layer may have done so.
func (s *stream) register(m *webrtc.MediaEngine) error {
	if s.track.Codec == media.Opus {
		fmtp := "minptime=10;useinbandfec=1"
		if s.track.Channels != 1 {
			fmtp += ";stereo=1;sprop-stereo=1"
		}
		return m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: audioPayloadType, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: fmtp, // RFC 7587 §7: always opus/48000/2
			// Browsers do not ask for sound again, as a call cannot wait for it; a relay that holds video for it can.
			RTCPFeedback: []webrtc.RTCPFeedback{{Type: "transport-cc"}, {Type: "nack"}},
		}}, webrtc.RTPCodecTypeAudio)
	}
	fmtp := "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=" + s.track.Profile
	if s.track.Codec == media.H265 {
		fmtp = "" // main profile, one stream (RFC 7798 §7.1); receivers read the level in the stream
	}
	err := m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: s.payloadType(), RTPCodecCapability: webrtc.RTPCodecCapability{
		MimeType: s.mime(), ClockRate: 90000, SDPFmtpLine: fmtp,
		RTCPFeedback: []webrtc.RTCPFeedback{{Type: "goog-remb"}, {Type: "transport-cc"}, {Type: "ccm", Parameter: "fir"},
			{Type: "nack"}, {Type: "nack", Parameter: "pli"}},
	}}, webrtc.RTPCodecTypeVideo)
	if err != nil {
		return err
	}
	return m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: s.payloadType() + 1, RTPCodecCapability: webrtc.RTPCodecCapability{
		MimeType: webrtc.MimeTypeRTX, ClockRate: 90000, SDPFmtpLine: "apt=" + strconv.Itoa(int(s.payloadType())),
	}}, webrtc.RTPCodecTypeVideo)
}

// Bind is called by pion when the answer is known.
func (s *stream) Bind(ctx webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	var codec *webrtc.RTPCodecParameters
	w := wire{out: ctx.WriteStream(), ssrc: uint32(ctx.SSRC())}
	for _, c := range ctx.CodecParameters() {
		if strings.EqualFold(c.MimeType, s.mime()) && codec == nil {
			codec = &c
			w.payloadType = uint8(c.PayloadType)
		}
	}
	if codec == nil {
		return webrtc.RTPCodecParameters{}, fmt.Errorf("server takes no %v", s.track.Codec)
	}
	for _, c := range ctx.CodecParameters() {
		if strings.EqualFold(c.MimeType, webrtc.MimeTypeRTX) && c.SDPFmtpLine == "apt="+strconv.Itoa(int(codec.PayloadType)) {
			w.rtxType, w.rtxSSRC = uint8(c.PayloadType), uint32(ctx.SSRCRetransmission())
		}
	}
	if w.rtxSSRC == 0 {
		w.rtxType = 0
	}
	for _, e := range ctx.HeaderExtensions() {
		switch e.URI {
		case sdp.TransportCCURI:
			w.twcc = uint8(e.ID)
		case absCaptureTimeURI:
			w.capture = uint8(e.ID)
		case sdp.SDESMidURI:
			w.midExt = uint8(e.ID)
		case sdp.SDESRTPStreamIDURI:
			w.ridExt = uint8(e.ID)
		case sdp.SDESRepairRTPStreamIDURI:
			w.rrid = uint8(e.ID)
		}
	}
	s.once.Do(func() {
		s.wire = w
		close(s.ready)
	})
	return *codec, nil
}

// Unbind is called by pion when the session ends.
func (s *stream) Unbind(webrtc.TrackLocalContext) error { return nil }

// ID returns the second half of the msid (RFC 8830).
func (s *stream) ID() string { return s.Kind().String() }

// RID names the layer; empty: there is one encoding.
func (s *stream) RID() string { return s.rid }

// identify says in a packet which track and layer it is of: where the receiver may not know that by its SSRC yet, and now and then.
func (s *stream) identify(h *rtp.Header, pkt *packet) {
	layer := s.rid != "" && (pkt.resend || !s.known.Load())
	if s.wire.midExt != 0 && (pkt.mark || layer) {
		_ = h.SetExtension(s.wire.midExt, []byte(s.mid))
	}
	switch {
	case s.rid == "" || !pkt.mark && !layer:
	case pkt.resend && s.wire.rtxType != 0:
		if s.wire.rrid != 0 {
			_ = h.SetExtension(s.wire.rrid, []byte(s.rid))
		}
	case s.wire.ridExt != 0:
		_ = h.SetExtension(s.wire.ridExt, []byte(s.rid))
	}
}

// room is how long a payload may be.
func (s *stream) room() int {
	if s.rid == "" {
		return maxPayload
	}
	return maxPayload - (1+len(s.rid)+3)&^3 // header extensions are padded to four bytes
}

// pack splits an access unit into payloads.
func (s *stream) pack(unit []byte) [][]byte {
	switch s.track.Codec {
	case media.Opus:
		return [][]byte{unit}
	case media.H265:
		return (&codecs.H265Payloader{}).Payload(uint16(s.room()), unit)
	}
	return packH264(unit, s.room())
}

// StreamID returns the first half of the msid, the same for all streams of a session (RFC 9725 §4.4.2).
func (s *stream) StreamID() string { return s.msid }

// Kind tells pion which kind of media this is.
func (s *stream) Kind() webrtc.RTPCodecType {
	if s.track.Codec.Audio() {
		return webrtc.RTPCodecTypeAudio
	}
	return webrtc.RTPCodecTypeVideo
}

// An rtpClock maps media time to the timestamps of one stream. They start anywhere (RFC 3550 §5.1).
type rtpClock struct{ rate, base uint32 }

func (c rtpClock) at(pts time.Duration) uint32 {
	seconds, rest := uint64(pts/time.Second), uint64(pts%time.Second)
	return c.base + uint32(seconds*uint64(c.rate)+(rest*uint64(c.rate)+5e8)/1e9)
}

// ntp returns t as a 64-bit NTP timestamp: seconds since 1900 and their fraction (RFC 5905 §6).
func ntp(t time.Time) uint64 {
	const since1900 = 2208988800
	nano := uint64(t.Nanosecond())
	return uint64(t.Unix()+since1900)<<32 | (nano<<32)/1e9
}

// captureMark writes an abs-capture-time extension: the capture clock's NTP time, and that it is our own clock (offset 0).
func captureMark(b *[16]byte, at uint64) []byte {
	binary.BigEndian.PutUint64(b[:8], at)
	return b[:]
}
