package recording

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"github.com/bluenviron/mediacommon/v2/pkg/formats/fmp4"
)

// holeInside is how much may be missing between two fragments of a recording before it counts as a hole.
const holeInside = 100 * time.Millisecond

// MaxClip is the most bytes of a clip.
const MaxClip = maxBody + maxHead

// A Hole is a time of which there is no recording.
type Hole struct{ From, To time.Time }

// Cut calls send with what the recordings hold of a gap, a clip a fragment: a fragmented MP4 of its own. It returns the holes
// that they have themselves; after one, the next clip begins with a key frame. It ends with send's error.
func (l *Folder) Cut(g Gap, send func(clip []byte) error) (holes []Hole, err error) {
	entries, err := l.entries()
	if err != nil {
		return nil, err
	}
	c := cutter{gap: g, at: g.From, send: send}
	for _, e := range entries {
		if e.last[pictures].to.Before(g.From.Add(-holeInside)) || e.first[pictures].from.After(g.To) {
			continue
		}
		if err := c.file(filepath.Join(l.dir, e.name), e.size); err != nil && !errors.Is(err, os.ErrNotExist) {
			return c.holes, err
		}
	}
	if g.To.Sub(c.at) > holeInside {
		c.holes = append(c.holes, Hole{c.at, g.To})
	}
	return c.holes, nil
}

// A cutter goes through recordings in the order of time.
type cutter struct {
	gap    Gap
	at     time.Time // up to here the pictures have been found, or are known to be missing
	broken bool      // something is missing: a key frame must come next
	send   func([]byte) error
	holes  []Hole
}

func (c *cutter) file(path string, size int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var x index
	return x.scan(f, size, func(at *fragmentAt) error {
		for _, r := range at.runs {
			s := x.span(at, r)
			if r.track != x.video || s.to.Before(c.gap.From) || s.from.After(c.gap.To) {
				continue
			}
			if s.from.Sub(c.at) > holeInside {
				c.holes = append(c.holes, Hole{c.at, s.from})
				c.broken = true
			}
			if s.to.After(c.at) {
				c.at = s.to
			}
		}
		near := slices.ContainsFunc(at.runs, func(r run) bool {
			s := x.span(at, r)
			return s.to.After(c.gap.From.Add(-time.Second)) && s.from.Before(c.gap.To.Add(time.Second))
		})
		if !near {
			return nil
		}
		list, err := x.samples(f, at)
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, func(s sample) bool { return !c.gap.has(s, x.video) })
		if c.broken {
			i := firstKey(list, x.video)
			if i < 0 {
				return nil
			}
			from := list[i].wall
			list = slices.DeleteFunc(list, func(s sample) bool { return s.wall.Before(from) })
			c.broken = false
		}
		if len(list) == 0 {
			return nil
		}
		clip, err := x.clip(list)
		if err != nil {
			return err
		}
		return c.send(clip)
	})
}

// firstKey returns the first key frame's place in the list, -1 where there is none.
func firstKey(list []sample, video int) int {
	return slices.IndexFunc(list, func(s sample) bool { return s.track == video && !s.IsNonSyncSample })
}

// memory is a file that is none.
type memory struct{ bytes.Buffer }

func (*memory) Sync() error  { return nil }
func (*memory) Close() error { return nil }

