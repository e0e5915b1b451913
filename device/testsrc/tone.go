package testsrc

import (
	"context"
	"math"
	"time"

	"gantry/device"
	"gantry/internal/clock"
	"gantry/media"
)

// What the Tone plays. The three frequencies repeat together every toneTable samples.
const (
	toneRate      = 48000 // samples a second
	toneTable     = 1200
	toneLeft      = 440                 // Hz
	toneRight     = 880                 // Hz
	beepPitch     = 1000                // Hz
	toneLevel     = 0.12589254117941673 // -18 dBFS
	beepLevel     = 0.35481338923357547 // -9 dBFS
	toneChunk     = toneRate / 100
	beepRamp      = toneRate / 1000 // samples over which tone and beep change places, against clicks
	beepSamples   = int(flashTime * toneRate / time.Second)
	toneGivesUpAt = time.Second // how late a reader may be before samples are left out
)

var (
	tone [2][toneTable]float32
	beep [toneTable]float32
)

func init() {
	for i := range toneTable {
		wave := func(hz int) float64 { return math.Sin(2 * math.Pi * float64(i*hz%toneRate) / toneRate) }
		tone[0][i] = float32(toneLevel * wave(toneLeft))
		tone[1][i] = float32(toneLevel * wave(toneRight))
		beep[i] = float32(beepLevel * wave(beepPitch))
	}
}

// A Tone plays 440 Hz on the left and 880 Hz on the right at -18 dBFS, and a beep of 1 kHz at -9 dBFS for the first 100 ms
// of each UTC second. It implements device.AudioSource: stereo at 48 kHz, in runs of 10 ms.
type Tone struct {
	timer *time.Timer
	t0    time.Duration // capture time of sample 0
	next  int64         // number of the next sample
}

// NewTone returns a Tone.
func NewTone() *Tone { return &Tone{} }

var _ device.AudioSource = (*Tone)(nil)

// Start begins to play.
func (t *Tone) Start(ctx context.Context) (media.AudioFormat, error) {
	if t.timer == nil {
		t.timer = time.NewTimer(time.Hour)
	}
	now := clock.Now()
	t.t0 = now - time.Duration(clock.Wall(now).Nanosecond()) // with samples on whole seconds of UTC
	t.next = int64((now - t.t0) * toneRate / time.Second)
	return media.AudioFormat{Rate: toneRate, Channels: 2}, ctx.Err()
}

func (t *Tone) at(n int64) time.Duration {
	return t.t0 + time.Duration(n/toneRate)*time.Second + time.Duration(n%toneRate*int64(time.Second)/toneRate)
}

// Read waits until the next 10 ms have been played and returns them.
func (t *Tone) Read(ctx context.Context) (*media.Audio, error) {
	if t.timer == nil {
		return nil, device.ErrGone
	}
	if late := clock.Now() - t.at(t.next+toneChunk); late > toneGivesUpAt {
		t.next += int64(late * toneRate / time.Second)
	}
	for {
		wait := t.at(t.next+toneChunk) - clock.Now()
		if wait <= 0 {
			break
		}
		t.timer.Reset(wait)
		select {
		case <-t.timer.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	a := &media.Audio{Format: media.AudioFormat{Rate: toneRate, Channels: 2}, PTS: t.at(t.next)}
	a.Samples = play(make([]float32, 0, 2*toneChunk), t.next, clock.Wall(a.PTS))
	t.next += toneChunk
	return a, nil
}

// play appends a run of samples of which the first has number n and is heard at wall.
func play(samples []float32, n int64, wall time.Time) []float32 {
	second := int((int64(wall.Nanosecond())*toneRate + int64(time.Second)/2) / int64(time.Second))
	for i := range toneChunk {
		at := (n + int64(i)) % toneTable
		left, right := tone[0][at], tone[1][at]
		if share := beepShare((second + i) % toneRate); share > 0 {
			left += share * (beep[at] - left)
			right += share * (beep[at] - right)
		}
		samples = append(samples, left, right)
	}
	return samples
}

// beepShare returns how much of a sample is beep, by its place in the second.
func beepShare(at int) float32 {
	switch {
	case at < beepRamp:
		return float32(at+1) / beepRamp
	case at < beepSamples-beepRamp:
		return 1
	case at < beepSamples:
		return float32(beepSamples-at) / beepRamp
	}
	return 0
}

// Close ends the Tone.
func (t *Tone) Close() error {
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
	return nil
}
