package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"gantry/device"
	"gantry/encoder"
	"gantry/internal/clock"
	"gantry/internal/health"
	"gantry/internal/supervise"
	"gantry/media"
)

var audioDown = health.Warnable{Code: "audio-down", Severity: health.Failing, Visible: 2 * time.Second}

// audioReopen is how long an encoder for sound that failed is left alone.
const audioReopen = 5 * time.Second

// audio brings sound from its source through its encoders to the destinations' queues. Sound that fails stops nothing else.
type audio struct {
	log     *slog.Logger
	health  *health.Set
	setting *setting[Audio]
	fanout  *fanout
	tracks  *tracks

	mu     sync.Mutex
	source Audio
	format media.AudioFormat
	codecs []media.Codec // as which it is coded now
	err    error
	out    meter

	reporter device.SoundReporter // of the open source; nil: it has nothing to say
	levels   Levels
}

// tracks are what destinations can choose from.
func (a Audio) tracks() (list []media.Track) {
	if a.Open == nil {
		return nil
	}
	for _, c := range a.Codings {
		list = append(list, c.Track)
	}
	return list
}

func (a *audio) run(ctx context.Context) error {
	a.setting.follow(ctx, a.work)
	return nil
}

func (a *audio) work(ctx context.Context, spec Audio) {
	a.mu.Lock()
	a.source, a.err, a.format, a.levels = spec, nil, media.AudioFormat{}, Levels{}
	a.mu.Unlock()
	if !spec.Coded { // whose tracks are known once it has been started
		a.tracks.setAudio(spec.tracks())
	}
	if spec.Open == nil {
		<-ctx.Done()
		return
	}
	desk := newDesk(a, spec)
	defer desk.close()
	sounds := make(chan *media.Audio, soundsHeld)
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.capture(ctx, spec, sounds)
	}()
	desk.run(ctx, sounds)
	<-done
}

// capture brings sound of the source to sounds, and opens the source again when it fails.
func (a *audio) capture(ctx context.Context, spec Audio, sounds chan<- *media.Audio) {
	task := supervise.Task{Name: "audio", Log: a.log.With("device", spec.Name), Backoff: sourceBackoff, Wake: spec.Wake}
	_ = task.Keep(ctx, func(ctx context.Context) error {
		err := a.once(ctx, spec, sounds)
		if ctx.Err() == nil {
			a.mu.Lock()
			a.err = err
			a.mu.Unlock()
			a.health.Raise(audioDown, spec.Name, err.Error())
		}
		return err
	})
	a.health.Clear(audioDown, spec.Name)
}

func (a *audio) once(ctx context.Context, spec Audio, sounds chan<- *media.Audio) (err error) {
	src, err := spec.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	format, err := src.Start(ctx)
	if err != nil {
		return err
	}
	a.log.Info("audio started", "device", spec.Name, "format", format)
	a.report(src)
	defer a.report(nil)
	healthy := false
	for {
		samples, err := src.Read(ctx)
		if err != nil {
			return err
		}
		select { // the desk is only ever busy for as long as an encoder is opened
		case sounds <- samples:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if !healthy {
			healthy = true
			a.mu.Lock()
			a.err, a.format = nil, format
			a.mu.Unlock()
			a.health.Clear(audioDown, spec.Name)
		}
	}
}

// report says whom to ask about the source's clock.
func (a *audio) report(src device.AudioSource) {
	reporter, _ := src.(device.SoundReporter)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reporter = reporter
}

func (a *audio) note(codecs []media.Codec) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.codecs = codecs
}

// bitrate returns what the sound takes of a path, in bit/s: of the paths, that on which it takes the most.
func (a *audio) bitrate() (most int) {
	setting, _ := a.setting.get()
	for _, t := range setting.tracks() {
		if a.fanout.wants(t.Codec) {
			most = max(most, t.Bitrate)
		}
	}
	return most
}

// An audioCoder codes the sound in one way while somebody wants it. One goroutine uses it.
type audioCoder struct {
	AudioCoding
	audio   *audio
	subject string // for the health conditions
	enc     encoder.AudioEncoder
	failed  bool
	at      time.Duration // PTS at which it failed
}

// encode brings s to the queues of those that chose this coding, and tells whether it was coded.
func (c *audioCoder) encode(s *media.Audio) bool {
	if !c.audio.fanout.wants(c.Track.Codec) {
		if err := c.close(); err != nil {
			c.audio.log.Warn("audio encoder not closed", "codec", c.Track.Codec, "err", err)
		}
		c.audio.health.Clear(audioDown, c.subject)
		return false
	}
	if c.failed && (s.PTS-c.at).Abs() < audioReopen {
		return false
	}
	err := c.open(s.Format)
	if err == nil {
		var packets []*media.Packet
		packets, err = c.enc.Encode(s)
		for _, p := range packets {
			c.audio.out.add(clock.Now(), len(p.Data))
			c.audio.fanout.push(p, c.Track.Codec)
		}
	}
	if err != nil { // the other codings go on
		c.audio.health.Raise(audioDown, c.subject, err.Error())
		_ = c.close() // what went wrong is said
		c.failed, c.at = true, s.PTS
		return false
	}
	c.failed = false
	c.audio.health.Clear(audioDown, c.subject)
	return true
}

func (c *audioCoder) open(format media.AudioFormat) (err error) {
	if c.enc != nil {
		return nil
	}
	if c.enc, err = c.Encode(format); err != nil {
		c.enc = nil
		return err
	}
	c.audio.log.Debug("audio encoder opened", "codec", c.Track.Codec)
	return nil
}

func (c *audioCoder) close() error {
	if c.enc == nil {
		return nil
	}
	err := c.enc.Close()
	c.enc = nil
	return err
}
