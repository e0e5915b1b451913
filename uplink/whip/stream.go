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

	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	"gantry/media"
)

// absCaptureTimeURI is the header extension that carries when a picture was taken.
const absCaptureTimeURI = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"

// Payload types that the offer proposes.
const (
	videoPayloadType = 96
	rtxPayloadType   = 97
	audioPayloadType = 111
)

// A stream is one track on the wire. It is pion's TrackLocal: Bind tells what was negotiated.
type stream struct {
	track media.Track
	msid  string
	clock rtpClock
	mid   string // after the offer

	once  sync.Once
	ready chan struct{} // closed when wire is set
	wire  wire
	lane  atomic.Pointer[lane] // once media flows
}

// wire is what the answer settled for one stream. Identifiers that are 0 were not negotiated.
type wire struct {
	out                   webrtc.TrackLocalWriter
	ssrc, rtxSSRC         uint32
	payloadType, rtxType  uint8
	twcc, capture, midExt uint8 // header extension identifiers
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
	case media.Opus:
		rate = 48000
	default:
		return nil, fmt.Errorf("WHIP does not carry %v here", t.Codec)
	}
	return &stream{track: t, msid: msid, clock: rtpClock{rate: rate, base: rand.Uint32()}, ready: make(chan struct{})}, nil
}

// newStreams makes the streams of a programme, in its order. WHIP has at most one track of each kind (RFC 9725 §4.4.2).
func newStreams(tracks []media.Track, msid string) ([]*stream, error) {
	var streams []*stream
	seen := map[webrtc.RTPCodecType]bool{}
	for _, t := range tracks {
		s, err := newStream(t, msid)
		if err != nil {
			return nil, err
		}
		if seen[s.Kind()] {
			return nil, fmt.Errorf("two %v tracks, WHIP carries one", s.Kind())
		}
		seen[s.Kind()] = true
		streams = append(streams, s)
	}
	if len(streams) == 0 {
		return nil, fmt.Errorf("programme has no track")
	}
	return streams, nil
}

// register offers the stream's codec.
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
	err := m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: videoPayloadType, RTPCodecCapability: webrtc.RTPCodecCapability{
		MimeType: webrtc.MimeTypeH264, ClockRate: 90000,
		SDPFmtpLine: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=" + strings.ToLower(s.track.Profile),
		RTCPFeedback: []webrtc.RTCPFeedback{{Type: "goog-remb"}, {Type: "transport-cc"}, {Type: "ccm", Parameter: "fir"},
			{Type: "nack"}, {Type: "nack", Parameter: "pli"}},
	}}, webrtc.RTPCodecTypeVideo)
	if err != nil {
		return err
	}
	return m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: rtxPayloadType, RTPCodecCapability: webrtc.RTPCodecCapability{
		MimeType: webrtc.MimeTypeRTX, ClockRate: 90000, SDPFmtpLine: "apt=" + strconv.Itoa(videoPayloadType),
	}}, webrtc.RTPCodecTypeVideo)
}

// Bind is called by pion when the answer is known.
func (s *stream) Bind(ctx webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	want := webrtc.MimeTypeH264
	if s.track.Codec == media.Opus {
		want = webrtc.MimeTypeOpus
	}
	var codec *webrtc.RTPCodecParameters
	w := wire{out: ctx.WriteStream(), ssrc: uint32(ctx.SSRC())}
	for _, c := range ctx.CodecParameters() {
		if strings.EqualFold(c.MimeType, want) && codec == nil {
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

// RID returns nothing: there is one encoding.
func (s *stream) RID() string { return "" }

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
