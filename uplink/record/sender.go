package record

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"gantry/media"
	"gantry/uplink"
)

const (
	jump      = 10 * time.Second       // of the timeline: a new file begins
	lookEvery = 5 * time.Second        // of media, between looks at the disk
	keyEvery  = 500 * time.Millisecond // between requests for a key frame to begin a file with
)

// Carries are the codecs that can be recorded; of several for sound, the first that there is.
var Carries = []media.Codec{media.H264, media.H265, media.AAC, media.Opus}

// A Sender records into one folder. It implements uplink.Sender.
type Sender struct {
	config Config
	log    *slog.Logger
	bytes  uint64
	stats  atomic.Pointer[uplink.Stats]
}

var _ uplink.Reporter = (*Sender)(nil)

// New returns a Sender for a valid Config. It touches no disk.
func New(c Config, log *slog.Logger) *Sender {
	s := &Sender{config: c, log: log}
	s.stats.Store(&uplink.Stats{})
	return s
}

// Stats returns how many bytes were written, the file's name as Remote, and a warning when room gets short.
func (s *Sender) Stats() uplink.Stats { return *s.stats.Load() }

// Run records until ctx or the programme ends, and closes the file then. It blocks on the disk: what waits meanwhile waits in
// the programme's queue.
func (s *Sender) Run(ctx context.Context, p uplink.Program) error {
	video := slices.IndexFunc(p.Tracks, func(t media.Track) bool { return t.Codec == media.H264 || t.Codec == media.H265 })
	if video < 0 {
		return fmt.Errorf("record: H.264 and H.265 pictures are recorded, and there are none: %w", uplink.ErrRefused)
	}
	r := &run{Sender: s, program: p, video: video, disk: disk{config: s.config}}
	err := r.work(ctx)
	if r.file != nil {
		err = errors.Join(err, r.file.close())
	}
	s.stats.Store(&uplink.Stats{Bytes: s.bytes})
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// A run is one call of Run.
type run struct {
	*Sender
	program uplink.Program
	video   int
	disk    disk
	file    *file // nil before the first key frame
	looked  time.Duration
	asked   time.Duration
}

func (r *run) work(ctx context.Context) error {
	r.asked = -time.Hour
	for {
		p, err := r.program.Packets.Pull(ctx)
		if err != nil {
			return err
		}
		if int(p.Track) == r.video {
			if err := r.turn(p); err != nil {
				return fmt.Errorf("record into %s: %w", r.config.Dir, err)
			}
		}
		if r.file == nil {
			continue
		}
		before := r.file.size
		if err := r.file.add(p); err != nil {
			return fmt.Errorf("record into %s: %w", r.file.out.Name(), err)
		}
		if wrote := r.file.size - before; wrote > 0 {
			r.wrote(wrote)
		}
		if p.DTS-r.looked > lookEvery {
			r.looked = p.DTS
			if err := r.disk.makeRoom(r.file.out.Name(), 0); err != nil {
				return err
			}
			r.wrote(0)
		}
	}
}

func (r *run) wrote(n int64) {
	r.bytes += uint64(n)
	r.disk.used += n
	r.stats.Store(&uplink.Stats{Remote: r.file.out.Name(), Bytes: r.bytes, Warning: r.disk.warning()})
}

// turn begins a file with a picture where one is due.
func (r *run) turn(p *media.Packet) error {
	codec := r.program.Tracks[r.video].Codec
	due := r.file == nil || p.DTS-r.file.base >= r.config.Every || r.file.size >= int64(r.config.Size) ||
		p.DTS < r.file.last-jump || p.DTS > r.file.last+jump
	var now sets
	if p.Key {
		now, _ = part(codec, p.Data)
		due = due || now.complete(codec) && !now.equal(r.file.sets)
	}
	if !due {
		return nil
	}
	if !p.Key || !now.complete(codec) {
		if (p.DTS - r.asked).Abs() > keyEvery {
			r.asked = p.DTS
			r.program.Feedback(media.Feedback{KeyFrame: true})
		}
		return nil
	}
	first := r.file == nil
	if !first {
		old := r.file
		r.file = nil
		if err := old.close(); err != nil {
			return err
		}
	}
	out, err := r.disk.create(r.program.Wall(p.PTS))
	if err != nil {
		return err
	}
	if err := r.disk.makeRoom(out.Name(), int64(r.config.Size)); err != nil {
		return errors.Join(err, out.Close())
	}
	if r.file, err = newFile(out, r.program.Tracks, r.video, p); err != nil {
		r.file = nil
		return errors.Join(err, out.Close())
	}
	r.looked = p.DTS
	r.wrote(r.file.size)
	r.log.Info("recording", "file", out.Name())
	if first && r.program.Connected != nil {
		r.program.Connected()
	}
	return nil
}
