// Package file plays a media file again and again, at its own pace, as if it were a live input: MP4 (also fragmented, as gantryd
// records) and MPEG-TS, with H.264 or H.265, and AAC or Opus. It implements device.PacketSource: packets go out as they are in the file,
// and the timeline runs on where the file begins anew.
//
// It decodes nothing and knows no other container: ffmpeg -i FILE -c copy FILE.mp4 makes one of most.
package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"gantry/device"
	"gantry/internal/clock"
	"gantry/media"
)

const (
	queueLimit = time.Second // of media that waits for Read
	late       = time.Second // further behind its pace, it goes on from where it is: the machine slept
	jump       = 2 * time.Second
)

// Config says which file. It is comparable.
type Config struct {
	Path string `yaml:"path"` // absolute
}

// Default returns no path.
func Default() Config { return Config{} }

// SetDefaults makes c what Default returns.
func (c *Config) SetDefaults() { *c = Default() }

// Validate says what is wrong.
func (c Config) Validate() error {
	if c.Path != "" && !filepath.IsAbs(c.Path) {
		return fmt.Errorf("path: %q is not an absolute path", c.Path)
	}
	return nil
}

// A Source plays one file. It implements device.PacketSource.
type Source struct {
	config Config
	log    *slog.Logger
	run    *player // nil while not started
}

var _ device.PacketSource = (*Source)(nil)

// New returns a Source for a valid Config. It opens nothing.
func New(c Config, log *slog.Logger) *Source { return &Source{config: c, log: log} }

// A player plays a file in a goroutine of its own.
type player struct {
	file   *os.File
	log    *slog.Logger
	tracks chan []media.Track // of the first time through
	queue  *media.Queue
	stop   context.CancelFunc
	work   sync.WaitGroup

	pace pace
}

// Start implements device.PacketSource. Its error wraps device.ErrNotFound where there is no such file, and device.ErrUnsupported where
// it cannot be played.
func (s *Source) Start(ctx context.Context) ([]media.Track, error) {
	if err := s.Close(); err != nil {
		return nil, err
	}
	f, err := os.Open(s.config.Path)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", device.ErrNotFound, err)
	}
	if err != nil {
		return nil, err
	}
	inner, stop := context.WithCancel(context.Background()) // ended by Close
	p := &player{file: f, log: s.log, stop: stop, tracks: make(chan []media.Track, 1)}
	failed := make(chan error, 1)
	p.work.Go(func() {
		err := fmt.Errorf("play %s: %w", s.config.Path, p.play(inner))
		failed <- err
		if p.queue != nil {
			p.queue.Close(err)
		}
	})
	s.run = p
	select {
	case tracks := <-p.tracks:
		return tracks, nil
	case err = <-failed:
	case <-ctx.Done():
		err = ctx.Err()
	}
	return nil, errors.Join(err, s.Close())
}

// Read implements device.PacketSource.
func (s *Source) Read(ctx context.Context) (*media.Packet, error) {
	if s.run == nil {
		return nil, errors.New("file: not started")
	}
	return s.run.queue.Pull(ctx)
}

// Close ends playing and closes the file.
func (s *Source) Close() error {
	if s.run == nil {
		return nil
	}
	s.run.stop()
	s.run.work.Wait()
	err := s.run.file.Close()
	s.run = nil
	return err
}

// play plays the file until ctx ends or it fails.
func (p *player) play(ctx context.Context) error {
	head := make([]byte, 12)
	if _, err := io.ReadFull(p.file, head); err != nil {
		return fmt.Errorf("it is too short: %w", device.ErrUnsupported)
	}
	once := p.playTS
	switch {
	case string(head[4:8]) == "ftyp" || string(head[4:8]) == "moov" || string(head[4:8]) == "styp":
		lanes, err := readMP4(p.file)
		if err != nil {
			return fmt.Errorf("%w: %w", device.ErrUnsupported, err)
		}
		once = func(ctx context.Context) error { return p.playMP4(ctx, lanes) }
	case head[0] != 0x47:
		return fmt.Errorf("it is neither MP4 nor MPEG-TS; ffmpeg -i FILE -c copy FILE.mp4 makes one of most: %w", device.ErrUnsupported)
	}
	for {
		sent := p.pace.sent
		if err := once(ctx); err != nil {
			return err
		}
		if p.pace.sent == sent {
			return fmt.Errorf("it has no picture at which playing can begin: %w", device.ErrUnsupported)
		}
		p.pace.again()
	}
}

// begin announces the tracks, the first time.
func (p *player) begin(tracks []media.Track) error {
	if p.queue != nil {
		return nil
	}
	p.queue = media.NewQueue(queueLimit, tracks)
	p.pace.last = make([]time.Duration, len(tracks))
	p.pace.begun = make([]bool, len(tracks))
	p.tracks <- tracks
	return nil
}

// push waits until a packet is due, and hands it on. Its times are the file's.
func (p *player) push(ctx context.Context, pkt *media.Packet) error {
	wait := p.pace.place(pkt, clock.Now())
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	p.queue.Push(pkt)
	return nil
}
