package record

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	mch264 "github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/fmp4"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/fmp4/seekablebuffer"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/mp4/codecs"

	"gantry/media"
	"gantry/media/h264"
)

const (
	fragment   = 900 * time.Millisecond // a fragment ends at the first picture after this
	videoScale = 90000                  // ticks a second
)

// A file is one recording. One goroutine uses it.
type file struct {
	out    *os.File
	tracks []media.Track
	lanes  []*lane // by track, nil where it is not recorded
	sets   sets    // parameter sets that the head announces
	base   time.Duration
	from   time.Duration // DTS at which the fragment begins
	last   time.Duration // DTS of the newest packet
	number uint32
	size   int64
}

// A lane is a track within a file.
type lane struct {
	id      int
	scale   int64
	samples []*fmp4.Sample // that the fragment has so far
	start   int64          // DTS of the first, in ticks
	held    *fmp4.Sample   // the newest, whose duration is not known
	at      int64          // its DTS, in ticks
	step    int64          // the last duration
}

// sets are a stream's parameter sets: vps is H.265's only.
type sets struct{ vps, sps, pps []byte }

func (s sets) complete(c media.Codec) bool {
	return len(s.sps) > 0 && len(s.pps) > 0 && (c != media.H265 || len(s.vps) > 0)
}

func (s sets) equal(t sets) bool {
	return bytes.Equal(s.vps, t.vps) && bytes.Equal(s.sps, t.sps) && bytes.Equal(s.pps, t.pps)
}

// part divides an access unit into its parameter sets and the rest; delimiters are left out.
func part(c media.Codec, au []byte) (s sets, rest [][]byte) {
	for n := range h264.NALUs(au) { // H.265 has the same byte stream format
		if len(n) == 0 {
			continue
		}
		kind := int(n[0] & 0x1f)
		if c == media.H265 {
			kind = 100 + int(n[0]>>1&0x3f)
		}
		switch kind {
		case 132:
			s.vps = n
		case 7, 133:
			s.sps = n
		case 8, 134:
			s.pps = n
		case 9, 135:
		default:
			rest = append(rest, n)
		}
	}
	return s, rest
}

// newFile writes the head for a programme whose pictures begin with p, a key frame with parameter sets.
func newFile(out *os.File, tracks []media.Track, video int, p *media.Packet) (*file, error) {
	f := &file{out: out, tracks: tracks, lanes: make([]*lane, len(tracks)), base: p.DTS, from: p.DTS, last: p.DTS}
	f.sets, _ = part(tracks[video].Codec, p.Data)
	var head fmp4.Init
	for i, t := range tracks {
		l := &lane{id: i + 1, scale: videoScale}
		var codec codecs.Codec
		switch t.Codec {
		case media.H264:
			codec = &codecs.H264{SPS: f.sets.sps, PPS: f.sets.pps}
		case media.H265:
			codec = &codecs.H265{VPS: f.sets.vps, SPS: f.sets.sps, PPS: f.sets.pps}
		case media.AAC:
			b, err := hex.DecodeString(t.Profile)
			var config mpeg4audio.AudioSpecificConfig
			if err == nil {
				err = config.Unmarshal(b)
			}
			if err != nil {
				return nil, fmt.Errorf("AAC configuration %q: %w", t.Profile, err)
			}
			l.scale, codec = int64(config.SampleRate), &codecs.MPEG4Audio{Config: config}
		case media.Opus:
			l.scale, codec = 48000, &codecs.Opus{ChannelCount: t.Channels}
		default:
			continue
		}
		if t.Codec.Video() && i != video {
			continue
		}
		f.lanes[i] = l
		head.Tracks = append(head.Tracks, &fmp4.InitTrack{ID: l.id, TimeScale: uint32(l.scale), Codec: codec})
	}
	var b seekablebuffer.Buffer
	if err := head.Marshal(&b); err != nil {
		return nil, fmt.Errorf("head of the recording: %w", err)
	}
	return f, f.put(b.Bytes())
}

// put has b on the disk when it returns.
func (f *file) put(b []byte) error {
	n, err := f.out.Write(b)
	f.size += int64(n)
	if err != nil {
		return err
	}
	return f.out.Sync()
}

// add takes the next packet; it writes when a fragment is complete.
func (f *file) add(p *media.Packet) error {
	l := f.lanes[p.Track]
	if l == nil || p.DTS < f.base { // sound from before the first picture
		return nil
	}
	if p.DTS-f.from >= fragment {
		if err := f.flush(); err != nil {
			return err
		}
		f.from = p.DTS
	}
	f.last = max(f.last, p.DTS)
	at := ticks(p.DTS-f.base, l.scale)
	s := &fmp4.Sample{PTSOffset: int32(ticks(p.PTS-f.base, l.scale) - at), Payload: p.Data}
	if f.tracks[p.Track].Codec.Video() {
		_, nalus := part(f.tracks[p.Track].Codec, p.Data)
		payload, err := mch264.AVCC(nalus).Marshal()
		if err != nil {
			return fmt.Errorf("access unit: %w", err)
		}
		s.Payload, s.IsNonSyncSample = payload, !p.Key
	}
	if l.held != nil {
		l.settle(max(at-l.at, 0))
	}
	if l.held == nil || at > l.at {
		l.at = at
	}
	l.held = s
	return nil
}

// settle gives the newest sample its duration.
func (l *lane) settle(duration int64) {
	if len(l.samples) == 0 {
		l.start = l.at
	}
	l.held.Duration, l.step = uint32(duration), duration
	l.samples = append(l.samples, l.held)
	l.held = nil
}

// flush writes a fragment of all samples whose duration is known.
func (f *file) flush() error {
	f.number++
	fragment := fmp4.Part{SequenceNumber: f.number}
	for _, l := range f.lanes {
		if l != nil && len(l.samples) > 0 {
			fragment.Tracks = append(fragment.Tracks, &fmp4.PartTrack{ID: l.id, BaseTime: uint64(l.start), Samples: l.samples})
			l.samples = nil
		}
	}
	if len(fragment.Tracks) == 0 {
		return nil
	}
	var b seekablebuffer.Buffer
	if err := fragment.Marshal(&b); err != nil {
		return fmt.Errorf("fragment of the recording: %w", err)
	}
	return f.put(b.Bytes())
}

// close writes what is left, the newest samples with the duration of those before.
func (f *file) close() error {
	for _, l := range f.lanes {
		if l != nil && l.held != nil {
			l.settle(max(l.step, 1))
		}
	}
	return errors.Join(f.flush(), f.out.Close())
}

func ticks(d time.Duration, scale int64) int64 {
	return int64(d/time.Second)*scale + int64(d%time.Second)*scale/int64(time.Second)
}
