package alsa

import (
	"math"
	"time"

	"gantry/media/resample"
)

const (
	outRate = 48000 // what all sound leaves with, in Hz

	// How wide the loop that follows the card's clock is, in Hz: wide at first, to find it, then narrow, to be calm.
	widest   = 1.0
	narrowed = 0.01
	settling = 30 * time.Second // over which it narrows

	catchUp = 4 * time.Second // time constant with which what is out of place is put right
	bend    = 500e-6          // by how much more than the drift the sound is stretched for that, at the most: nobody hears it

	maxDrift = 2000e-6               // no card's clock is that far off: the readings are wrong
	tooFar   = 50 * time.Millisecond // out of place: the timeline begins anew
)

// A follower learns the card's clock from readings of how many frames there were at what time. It is a delay-locked loop of
// second order: F. Adriaensen, "Using a DLL to filter time", 2005.
type follower struct {
	nominal float64 // seconds a frame by the card's word
	period  float64 // seconds a frame, as measured
	frames  int64   // at the last reading
	at      float64 // seconds after base that belong to frames, smoothed
	base    time.Duration
	age     float64 // seconds since the first reading
	begun   bool
}

// observe takes a reading: frames had been captured when the clock showed at.
func (f *follower) observe(frames int64, at time.Duration) {
	if !f.begun {
		f.frames, f.base, f.at, f.age, f.begun = frames, at, 0, 0, true
		return
	}
	d := float64(frames - f.frames)
	if d <= 0 {
		return
	}
	span := d * f.nominal
	f.age += span
	width := max(narrowed, widest*math.Exp(-f.age/settling.Seconds()*math.Log(widest/narrowed)))
	omega := min(2*math.Pi*width*span, 0.5)
	predicted := f.at + d*f.period
	wrong := (at - f.base).Seconds() - predicted
	f.frames, f.at = frames, predicted+math.Sqrt2*omega*wrong
	f.period += omega * omega * wrong / d
	f.period = min(max(f.period, f.nominal*(1-maxDrift)), f.nominal*(1+maxDrift))
}

// time returns when a frame was captured, by all that is known.
func (f *follower) time(whole int64, part float64) time.Duration {
	s := f.at + (float64(whole-f.frames)+part)*f.period
	return f.base + time.Duration(s*float64(time.Second))
}

// rebase keeps what was learnt of the card's rate, for frames that count from 0 again.
func (f *follower) rebase() { f.begun, f.frames = false, 0 }

// ppm returns by how much the card's clock runs fast, in millionths.
func (f *follower) ppm() float64 { return (f.nominal/f.period - 1) * 1e6 }

// A timeline says how the card's frames become frames of 48 kHz of CLOCK_MONOTONIC.
type timeline struct {
	follower
	cursor *resample.Cursor
	start  time.Duration // PTS of the first frame that leaves
	begun  bool
	out    int64 // frames that have left
	offset time.Duration
}

// newTimeline returns the timeline of a card that says to run at rate, whose frames go through cursor.
func newTimeline(rate int, cursor *resample.Cursor) *timeline {
	t := &timeline{cursor: cursor}
	t.nominal = 1 / float64(rate)
	t.period = t.nominal
	return t
}

// restart begins a new timeline after a gap of unknown length; the resampler has been restarted too.
func (t *timeline) restart() {
	t.rebase()
	t.begun, t.out, t.offset = false, 0, 0
}

// steer sets the ratio for the frames that are fed next, after observe. It returns false when the timeline is out of place
// beyond what can be put right in silence: it must restart then.
func (t *timeline) steer() bool {
	whole, part := t.cursor.Next()
	is := t.time(whole, part)
	if !t.begun {
		t.start, t.out, t.begun = is, 0, true
	}
	t.offset = t.pts() - is
	if t.offset.Abs() > tooFar {
		return false
	}
	step := 1 / (outRate * t.period)
	extra := t.offset.Seconds() / catchUp.Seconds()
	t.cursor.SetStep(step * (1 + min(max(extra, -bend), bend)))
	return true
}

// pts returns the PTS of the next frame that leaves.
func (t *timeline) pts() time.Duration {
	return t.start + time.Duration(t.out/outRate)*time.Second + time.Duration(t.out%outRate)*time.Second/outRate
}

// left takes note of frames that leave and returns the PTS of the first.
func (t *timeline) left(frames int) time.Duration {
	pts := t.pts()
	t.out += int64(frames)
	return pts
}
