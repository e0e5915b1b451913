package recording

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"gantry/media"
)

const (
	lookEvery = 5 * time.Second        // of media, between looks at the disk
	keyEvery  = 500 * time.Millisecond // between requests for a key frame to begin a file with
	smallHole = 50 * time.Millisecond  // between a picture and a key frame: none that matters
	wallStep  = 20 * time.Millisecond  // of the capture clock against the media's: a new file begins
)

// Carries are the codecs that can be recorded.
var Carries = []media.Codec{media.H264, media.H265, media.AAC, media.Opus}

// ErrNoPictures: only programmes with H.264 or H.265 pictures are recorded.
var ErrNoPictures = errors.New("H.264 and H.265 pictures are recorded, and there are none")

// A Source is what a Writer must know of the programme besides its packets.
type Source struct {
	Tracks []media.Track // of access units; of several with pictures the first is recorded
	// Wall tells when a track's PTS was captured; false while nobody knows.
	Wall func(track uint8, pts time.Duration) (time.Time, bool)
	// KeyFrame asks for a key frame to begin a file with.
	KeyFrame func()
}

// A Writer records a programme. A file ends at Config's Every and Size, at the next key frame; where the parameter sets change;
// and where pictures are missing: what is damaged up to the next key frame is left out, so that every file plays without fault.
// One goroutine uses it.
type Writer struct {
	disk   *Disk
	folder string
	source Source
	log    *slog.Logger
	video  int

	file   *file
	path   string
	last   time.Duration // DTS of the newest picture
	step   time.Duration // between the two newest
	anchor anchor
	looked time.Duration
	asked  time.Duration
}

// An anchor is a media time of which the capture is known.
type anchor struct {
	pts  time.Duration
	wall time.Time
}

// NewWriter returns a Writer for a folder of the Disk, "" for the Disk's own. It writes nothing before the first key frame.
func NewWriter(d *Disk, folder string, s Source, log *slog.Logger) (*Writer, error) {
	video := slices.IndexFunc(s.Tracks, func(t media.Track) bool { return t.Codec == media.H264 || t.Codec == media.H265 })
	if video < 0 {
		return nil, ErrNoPictures
	}
	return &Writer{disk: d, folder: folder, source: s, log: log, video: video, asked: -time.Hour}, nil
}

// Path returns the file that is written to, empty before the first and between two.
func (w *Writer) Path() string { return w.path }

// Write takes the programme's next packet and returns how many bytes it has put on the disk, for which it waits.
func (w *Writer) Write(p *media.Packet) (wrote int64, err error) {
	if int(p.Track) >= len(w.source.Tracks) {
		return 0, nil
	}
	var before int64
	if w.file != nil {
		before = w.file.size
	}
	old := w.file
	wall := w.wall(p)
	if int(p.Track) == w.video {
		if err := w.turn(p, wall); err != nil {
			return 0, fmt.Errorf("record into %s: %w", w.disk.config.Dir, err)
		}
		if w.file == nil {
			return 0, nil
		}
		if w.file == old && p.DTS > w.last {
			w.step = p.DTS - w.last
		}
		w.last = p.DTS
	}
	if w.file == nil {
		return 0, nil
	}
	if w.file != old {
		before = 0
	}
	if err := w.file.add(p, wall); err != nil {
		return 0, fmt.Errorf("record into %s: %w", w.path, err)
	}
	wrote = w.file.size - before
	w.disk.wrote(wrote)
	if (p.DTS - w.looked).Abs() > lookEvery {
		w.looked = p.DTS
		return wrote, w.disk.makeRoom(0)
	}
	return wrote, nil
}

// Close ends the file.
func (w *Writer) Close() error {
	if w.file == nil {
		return nil
	}
	f, path := w.file, w.path
	w.file, w.path = nil, ""
	before := f.size
	err := f.close()
	w.disk.wrote(f.size - before)
	w.disk.release(path)
	return err
}

// wall returns when p was captured: as the source says, or else by what it said last, or else now.
func (w *Writer) wall(p *media.Packet) time.Time {
	at, known := w.source.Wall(p.Track, p.PTS)
	if !known {
		if w.anchor.wall.IsZero() {
			w.anchor = anchor{p.PTS, time.Now()}
		}
		return w.anchor.wall.Add(p.PTS - w.anchor.pts)
	}
	if w.file == nil {
		w.anchor = anchor{p.PTS, at}
	}
	return at
}

// turn begins a file with a picture where one is due.
func (w *Writer) turn(p *media.Packet, wall time.Time) error {
	codec := w.source.Tracks[w.video].Codec
	if w.file != nil && p.Lost && !p.Key { // what follows cannot be decoded
		if err := w.Close(); err != nil {
			return err
		}
	}
	config := w.disk.config
	due := w.file == nil || p.Lost || p.DTS-w.file.base >= config.Every || w.file.size >= int64(config.Size) || p.DTS < w.last
	var now sets
	if p.Key {
		now, _ = part(codec, p.Data)
		due = due || now.complete(codec) && !now.equal(w.file.sets)
		hole := w.file != nil && p.DTS-w.last > smallHole && w.step > 0 && p.DTS-w.last > 5*w.step/2
		moved := wall.Sub(w.anchor.wall.Add(p.PTS - w.anchor.pts))
		due = due || hole || moved.Abs() > wallStep
	}
	if !due {
		return nil
	}
	if !p.Key || !now.complete(codec) {
		if (p.DTS - w.asked).Abs() > keyEvery {
			w.asked = p.DTS
			w.source.KeyFrame()
		}
		return nil
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := w.disk.makeRoom(int64(config.Size)); err != nil {
		return err
	}
	out, err := w.disk.create(w.folder, wall)
	if err != nil {
		return err
	}
	f, err := newFile(out, w.source.Tracks, w.video, p)
	if err != nil {
		w.disk.release(out.Name())
		return errors.Join(err, out.Close())
	}
	w.file, w.path, w.looked, w.anchor = f, out.Name(), p.DTS, anchor{p.PTS, wall}
	w.log.Info("recording", "file", w.path)
	return nil
}
