package rtsp

import (
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/bluenviron/gortsplib/v5/pkg/description"
	"github.com/bluenviron/gortsplib/v5/pkg/format"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h265"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"
	"github.com/pion/rtp"

	"gantry/media"
	"gantry/media/h264"
)

// Carries are the codecs that the server has, the sound that it likes best first.
var Carries = []media.Codec{media.H264, media.H265, media.AAC, media.Opus}

// A packer makes RTP packets of one track's access units (RFC 6184, 7798, 3640, 7587).
type packer struct {
	media *description.Media
	rate  int64
	pack  func(data []byte) ([]*rtp.Packet, error)
}

// newPacker describes a track; first is an access unit of it, for pictures one with parameter sets.
func newPacker(t media.Track, number uint8, first []byte) (*packer, error) {
	p := &packer{rate: int64(t.ClockRate)}
	var f format.Format
	var err error
	switch t.Codec {
	case media.H264:
		own := &format.H264{PayloadTyp: number, PacketizationMode: 1}
		for n := range h264.NALUs(first) {
			switch h264.TypeOf(n) {
			case h264.SPS:
				own.SPS = slices.Clone(n)
			case h264.PPS:
				own.PPS = slices.Clone(n)
			}
		}
		e, failed := own.CreateEncoder()
		f, err = own, failed
		p.pack = func(b []byte) ([]*rtp.Packet, error) { return e.Encode(slices.Collect(h264.NALUs(b))) }
	case media.H265:
		own := &format.H265{PayloadTyp: number}
		for n := range h264.NALUs(first) {
			switch h265.NALUType(n[0] >> 1 & 0x3f) {
			case h265.NALUType_VPS_NUT:
				own.VPS = slices.Clone(n)
			case h265.NALUType_SPS_NUT:
				own.SPS = slices.Clone(n)
			case h265.NALUType_PPS_NUT:
				own.PPS = slices.Clone(n)
			}
		}
		e, failed := own.CreateEncoder()
		f, err = own, failed
		p.pack = func(b []byte) ([]*rtp.Packet, error) { return e.Encode(slices.Collect(h264.NALUs(b))) }
	case media.AAC:
		b, failed := hex.DecodeString(t.Profile)
		var c mpeg4audio.AudioSpecificConfig
		if failed == nil {
			failed = c.Unmarshal(b)
		}
		if failed != nil {
			return nil, fmt.Errorf("AAC configuration %q: %w", t.Profile, failed)
		}
		own := &format.MPEG4Audio{PayloadTyp: number, Config: &c, SizeLength: 13, IndexLength: 3, IndexDeltaLength: 3}
		e, failed := own.CreateEncoder()
		f, err = own, failed
		p.pack = func(b []byte) ([]*rtp.Packet, error) { return e.Encode([][]byte{b}) }
	case media.Opus:
		own := &format.Opus{PayloadTyp: number, ChannelCount: max(t.Channels, 1)}
		e, failed := own.CreateEncoder()
		f, err = own, failed
		p.pack = func(b []byte) ([]*rtp.Packet, error) {
			one, err := e.Encode(b)
			return []*rtp.Packet{one}, err
		}
	default:
		return nil, fmt.Errorf("RTSP does not carry %v here", t.Codec)
	}
	kind := description.MediaTypeVideo
	if t.Codec.Audio() {
		kind = description.MediaTypeAudio
	}
	p.media = &description.Media{Type: kind, Formats: []format.Format{f}}
	return p, err
}

// ticks converts to the track's RTP clock, which wraps.
func (p *packer) ticks(d time.Duration) uint32 {
	return uint32(int64(d/time.Second)*p.rate + int64(d%time.Second)*p.rate/int64(time.Second))
}
