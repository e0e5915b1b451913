// Package mpegts writes access units as an MPEG transport stream (ISO/IEC 13818-1) in datagrams, and reads them from one, for what
// carries one: SRT, UDP and files. Multiplexing and demultiplexing themselves are mediacommon's.
//
// It knows no socket, and mends no clock.
package mpegts

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/mpegts"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/mpegts/codecs"

	"gantry/media"
	"gantry/media/h264"
)

// Datagram is how many bytes go out at once at the most: seven TS packets, as all receivers expect.
const Datagram = 7 * 188

// ErrNothingUsable: no track can be carried.
var ErrNothingUsable = errors.New("MPEG-TS carries H.264, H.265, AAC and Opus, and the programme has none of them")

// A Writer multiplexes one programme. Each access unit is written out whole: nothing waits for the next. One goroutine uses it.
type Writer struct {
	out    *datagrams
	ts     *mpegts.Writer
	tracks []*mpegts.Track // nil where the track cannot be carried
	codecs []media.Codec
	base   time.Duration
	begun  bool
}

// NewWriter returns a Writer that writes tables and packets to w, at most Datagram bytes a call.
func NewWriter(w io.Writer, tracks []media.Track) (*Writer, error) {
	m := &Writer{out: &datagrams{w: w, buf: make([]byte, 0, Datagram)}, tracks: make([]*mpegts.Track, len(tracks))}
	var carried []*mpegts.Track
	for i, t := range tracks {
		codec, err := codec(t)
		if err != nil {
			return nil, err
		}
		m.codecs = append(m.codecs, t.Codec)
		if codec != nil {
			m.tracks[i] = &mpegts.Track{Codec: codec}
			carried = append(carried, m.tracks[i])
		}
	}
	if len(carried) == 0 {
		return nil, ErrNothingUsable
	}
	m.ts = &mpegts.Writer{W: m.out, Tracks: carried}
	return m, m.ts.Initialize()
}

func codec(t media.Track) (codecs.Codec, error) {
	switch t.Codec {
	case media.H264:
		return &codecs.H264{}, nil
	case media.H265:
		return &codecs.H265{}, nil
	case media.Opus:
		return &codecs.Opus{ChannelCount: t.Channels}, nil
	case media.AAC:
		b, err := hex.DecodeString(t.Profile)
		if err != nil {
			return nil, fmt.Errorf("AAC configuration %q: %w", t.Profile, err)
		}
		var c codecs.MPEG4Audio
		if err := c.Config.Unmarshal(b); err != nil {
			return nil, fmt.Errorf("AAC configuration %q: %w", t.Profile, err)
		}
		if c.Config.Type != mpeg4audio.ObjectTypeAACLC {
			return nil, fmt.Errorf("AAC object type %v: MPEG-TS carries AAC-LC", c.Config.Type)
		}
		return &c, nil
	}
	return nil, nil
}

// Write writes one access unit. Packets of tracks that MPEG-TS cannot carry are left out.
func (m *Writer) Write(p *media.Packet) error {
	if int(p.Track) >= len(m.tracks) || m.tracks[p.Track] == nil {
		return nil
	}
	if !m.begun {
		m.base, m.begun = p.DTS-10*time.Second, true // room for sound that began a little earlier
	}
	t := m.tracks[p.Track]
	pts, dts := ticks(p.PTS-m.base), ticks(p.DTS-m.base)
	var err error
	switch m.codecs[p.Track] {
	case media.H264:
		err = m.ts.WriteH264(t, pts, dts, slices.Collect(h264.NALUs(p.Data)))
	case media.H265:
		err = m.ts.WriteH265(t, pts, dts, slices.Collect(h264.NALUs(p.Data))) // the same byte stream format, H.265 Annex B
	case media.AAC:
		err = m.ts.WriteMPEG4Audio(t, pts, [][]byte{p.Data})
	case media.Opus:
		err = m.ts.WriteOpus(t, pts, [][]byte{p.Data})
	}
	if flushed := m.out.flush(); err == nil {
		err = flushed
	}
	return err
}

// ticks converts to the 90 kHz clock, modulo its 33 bits.
func ticks(d time.Duration) int64 {
	return (int64(d/time.Second)*90000 + int64(d%time.Second)*90000/int64(time.Second)) & (1<<33 - 1)
}

// datagrams gathers writes into whole datagrams.
type datagrams struct {
	w   io.Writer
	buf []byte
}

func (d *datagrams) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		room := min(Datagram-len(d.buf), len(b))
		d.buf = append(d.buf, b[:room]...)
		b = b[room:]
		if len(d.buf) == Datagram {
			if err := d.flush(); err != nil {
				return n - len(b), err
			}
		}
	}
	return n, nil
}

func (d *datagrams) flush() error {
	if len(d.buf) == 0 {
		return nil
	}
	_, err := d.w.Write(d.buf)
	d.buf = d.buf[:0]
	return err
}
