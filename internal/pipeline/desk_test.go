package pipeline

import (
	"math"
	"testing"
	"time"

	"gantry/internal/clock"
	"gantry/internal/health"
	"gantry/media"
	"gantry/media/sound"
)

// The track of sound goes on, 20 ms after 20 ms, while there is no card, when it comes, when samples are lost, and when it goes.
func TestSoundNeverStops(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a := newPeer("a")
		m := &mic{err: errUnplugged}
		r := start(t, func(r *rig) { r.spec.Audio = m.audio() }, a)
		for _, err := range []error{errUnplugged, nil, errUnplugged, nil} {
			m.mu.Lock()
			m.err = err
			m.mu.Unlock()
			sleep(3 * time.Second)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		var last time.Duration
		n := 0
		for _, p := range a.packets {
			if p.Track != audioTrack {
				continue
			}
			if n++; n > 1 && (p.PTS <= last || p.PTS > last+25*time.Millisecond) {
				t.Errorf("PTS %v after %v", p.PTS, last)
			}
			last = p.PTS
		}
		if n < 560 {
			t.Errorf("%d packets of sound in 12 s", n)
		}
		if age := clock.Now() - last; age > 300*time.Millisecond {
			t.Errorf("the last packet is %v old", age)
		}
		if st := r.Status().Audio; st.Levels.Silence < 4*time.Second || len(st.Levels.In) != 2 || len(st.Levels.Out) != 2 || a.runs != 1 {
			t.Errorf("%+v, %d connections", st, a.runs)
		}
	})
}

// What the desk does to samples: mix, gain, delay, gaps and overlaps.
func TestDesk(t *testing.T) {
	mix, err := sound.ParseMix("3,1")
	if err != nil {
		t.Fatal(err)
	}
	d := newDesk(&audio{health: new(health.Set)}, Audio{Mix: mix, Gain: -20, Delay: 80 * time.Millisecond})
	run := func(pts time.Duration, frames int) *media.Audio {
		s := &media.Audio{Format: media.AudioFormat{Rate: 48000, Channels: 3}, PTS: pts}
		for range frames {
			s.Samples = append(s.Samples, 0.1, 0.2, 1)
		}
		return s
	}
	const begin = 10 * time.Second
	for _, c := range []struct {
		pts          time.Duration
		frames       int
		next, silent time.Duration
	}{
		{begin, 480, 10 * time.Millisecond, 0},
		{begin + 11*time.Millisecond, 480, 21 * time.Millisecond, 0}, // as good as the next
		{begin + 121*time.Millisecond, 480, 131 * time.Millisecond, 100 * time.Millisecond},
		{begin + 111*time.Millisecond, 960, 131 * time.Millisecond, 100 * time.Millisecond},  // what is there already
		{begin + 121*time.Millisecond, 1440, 151 * time.Millisecond, 100 * time.Millisecond}, // the rest of it
		{begin + time.Minute, 480, time.Minute + 10*time.Millisecond, 100 * time.Millisecond},
	} {
		d.take(run(c.pts, c.frames))
		if next := d.next - begin; (next-c.next).Abs() > time.Microsecond || (d.silent-c.silent).Abs() > time.Microsecond {
			t.Errorf("%v and %d frames: next at %v, %v of silence; want %v and %v", c.pts-begin, c.frames, next, d.silent, c.next, c.silent)
		}
	}
	d.show()
	if l := d.audio.levels; len(l.In) != 3 || len(l.Out) != 2 || math.Abs(l.Out[0].Peak+20) > 0.3 || math.Abs(l.Out[1].Peak+40) > 0.3 {
		t.Errorf("%+v", l)
	}
}
