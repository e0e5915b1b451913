package recording

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/bluenviron/mediacommon/v2/pkg/formats/fmp4"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/mp4/codecs"
)

// Bounds of what is read.
const (
	maxHead    = 64 << 10
	maxMoof    = 1 << 20
	maxBody    = 64 << 20
	maxTracks  = 8
	maxSamples = 20_000 // in a run
)

// errTorn: the file ends within a fragment, as after a power cut or while it is written.
var errTorn = errors.New("the recording ends within a fragment")

// A fragmentAt is a second, or so, of a recording.
type fragmentAt struct {
	at, moof, end int64 // in the file
	reference     reference
	runs          []run
}

type reference struct {
	track int
	wall  time.Time // when what has the media time was captured
	media int64
}

// A run is a track's part of a fragment, in ticks of decoding time.
type run struct {
	track      int
	start, end int64
	step       int64 // the last sample's duration
}

// An index is what a recording holds, read from its boxes without their media.
type index struct {
	init  fmp4.Init
	video int   // the track with pictures
	whole int64 // bytes up to the end of the last whole fragment
	first [2]span
	last  [2]span // of pictures and of sound, the newest fragment's
	ref   reference
	tail  map[int]int64 // where each track ends
}

// A span is wall time of decoding; step is the last sample's duration.
type span struct {
	from, to time.Time
	step     time.Duration
}

const (
	pictures = iota
	sound
)

// scale returns a track's ticks a second, 0 where there is no such track.
func (x *index) scale(track int) int64 {
	for _, t := range x.init.Tracks {
		if t.ID == track {
			return int64(t.TimeScale)
		}
	}
	return 0
}

// wall returns the wall time of a track's ticks by a fragment's reference.
func (x *index) wall(f *fragmentAt, track int, at int64) time.Time {
	return f.reference.wall.Add(duration(at, x.scale(track)) - duration(f.reference.media, x.scale(f.reference.track)))
}

// at is the inverse of wall.
func (x *index) at(r reference, track int, wall time.Time) int64 {
	return ticks(wall.Sub(r.wall)+duration(r.media, x.scale(r.track)), x.scale(track))
}

// span returns the wall time of a run.
func (x *index) span(f *fragmentAt, r run) span {
	return span{x.wall(f, r.track, r.start), x.wall(f, r.track, r.end), duration(r.step, x.scale(r.track))}
}

