package alsa

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"gantry/device"
	"gantry/internal/clock"
	"gantry/media"
	"gantry/media/resample"
)

const (
	run     = 10 * time.Millisecond  // the least that Read returns of the card's time
	stalled = 500 * time.Millisecond // without a sample: the card has stopped
)

// A Source captures from one card. It implements device.AudioSource: sound at 48 kHz with as many channels as the card has.
type Source struct {
	log      *slog.Logger
	card     Card
	pcm      pcm
	stream   stream
	resample *resample.Resampler
	line     *timeline
	running  bool
	spare    []byte
	raw      []float32

	mu    sync.Mutex
	stats device.SoundStats
}

var (
	_ device.AudioSource   = (*Source)(nil)
	_ device.SoundReporter = (*Source)(nil)
)

// Open opens the card that c means. Errors say what to do: device.ErrNotFound, device.ErrBusy, device.ErrUnsupported.
func Open(c Config, log *slog.Logger) (*Source, error) {
	card, err := find(os.DirFS("/"), c.Card)
	if err != nil {
		return nil, err
	}
	p, s, err := openPCM(c, card)
	if err != nil {
		return nil, err
	}
	return newSource(card, p, s, log)
}

func newSource(card Card, p pcm, s stream, log *slog.Logger) (*Source, error) {
	s.said = s.channels
	log.Debug("sound card opened", "device", card.Name, "format", fmt.Sprintf("%s %d Hz %d ch", s.layout.name, s.rate, s.channels))
	var why string
	if s.rate, s.channels, why = truth(card.usbID(), s.rate, s.channels); why != "" {
		log.Info("sound card corrected", "device", card.Name, "reason", why)
	}
	r, err := resample.New(s.channels, s.rate, outRate)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("sound card %s: %w", card.Name, err), p.Close())
	}
	return &Source{log: log, card: card, pcm: p, stream: s, resample: r, line: newTimeline(s.rate, &r.Cursor)}, nil
}

// Start begins to capture, or begins anew.
func (s *Source) Start(ctx context.Context) (media.AudioFormat, error) {
	if s.pcm == nil {
		return media.AudioFormat{}, device.ErrGone
	}
	if err := s.begin(); err != nil {
		return media.AudioFormat{}, explain(s.card, err)
	}
	return s.format(), ctx.Err()
}

func (s *Source) format() media.AudioFormat {
	return media.AudioFormat{Rate: outRate, Channels: s.stream.channels}
}

func (s *Source) begin() error {
	if err := s.pcm.restart(); err != nil {
		return err
	}
	s.resample.Restart()
	s.line.restart()
	s.running = true
	return nil
}

// Read waits until the card has captured 10 ms or more and returns all that there is, as much as 320 ms after a delay. An
// overrun is counted and leaves a gap in the PTS.
func (s *Source) Read(ctx context.Context) (*media.Audio, error) {
	if s.pcm == nil || !s.running {
		return nil, device.ErrGone
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	since := clock.Now()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		a, missing, err := s.try()
		switch {
		case errors.Is(err, errOverrun):
			if err := s.recover(); err != nil {
				return nil, explain(s.card, err)
			}
			missing, since = run, clock.Now()
		case err != nil:
			return nil, explain(s.card, err)
		case a != nil:
			return a, nil
		}
		if clock.Now()-since > stalled {
			return nil, fmt.Errorf("sound card %s: %w: no sample for %v", s.card.Name, device.ErrGone, stalled)
		}
		timer.Reset(max(missing, time.Millisecond))
	}
}

func (s *Source) recover() error {
	s.mu.Lock()
	s.stats.Overruns++
	s.mu.Unlock()
	s.log.Warn("sound lost", "device", s.card.Name, "reason", "samples were not fetched in time")
	return s.begin()
}

// try returns what the card has captured, or how long it takes until there is enough.
func (s *Source) try() (*media.Audio, time.Duration, error) {
	frames, at, err := s.pcm.avail()
	if err != nil {
		return nil, 0, err
	}
	c := s.stream
	frames = frames * c.said / c.channels // of a card that says mono and delivers stereo, two make one
	enough := c.rate * int(run/time.Millisecond) / 1000
	if frames < enough {
		return nil, time.Duration(enough-frames) * time.Second / time.Duration(c.rate), nil
	}
	n := frames * c.channels
	if cap(s.spare) < n*c.layout.bytes {
		s.spare, s.raw = make([]byte, n*c.layout.bytes), make([]float32, n)
	}
	buf, raw := s.spare[:n*c.layout.bytes], s.raw[:n]
	if err := s.pcm.read(buf); err != nil {
		return nil, 0, err
	}
	c.layout.read(raw, buf)
	s.line.observe(s.resample.Fed()+int64(frames), at)
	if !s.line.steer() {
		return nil, 0, errOverrun // frames went missing, or the clock stood still: the same
	}
	out := s.resample.Process(make([]float32, 0, n*outRate/c.rate+16*c.channels), raw)
	s.mu.Lock()
	s.stats.Drift, s.stats.Offset = s.line.ppm(), s.line.offset
	s.mu.Unlock()
	if len(out) == 0 {
		return nil, run, nil // the filter is being filled
	}
	return &media.Audio{Format: s.format(), PTS: s.line.left(len(out) / c.channels), Samples: out}, 0, nil
}

// SoundStats tells what is known of the card's clock.
func (s *Source) SoundStats() device.SoundStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Close frees the card.
func (s *Source) Close() error {
	if s.pcm == nil {
		return nil
	}
	err := s.pcm.Close()
	s.pcm, s.running = nil, false
	if err != nil {
		return fmt.Errorf("close sound card %s: %w", s.card.Name, err)
	}
	return nil
}
