package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gantry/internal/clock"
	"gantry/internal/health"
	"gantry/media"
	"gantry/media/sound"
)

const (
	soundRate  = 48000
	soundsHeld = 16 // runs that may wait for the desk
	// tardy is how late sound may be before silence stands in for it; what comes later still is left out.
	tardy   = 200 * time.Millisecond
	silence = 20 * time.Millisecond // a run of it
	// loose is how far a run may be from the end of the one before it, and still be taken for its continuation.
	loose = 5 * time.Millisecond
	// leap is a hole that is not worth filling: the machine slept.
	leap = 5 * time.Second
)

var audioMix = health.Warnable{Code: "audio-mix", Severity: health.Failing}

// Levels are what the meters show.
type Levels struct {
	In, Out []sound.Level // of the source's channels, and of what is coded
	Clipped uint64        // runs of an output channel that touched full scale
	Silence time.Duration // that stood in for missing sound
}

// A desk makes one unbroken line of stereo of what the source delivers, and has it coded: it mixes and measures, and puts
// silence where there is nothing. One goroutine uses it.
type desk struct {
	audio  *audio
	spec   Audio
	coders []*audioCoder
	mixer  *sound.Mixer
	mixes  int // channels that mixer is for; 0: none yet
	next   time.Duration
	begun  bool
	silent time.Duration
	in     sound.Meter
	out    sound.Meter
}

func newDesk(a *audio, spec Audio) *desk {
	d := &desk{audio: a, spec: spec}
	for _, c := range spec.Codings {
		d.coders = append(d.coders, &audioCoder{AudioCoding: c, audio: a, subject: fmt.Sprintf("%s as %v", spec.Name, c.Track.Codec)})
	}
	return d
}

// run works until ctx ends.
func (d *desk) run(ctx context.Context, sounds <-chan *media.Audio) {
	tick := time.NewTicker(silence)
	defer tick.Stop()
	begin := clock.Now()
	for {
		select {
		case s := <-sounds:
			d.take(s)
		case <-tick.C:
			if len(sounds) > 0 {
				continue
			}
			now := clock.Now()
			if !d.begun && now-begin > tardy {
				d.next, d.begun = now-tardy, true
			}
			if d.begun {
				d.fill(now - tardy)
			}
		case <-ctx.Done():
			return
		}
		d.show()
	}
}

// fill puts silence up to a PTS, in whole runs.
func (d *desk) fill(until time.Duration) {
	if until-d.next > leap {
		d.next = until
	}
	for until-d.next >= silence {
		d.quiet(silence)
	}
}

// quiet puts a run of silence.
func (d *desk) quiet(long time.Duration) {
	frames := int(long * soundRate / time.Second)
	if frames == 0 {
		return
	}
	d.silent += long
	d.emit(make([]float32, 2*frames))
}

// take puts a run of the source where its PTS says.
func (d *desk) take(s *media.Audio) {
	d.in.Add(s.Samples, s.Format.Channels, s.Duration())
	samples, err := d.mix(s)
	if err != nil {
		d.audio.health.Raise(audioMix, d.spec.Name, err.Error())
		return // silence stands in for it
	}
	d.audio.health.Clear(audioMix, d.spec.Name)
	if !d.begun || s.PTS-d.next > leap {
		d.next, d.begun = s.PTS, true
	}
	switch off := s.PTS - d.next; {
	case off > loose:
		d.fill(s.PTS)
		d.quiet(s.PTS - d.next)
	case off < -loose: // silence has been put there
		missed := 2 * int(-off*soundRate/time.Second)
		if missed >= len(samples) {
			return
		}
		samples = samples[missed:]
	default:
		d.next = s.PTS
	}
	d.emit(samples)
}

var errSoundRate = errors.New("the source's sound is not at 48 kHz")

// mix returns stereo of a run.
func (d *desk) mix(s *media.Audio) (samples []float32, err error) {
	if s.Format.Rate != soundRate {
		return nil, errSoundRate
	}
	if d.mixer == nil || d.mixes != s.Format.Channels {
		if d.mixer, err = sound.NewMixer(d.spec.Mix, s.Format.Channels, d.spec.Gain); err != nil {
			d.mixer = nil
			return nil, err
		}
		d.mixes = s.Format.Channels
	}
	return d.mixer.Apply(s.Samples), nil
}

// emit has stereo coded and moves on past it.
func (d *desk) emit(samples []float32) {
	s := &media.Audio{Format: media.AudioFormat{Rate: soundRate, Channels: 2}, PTS: d.next + d.spec.Delay, Samples: samples}
	d.next += s.Duration()
	d.out.Add(samples, 2, s.Duration())
	var codecs []media.Codec
	for _, c := range d.coders {
		if c.encode(s) {
			codecs = append(codecs, c.Track.Codec)
		}
	}
	d.audio.note(codecs)
}

// show publishes what the meters show.
func (d *desk) show() {
	l := Levels{In: d.in.Levels(), Out: d.out.Levels(), Clipped: d.out.Clipped(), Silence: d.silent}
	d.audio.mu.Lock()
	defer d.audio.mu.Unlock()
	d.audio.levels = l
}

func (d *desk) close() {
	for _, c := range d.coders {
		if err := c.close(); err != nil {
			d.audio.log.Warn("audio encoder not closed", "codec", c.Track.Codec, "err", err)
		}
	}
	d.audio.note(nil)
}