// scan reads on from where the index stands, and calls each, if it is set, for every whole fragment. A torn end is no error.
func (x *index) scan(r io.ReaderAt, size int64, each func(*fragmentAt) error) error {
	if x.whole == 0 {
		if err := x.readHead(r, size); err != nil {
			return err
		}
	}
	for x.whole < size {
		f, err := x.readFragment(r, size)
		if errors.Is(err, errTorn) {
			return nil
		}
		if err != nil {
			return err
		}
		x.whole, x.ref = f.end, f.reference
		for _, run := range f.runs {
			x.tail[run.track] = run.end
			kind := sound
			if run.track == x.video {
				kind = pictures
			}
			x.last[kind] = x.span(f, run)
			if x.first[kind].from.IsZero() {
				x.first[kind] = x.last[kind]
			}
		}
		if each != nil {
			if err := each(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// box reads a box's header.
func box(r io.ReaderAt, at, size int64) (kind string, length int64, err error) {
	var b [8]byte
	if at+8 > size {
		return "", 0, errTorn
	}
	if _, err := r.ReadAt(b[:], at); err != nil {
		return "", 0, fmt.Errorf("read a box: %w", err)
	}
	length = int64(binary.BigEndian.Uint32(b[:]))
	if length < 8 {
		return "", 0, fmt.Errorf("a box of %d bytes is none of ours", length)
	}
	if at+length > size {
		return "", 0, errTorn
	}
	return string(b[4:]), length, nil
}

func read(r io.ReaderAt, at, length, most int64) ([]byte, error) {
	if length < 0 || length > most {
		return nil, fmt.Errorf("a box of %d bytes is too large", length)
	}
	b := make([]byte, length)
	_, err := r.ReadAt(b, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read a box: %w", err)
	}
	return b, nil
}

// readHead reads the boxes before the first fragment.
func (x *index) readHead(r io.ReaderAt, size int64) error {
	var end int64
	for kind := ""; kind != "moov"; {
		var n int64
		var err error
		if kind, n, err = box(r, end, size); err != nil {
			return err
		}
		if end += n; end > maxHead {
			return errors.New("it does not begin as a recording of ours")
		}
	}
	b, err := read(r, 0, end, maxHead)
	if err != nil {
		return err
	}
	var init fmp4.Init
	if err := init.Unmarshal(bytes.NewReader(b)); err != nil {
		return fmt.Errorf("head of a recording: %w", err)
	}
	if len(init.Tracks) == 0 || len(init.Tracks) > maxTracks {
		return fmt.Errorf("a recording of %d tracks is none of ours", len(init.Tracks))
	}
	video := 0
	for _, t := range init.Tracks {
		if t.TimeScale == 0 || t.TimeScale > 1e6 {
			return fmt.Errorf("a track with %d ticks a second is none of ours", t.TimeScale)
		}
		switch t.Codec.(type) {
		case *codecs.H264, *codecs.H265:
			if video == 0 {
				video = t.ID
			}
		}
	}
	if video == 0 {
		return ErrNoPictures
	}
	x.init, x.video, x.whole, x.tail = init, video, end, map[int]int64{}
	return nil
}

// readFragment reads the one at x.whole.
func (x *index) readFragment(r io.ReaderAt, size int64) (*fragmentAt, error) {
	f := &fragmentAt{at: x.whole, moof: -1}
	for at := x.whole; ; {
		kind, n, err := box(r, at, size)
		if err != nil {
			return nil, err
		}
		switch kind {
		case "prft":
			b, err := read(r, at, n, referenceSize)
			if err != nil {
				return nil, err
			}
			track, wall, media, ok := parseReference(b)
			if !ok || x.scale(track) == 0 || media < 0 || media > math.MaxInt64/2 {
				return nil, errors.New("a fragment's reference time is not ours")
			}
			f.reference = reference{track, wall, media}
		case "moof":
			b, err := read(r, at, n, maxMoof)
			if err != nil {
				return nil, err
			}
			f.moof = at
			if f.runs, err = x.runs(b); err != nil {
				return nil, err
			}
		case "mdat":
			f.end = at + n
			if f.moof < 0 || f.reference.track == 0 || f.end-f.at > maxBody {
				return nil, errors.New("a fragment is not ours")
			}
			return f, nil
		}
		at += n
	}
}

// boxes calls each for the boxes in b.
func boxes(b []byte, each func(kind string, body []byte) error) error {
	for len(b) >= 8 {
		n := int64(binary.BigEndian.Uint32(b))
		if n < 8 || n > int64(len(b)) {
			return errors.New("a box does not end")
		}
		if err := each(string(b[4:8]), b[8:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// runs reads when the samples of a MovieFragmentBox are decoded (ISO/IEC 14496-12 §8.8.4–8.8.12), as mediacommon writes it: with
// each sample's duration.
func (x *index) runs(moof []byte) (list []run, err error) {
	err = boxes(moof, func(kind string, b []byte) error {
		if kind != "moof" {
			return nil
		}
		return boxes(b, func(kind string, b []byte) error {
			if kind != "traf" {
				return nil
			}
			r, err := parseRun(b)
			if err != nil {
				return err
			}
			if x.scale(r.track) == 0 || len(list) == maxTracks {
				return errors.New("a fragment has a track that its file has not")
			}
			list = append(list, r)
			return nil
		})
	})
	return list, err
}

func parseRun(traf []byte) (r run, err error) {
	err = boxes(traf, func(kind string, b []byte) error {
		switch {
		case kind == "tfhd" && len(b) >= 8:
			r.track = int(binary.BigEndian.Uint32(b[4:]))
		case kind == "tfdt" && len(b) >= 12 && b[0] == 1:
			start := binary.BigEndian.Uint64(b[4:])
			if start > math.MaxInt64/4 {
				return errors.New("a fragment's time is out of range")
			}
			r.start, r.end = int64(start), int64(start)
		case kind == "trun" && len(b) >= 8:
			flags, count := binary.BigEndian.Uint32(b)&0xffffff, binary.BigEndian.Uint32(b[4:])
			head, width := 8, 0
			for _, bit := range []uint32{0x1, 0x4} { // data offset, first sample's flags
				if flags&bit != 0 {
					head += 4
				}
			}
			for _, bit := range []uint32{0x100, 0x200, 0x400, 0x800} { // duration, size, flags, composition offset
				if flags&bit != 0 {
					width += 4
				}
			}
			if flags&0x100 == 0 || count > maxSamples || len(b) < head+int(count)*width {
				return errors.New("a fragment's run is not ours")
			}
			for i := range int(count) {
				r.step = int64(binary.BigEndian.Uint32(b[head+i*width:]))
				r.end += r.step
			}
		}
		return nil
	})
	return r, err
}
