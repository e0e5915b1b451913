package recording

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/bluenviron/mediacommon/v2/pkg/formats/fmp4"
)

// A sample is a coded picture or piece of sound with the wall time of its decoding.
type sample struct {
	*fmp4.Sample
	track    int
	wall     time.Time
	duration time.Duration
}

// samples reads a fragment.
func (x *index) samples(r io.ReaderAt, f *fragmentAt) (list []sample, err error) {
	b, err := read(r, f.moof, f.end-f.moof, maxBody)
	if err != nil {
		return nil, err
	}
	var parts fmp4.Parts
	if err := parts.Unmarshal(b); err != nil {
		return nil, fmt.Errorf("fragment of a recording: %w", err)
	}
	for _, p := range parts {
		for _, t := range p.Tracks {
			scale := x.scale(t.ID)
			if scale == 0 {
				return nil, errors.New("a fragment has a track that its file has not")
			}
			at := int64(t.BaseTime)
			for _, s := range t.Samples {
				list = append(list, sample{s, t.ID, x.wall(f, t.ID, at), duration(int64(s.Duration), scale)})
				at += int64(s.Duration)
			}
		}
	}
	return list, nil
}

// write appends a fragment of samples to a file whose index is x. Their first picture is the reference of its time.
func (f *file) write(x *index, list []sample) error {
	f.number++
	part := fmp4.Part{SequenceNumber: f.number}
	var ref []byte
	for _, t := range x.init.Tracks {
		own := slices.DeleteFunc(slices.Clone(list), func(s sample) bool { return s.track != t.ID })
		if len(own) == 0 {
			continue
		}
		slices.SortStableFunc(own, func(a, b sample) int { return a.wall.Compare(b.wall) })
		start := max(x.at(x.ref, t.ID, own[0].wall), 0)
		if tail, ok := x.tail[t.ID]; ok && duration(start-tail, int64(t.TimeScale)).Abs() <= tolerance {
			start = tail
		}
		run := &fmp4.PartTrack{ID: t.ID, BaseTime: uint64(start)}
		for _, s := range own {
			run.Samples = append(run.Samples, s.Sample)
		}
		if ref == nil || t.ID == x.video {
			shown := own[0].wall.Add(duration(int64(own[0].PTSOffset), int64(t.TimeScale)))
			ref = referenceTime(t.ID, shown, start+int64(own[0].PTSOffset))
		}
		part.Tracks = append(part.Tracks, run)
	}
	if len(part.Tracks) == 0 {
		return nil
	}
	return f.part(ref, part)
}

// A Gap is what a folder of recordings lacks between two of its files, by the capture clock: the pictures after one and before
// another that are there, and the sound beside them.
type Gap struct {
	From      time.Time `json:"from"` // the last picture that there is
	To        time.Time `json:"to"`   // the next one
	SoundFrom time.Time `json:"soundFrom"`
	SoundTo   time.Time `json:"soundTo"`
}

// tolerance is by how much two machines may disagree on when the same picture was captured: the roundings of RTP and MP4 time.
const tolerance = 3 * time.Millisecond

// has tells whether a sample belongs into the gap.
func (g Gap) has(s sample, video int) bool {
	from, to := g.From.Add(2*tolerance), g.To
	if s.track != video {
		from, to = g.SoundFrom, g.SoundTo
	}
	return !s.wall.Before(from.Add(-tolerance)) && s.wall.Before(to.Add(-tolerance))
}
