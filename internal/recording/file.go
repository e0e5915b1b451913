package recording

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	mch264 "github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/fmp4"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/fmp4/seekablebuffer"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/mp4/codecs"

	"gantry/media"
)

const (
	fragment   = 900 * time.Millisecond // a fragment ends at the first packet after this
	videoScale = 90000                  // ticks a second
)

// A sink is what a file is written to.
type sink interface {
	io.WriteCloser
	Sync() error
}

// A file is one recording. One goroutine uses it.
type file struct {
	out    sink
	tracks []media.Track
	lanes  []*lane // by track, nil where it is not recorded
	sets   sets    // parameter sets that the head announces
	base   time.Duration
	from   time.Duration // DTS at which the fragment begins
	number uint32
	size   int64
}

// A lane is a track within a file.
type lane struct {
	id      int
	scale   int64
	video   bool
	samples []*fmp4.Sample // that the fragment has so far
	start   int64          // DTS of the first, in ticks
	wall    time.Time      // when the first was captured
	held    *fmp4.Sample   // the newest, whose duration is not known
	at      int64          // its DTS, in ticks
	taken   time.Time      // when it was captured
	step    int64          // the last duration
}

// head returns a file's description of the tracks, and of each what is recorded of it.
func head(tracks []media.Track, video int, now sets) (fmp4.Init, []*lane, error) {
	var init fmp4.Init
	lanes := make([]*lane, len(tracks))
	for i, t := range tracks {
		l := &lane{id: i + 1, scale: videoScale, video: t.Codec.Video()}
		var codec codecs.Codec
		switch t.Codec {
		case media.H264:
			codec = &codecs.H264{SPS: now.sps, PPS: now.pps}
		case media.H265:
			codec = &codecs.H265{VPS: now.vps, SPS: now.sps, PPS: now.pps}
		case media.AAC:
			b, err := hex.DecodeString(t.Profile)
			var config mpeg4audio.AudioSpecificConfig
			if err == nil {
				err = config.Unmarshal(b)
			}
			if err != nil {
				return init, nil, fmt.Errorf("AAC configuration %q: %w", t.Profile, err)
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
		lanes[i] = l
		init.Tracks = append(init.Tracks, &fmp4.InitTrack{ID: l.id, TimeScale: uint32(l.scale), Codec: codec})
	}
	return init, lanes, nil
}

// newFile writes the head for a programme whose pictures begin with p, a key frame with parameter sets.
func newFile(out sink, tracks []media.Track, video int, p *media.Packet) (*file, error) {
	f := &file{out: out, tracks: tracks, base: p.DTS, from: p.DTS}
	f.sets, _ = part(tracks[video].Codec, p.Data)
	init, lanes, err := head(tracks, video, f.sets)
	if err != nil {
		return nil, err
	}
	f.lanes = lanes
	return f, f.begin(init)
}

func (f *file) begin(init fmp4.Init) error {
	var b seekablebuffer.Buffer
	if err := init.Marshal(&b); err != nil {
		return fmt.Errorf("head of the recording: %w", err)
	}
	return f.put(b.Bytes())
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

// add takes the next packet, which was captured at a wall time; it writes when a fragment is complete.
func (f *file) add(p *media.Packet, taken time.Time) error {
	l := f.lanes[p.Track]
	if l == nil || p.DTS < f.base { // sound from before the first picture
		return nil
	}
	at := ticks(p.DTS-f.base, l.scale)
	if l.held != nil {
		l.settle(max(at-l.at, 0))
	}
	if p.DTS-f.from >= fragment {
		if err := f.flush(); err != nil {
			return err
		}
		f.from = p.DTS
	}
	s := &fmp4.Sample{PTSOffset: int32(ticks(p.PTS-f.base, l.scale) - at), Payload: p.Data}
	if l.video {
		_, nalus := part(f.tracks[p.Track].Codec, p.Data)
		payload, err := mch264.AVCC(nalus).Marshal()
		if err != nil {
			return fmt.Errorf("access unit: %w", err)
		}
		s.Payload, s.IsNonSyncSample = payload, !p.Key
	}
	l.at, l.taken, l.held = max(at, l.at), taken, s
	return nil
}

// settle gives the newest sample its duration.
func (l *lane) settle(duration int64) {
	if len(l.samples) == 0 {
		l.start, l.wall = l.at, l.taken
	}
	l.held.Duration, l.step = uint32(duration), duration
	l.samples = append(l.samples, l.held)
	l.held = nil
}

// flush writes a fragment of all samples whose duration is known.
func (f *file) flush() error {
	f.number++
	fragment := fmp4.Part{SequenceNumber: f.number}
	var reference []byte
	for _, l := range f.lanes {
		if l == nil || len(l.samples) == 0 {
			continue
		}
		if reference == nil || l.video {
			reference = referenceTime(l.id, l.wall, l.start+int64(l.samples[0].PTSOffset))
		}
		fragment.Tracks = append(fragment.Tracks, &fmp4.PartTrack{ID: l.id, BaseTime: uint64(l.start), Samples: l.samples})
		l.samples = nil
	}
	if len(fragment.Tracks) == 0 {
		return nil
	}
	return f.part(reference, fragment)
}

// part writes a fragment behind the box that says when it was captured.
func (f *file) part(reference []byte, p fmp4.Part) error {
	var b seekablebuffer.Buffer
	if err := p.Marshal(&b); err != nil {
		return fmt.Errorf("fragment of the recording: %w", err)
	}
	return f.put(append(reference, b.Bytes()...))
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

const referenceSize = 32

// ntpEpoch is 1 January 1900 (RFC 5905 §6) in Unix seconds.
const ntpEpoch = -2208988800

// referenceTime writes a ProducerReferenceTimeBox: the picture or sound that a track presents at a media time was captured at
// wall.
func referenceTime(track int, wall time.Time, media int64) []byte {
	b := make([]byte, 0, referenceSize)
	b = binary.BigEndian.AppendUint32(b, referenceSize)
	b = append(b, "prft\x01\x00\x00\x00"...)
	b = binary.BigEndian.AppendUint32(b, uint32(track))
	b = binary.BigEndian.AppendUint64(b, uint64(wall.Unix()-ntpEpoch)<<32|uint64(wall.Nanosecond())<<32/1e9)
	return binary.BigEndian.AppendUint64(b, uint64(media))
}

// parseReference reads what referenceTime writes.
func parseReference(b []byte) (track int, wall time.Time, media int64, ok bool) {
	if len(b) != referenceSize || string(b[4:9]) != "prft\x01" {
		return 0, time.Time{}, 0, false
	}
	ntp := binary.BigEndian.Uint64(b[16:])
	wall = time.Unix(int64(ntp>>32)+ntpEpoch, int64((ntp&0xffffffff)*1e9+1<<31)>>32).UTC()
	return int(binary.BigEndian.Uint32(b[12:])), wall, int64(binary.BigEndian.Uint64(b[24:])), true
}

func ticks(d time.Duration, scale int64) int64 {
	return int64(d/time.Second)*scale + int64(d%time.Second)*scale/int64(time.Second)
}

func duration(ticks, scale int64) time.Duration {
	return time.Duration(ticks/scale)*time.Second + time.Duration(ticks%scale)*time.Second/time.Duration(scale)
}
