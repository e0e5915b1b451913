package record

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"gantry/internal/recording"
	"gantry/media"
	"gantry/uplink"
)

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
	disk := recording.NewDisk(s.config.Config)
	w, err := recording.NewWriter(disk, "", recording.Source{
		Tracks:   p.Tracks,
		Wall:     func(_ uint8, pts time.Duration) (time.Time, bool) { return p.Wall(pts), true },
		KeyFrame: func() { p.Feedback(media.Feedback{KeyFrame: true}) },
	}, s.log)
	if err != nil {
		return fmt.Errorf("record: %w: %w", err, uplink.ErrRefused)
	}
	err = s.work(ctx, p, w, disk)
	err = errors.Join(err, w.Close())
	s.stats.Store(&uplink.Stats{Bytes: s.bytes})
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (s *Sender) work(ctx context.Context, program uplink.Program, w *recording.Writer, disk *recording.Disk) error {
	connected := false
	for {
		p, err := program.Packets.Pull(ctx)
		if err != nil {
			return err
		}
		n, err := w.Write(p)
		if err != nil {
			return err
		}
		if w.Path() == "" {
			continue
		}
		if n > 0 || !connected {
			s.bytes += uint64(n)
			s.stats.Store(&uplink.Stats{Remote: w.Path(), Bytes: s.bytes, Warning: disk.Warning()})
		}
		if !connected {
			connected = true
			if program.Connected != nil {
				program.Connected()
			}
		}
	}
}
