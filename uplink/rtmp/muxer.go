package rtmp

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bluenviron/gortmplib"
	"github.com/bluenviron/gortmplib/pkg/codecs"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/av1"
	mch264 "github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h265"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/opus"

	"gantry/media"
	"gantry/media/h264"
)

// ErrNothingUsable: no track can be carried.
var ErrNothingUsable = errors.New("RTMP carries H.264, H.265, AV1, AAC and Opus, and the programme has none of them")

// A muxer writes the packets of one connection. RTMP announces parameter sets before the media, so it begins with the first
// key frame.
type muxer struct {
	tracks []media.Track
	out    []*gortmplib.Track // nil where the track is not carried
	video  int                // index of the video track, -1 for none
	writer *gortmplib.Writer  // nil until begun
	base   time.Duration
}

// newMuxer takes the first video and the first audio track that RTMP can carry.
func newMuxer(tracks []media.Track) (*muxer, error) {
	m := &muxer{tracks: tracks, out: make([]*gortmplib.Track, len(tracks)), video: -1}
	audio := false
	for i, t := range tracks {
		switch {
		case t.Codec.Video() && m.video < 0 && slices.Contains([]media.Codec{media.H264, media.H265, media.AV1}, t.Codec):
			m.video = i
			m.out[i] = &gortmplib.Track{Codec: &codecs.AV1{}} // the others wait for their parameter sets
		case t.Codec == media.AAC && !audio:
			b, err := hex.DecodeString(t.Profile)
			if err != nil {
				return nil, fmt.Errorf("AAC configuration %q: %w", t.Profile, err)
			}
			conf := &mpeg4audio.AudioSpecificConfig{}
			if err := conf.Unmarshal(b); err != nil {
				return nil, fmt.Errorf("AAC configuration %q: %w", t.Profile, err)
			}
			m.out[i], audio = &gortmplib.Track{Codec: &codecs.MPEG4Audio{Config: conf}}, true
		case t.Codec == media.Opus && !audio && !slices.ContainsFunc(tracks, func(t media.Track) bool { return t.Codec == media.AAC }):
			m.out[i], audio = &gortmplib.Track{Codec: &codecs.Opus{IDHeader: &opus.IDHeader{Version: 1, ChannelCount: uint8(t.Channels), InputSampleRate: 48000}}}, true
		}
	}
	if m.video < 0 && !audio {
		return nil, ErrNothingUsable
	}
	return m, nil
}

func (m *muxer) begun() bool { return m.writer != nil }

// begin announces the tracks when p is where a viewer can start.
func (m *muxer) begin(conn gortmplib.Conn, p *media.Packet) error {
	if m.video >= 0 {
		if int(p.Track) != m.video || !p.Key {
			return nil
		}
		codec, err := videoCodec(m.tracks[m.video].Codec, p.Data)
		if err != nil {
			return err
		}
		m.out[m.video].Codec = codec
	}
	w := &gortmplib.Writer{Conn: conn}
	for _, t := range m.out {
		if t != nil {
			w.Tracks = append(w.Tracks, t)
		}
	}
	if err := w.Initialize(); err != nil {
		return err
	}
	m.writer, m.base = w, p.DTS
	return nil
}

func videoCodec(c media.Codec, au []byte) (codecs.Codec, error) {
	switch c {
	case media.H264:
		var sets h264.ParameterSets
		sets.Learn(au)
		if !sets.Complete() {
			return nil, errors.New("the key frame has no SPS and PPS")
		}
		var sps mch264.SPS
		if err := sps.Unmarshal(sets.SPS()); err != nil { // the library would panic
			return nil, fmt.Errorf("the key frame's SPS: %w", err)
		}
		return &codecs.H264{SPS: sets.SPS(), PPS: sets.PPS()}, nil
	case media.H265:
		out := &codecs.H265{}
		for n := range h264.NALUs(au) { // the same byte stream format, H.265 Annex B
			switch h265.NALUType(n[0] >> 1 & 0x3f) {
			case h265.NALUType_VPS_NUT:
				out.VPS = n
			case h265.NALUType_SPS_NUT:
				out.SPS = n
			case h265.NALUType_PPS_NUT:
				out.PPS = n
			}
		}
		if out.VPS == nil || out.SPS == nil || out.PPS == nil {
			return nil, errors.New("the key frame has no VPS, SPS and PPS")
		}
		var sps h265.SPS
		if err := sps.Unmarshal(out.SPS); err != nil {
			return nil, fmt.Errorf("the key frame's SPS: %w", err)
		}
		return out, nil
	}
	return &codecs.AV1{}, nil
}

// write sends one access unit; before the first key frame, nothing.
func (m *muxer) write(conn gortmplib.Conn, p *media.Packet) error {
	if int(p.Track) >= len(m.out) || m.out[p.Track] == nil {
		return nil
	}
	if m.writer == nil {
		if err := m.begin(conn, p); err != nil || m.writer == nil {
			return err
		}
	}
	t, pts, dts := m.out[p.Track], p.PTS-m.base, p.DTS-m.base
	if dts < 0 {
		return nil // sound from before the first picture
	}
	switch m.tracks[p.Track].Codec {
	case media.H264:
		return m.writer.WriteH264(t, pts, dts, slices.Collect(h264.NALUs(p.Data)))
	case media.H265:
		return m.writer.WriteH265(t, pts, dts, slices.Collect(h264.NALUs(p.Data)))
	case media.AV1:
		var tu av1.Bitstream
		if err := tu.Unmarshal(p.Data); err != nil {
			return fmt.Errorf("AV1 temporal unit: %w", err)
		}
		return m.writer.WriteAV1(t, pts, tu)
	case media.AAC:
		return m.writer.WriteMPEG4Audio(t, pts, p.Data)
	default:
		return m.writer.WriteOpus(t, pts, p.Data)
	}
}
