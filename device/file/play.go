package file

import (
	"context"
	"errors"
	"io"
	"time"

	"gantry/internal/proto/mpegts"
	"gantry/media"
)

// playMP4 plays once the tracks of an MP4 file, in the order of their decoding times, from the first key frame on.
func (p *player) playMP4(ctx context.Context, lanes []*lane) error {
	tracks := make([]media.Track, len(lanes))
	next, begun := make([]int, len(lanes)), make([]bool, len(lanes))
	for i, l := range lanes {
		tracks[i], begun[i] = l.track, !l.track.Codec.Video()
	}
	if err := p.begin(tracks); err != nil {
		return err
	}
	for {
		first, at := -1, time.Duration(0)
		for i, l := range lanes {
			if next[i] < len(l.samples) {
				if dts := l.time(l.samples[next[i]].dts); first < 0 || dts < at {
					first, at = i, dts
				}
			}
		}
		if first < 0 {
			return nil
		}
		l := lanes[first]
		s := l.samples[next[first]]
		next[first]++
		if begun[first] = begun[first] || s.key; !begun[first] {
			continue
		}
		data, err := l.unit(p.file, s)
		if err != nil {
			return err
		}
		pkt := &media.Packet{Track: uint8(first), DTS: at, PTS: max(l.time(s.pts), at), Start: true, End: true, Key: s.key, Data: data}
		if err := p.push(ctx, pkt); err != nil {
			return err
		}
	}
}

// time returns a time of the track on the file's timeline. Decoding begins before it with B-frames.
func (l *lane) time(ticks int64) time.Duration {
	ticks -= l.start
	return time.Duration(ticks/l.scale)*time.Second + time.Duration(ticks%l.scale)*time.Second/time.Duration(l.scale)
}

// playTS plays once an MPEG-TS file.
func (p *player) playTS(ctx context.Context) error {
	if _, err := p.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	var failed error
	units := &mpegts.Units{Log: p.log, Begin: p.begin}
	units.Packet = func(pkt *media.Packet) {
		if failed == nil && int(pkt.Track) < len(p.pace.last) {
			failed = p.push(ctx, pkt)
		}
	}
	err := mpegts.Read(reader(func(b []byte) (int, error) {
		if failed != nil {
			return 0, failed
		}
		return p.file.Read(b)
	}), units, p.log)
	if failed == nil && errors.Is(err, io.EOF) {
		return nil
	}
	return errors.Join(failed, err)
}

type reader func([]byte) (int, error)

func (r reader) Read(b []byte) (int, error) { return r(b) }
