package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"gantry/internal/clock"
	"gantry/internal/health"
	"gantry/internal/supervise"
	"gantry/media"
)

var audioDown = health.Warnable{Code: "audio-down", Severity: health.Failing, Visible: 2 * time.Second}

// audio brings sound from its source through its encoder to the destinations' queues. Sound that fails stops nothing else.
type audio struct {
	log     *slog.Logger
	health  *health.Set
	setting *setting[Audio]
	fanout  *fanout
	tracks  *tracks

	mu     sync.Mutex
	source Audio
	format media.AudioFormat
	err    error
	out    meter
}

func (a *audio) run(ctx context.Context) error {
	a.setting.follow(ctx, a.work)
	return nil
}

func (a *audio) work(ctx context.Context, spec Audio) {
	a.mu.Lock()
	a.source, a.err, a.format = spec, nil, media.AudioFormat{}
	a.mu.Unlock()
	if spec.Open == nil {
		a.tracks.setAudio(media.Track{})
		<-ctx.Done()
		return
	}
	a.tracks.setAudio(spec.Track)
	task := supervise.Task{Name: "audio", Log: a.log.With("device", spec.Name), Backoff: sourceBackoff}
	_ = task.Keep(ctx, func(ctx context.Context) error {
		err := a.once(ctx, spec)
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

func (a *audio) once(ctx context.Context, spec Audio) (err error) {
	src, err := spec.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	format, err := src.Start(ctx)
	if err != nil {
		return err
	}
	enc, err := spec.Encode(format)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, enc.Close()) }()
	a.log.Info("audio started", "device", spec.Name, "format", format, "codec", enc.Track().Codec)
	healthy := false
	for {
		samples, err := src.Read(ctx)
		if err != nil {
			return err
		}
		packets, err := enc.Encode(samples)
		if err != nil {
			return err
		}
		for _, p := range packets {
			p.Track = audioTrack
			a.out.add(clock.Now(), len(p.Data))
			a.fanout.push(p, false)
		}
		if !healthy && len(packets) > 0 {
			healthy = true
			a.mu.Lock()
			a.err, a.format = nil, format
			a.mu.Unlock()
			a.health.Clear(audioDown, spec.Name)
		}
	}
}

// bitrate returns what the sound takes of a path, in bit/s.
func (a *audio) bitrate() int {
	_, track := a.tracks.get()
	return track.Bitrate
}