// clip makes a file of samples.
func (x *index) clip(list []sample) ([]byte, error) {
	var out memory
	f := &file{out: &out}
	if err := f.begin(x.init); err != nil {
		return nil, err
	}
	own := index{init: x.init, video: x.video, ref: reference{x.video, earliest(list), 0}}
	if err := f.write(&own, list); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func earliest(list []sample) time.Time {
	return slices.MinFunc(list, func(a, b sample) int { return a.wall.Compare(b.wall) }).wall
}

// ErrClip: a clip does not fit to what there is.
var ErrClip = errors.New("the clip neither continues a recording nor begins with a key frame")

// Paste puts a clip into the gap of the folder that it belongs to, and returns how many pictures that has closed: none where
// they are there already. The folder is one of the Disk's, by its name there. ErrClip says that the clip does not fit; other
// errors are the clip's fault too, unless they are of the file system.
func (d *Disk) Paste(name string, l *Folder, clip []byte) (taken int, err error) {
	var x index
	var list []sample
	in := bytes.NewReader(clip)
	if err := x.scan(in, int64(len(clip)), func(at *fragmentAt) error {
		more, err := x.samples(in, at)
		list = append(list, more...)
		return err
	}); err != nil {
		return 0, fmt.Errorf("read the clip: %w", err)
	}
	if x.whole != int64(len(clip)) || len(list) == 0 {
		return 0, fmt.Errorf("read the clip: %w", errTorn)
	}
	l.paste.Lock()
	defer l.paste.Unlock()
	entries, err := l.entries()
	if err != nil {
		return 0, err
	}
	for i := 1; i < len(entries); i++ {
		g, ok := between(&entries[i-1].index, &entries[i].index)
		if !ok {
			continue
		}
		own := slices.DeleteFunc(slices.Clone(list), func(s sample) bool { return !g.has(s, x.video) })
		if i := slices.IndexFunc(own, func(s sample) bool { return s.track == x.video }); i < 0 {
			continue
		}
		return d.fill(name, l, entries[i-1], &x, own)
	}
	return 0, nil
}

// fill appends samples to a recording, or to new ones where it is long enough or they differ.
func (d *Disk) fill(name string, l *Folder, before entry, x *index, list []sample) (taken int, err error) {
	for _, s := range list {
		if s.track == x.video {
			taken++
		}
	}
	end := before.last[pictures]
	first := slices.MinFunc(list, func(a, b sample) int {
		if (a.track == x.video) != (b.track == x.video) {
			return map[bool]int{true: -1, false: 1}[a.track == x.video]
		}
		return a.wall.Compare(b.wall)
	})
	continues := first.wall.Sub(end.to) <= end.step*3/2+tolerance && reflect.DeepEqual(before.init.Tracks, x.init.Tracks)
	long := before.size >= int64(d.config.Size) || end.to.Sub(before.first[pictures].from) >= d.config.Every
	rest := list
	switch {
	case !continues:
		if first.IsNonSyncSample {
			return 0, ErrClip
		}
	case long && firstKey(list, x.video) >= 0:
		key := list[firstKey(list, x.video)].wall
		list = slices.DeleteFunc(slices.Clone(rest), func(s sample) bool { return !s.wall.Before(key) })
		rest = slices.DeleteFunc(rest, func(s sample) bool { return s.wall.Before(key) })
	default:
		rest = nil
	}
	if continues && len(list) > 0 {
		if err := d.extend(filepath.Join(l.dir, before.name), &before.index, list); err != nil {
			return 0, err
		}
	}
	if len(rest) > 0 {
		return taken, d.insert(name, x, rest)
	}
	return taken, nil
}

// extend appends a fragment to a recording, after what a power cut may have left of the last one.
func (d *Disk) extend(path string, x *index, list []sample) error {
	d.mu.Lock()
	busy := d.open[path]
	d.mu.Unlock()
	if busy {
		return fmt.Errorf("%s is still written to: %w", filepath.Base(path), ErrClip)
	}
	d.hold(path)
	defer d.release(path)
	if err := d.makeRoom(0); err != nil {
		return err
	}
	out, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	err = out.Truncate(x.whole)
	if err == nil {
		_, err = out.Seek(x.whole, 0)
	}
	if err != nil {
		return errors.Join(err, out.Close())
	}
	return errors.Join((&file{out: out}).write(x, list), out.Close())
}

// insert makes a recording of samples that begin with a key frame.
func (d *Disk) insert(name string, x *index, list []sample) error {
	if err := d.makeRoom(0); err != nil {
		return err
	}
	from := list[firstKey(list, x.video)].wall
	list = slices.DeleteFunc(list, func(s sample) bool { return s.wall.Before(from) })
	out, err := d.create(name, from)
	if err != nil {
		return err
	}
	defer d.release(out.Name())
	f := &file{out: out}
	own := index{init: fmp4.Init{Tracks: x.init.Tracks}, video: x.video, ref: reference{x.video, from, 0}}
	return errors.Join(f.begin(own.init), f.write(&own, list), out.Close())
}
