package sound

import (
	"math"
	"time"
)

// Floor is what a Meter shows of silence, in dBFS.
const Floor = -120

const (
	window  = 300 * time.Millisecond // over which the RMS is smoothed
	falling = 20.0 / 1.7             // dB/s by which a peak falls, as IEC 60268-10 type I meters do
)

// A Level is what a meter shows of one channel, in dB of full scale. A sine at full scale has a Peak of 0 and an RMS of -3.
type Level struct {
	Peak float64 // falls slowly
	RMS  float64
}

// A Meter measures each channel of interleaved sound. One goroutine uses it.
type Meter struct {
	channels []channel
	clipped  uint64
}

type channel struct {
	peak, power float64
}

// Add measures a run of samples that plays for d. Another number of channels begins anew.
func (m *Meter) Add(samples []float32, channels int, d time.Duration) {
	frames := len(samples) / max(channels, 1)
	if frames == 0 {
		return
	}
	if len(m.channels) != channels {
		m.channels = make([]channel, channels)
	}
	keep := math.Exp(-float64(d) / float64(window))
	fall := math.Pow(10, -falling*d.Seconds()/20)
	for c := range m.channels {
		var top, sum float32
		for i := c; i < frames*channels; i += channels {
			s := samples[i]
			top = max(top, s, -s)
			sum += s * s
		}
		if top >= 1-1.0/32768 {
			m.clipped++
		}
		h := &m.channels[c]
		h.peak = max(h.peak*fall, float64(top))
		h.power = h.power*keep + float64(sum)/float64(frames)*(1-keep)
	}
}

// Levels returns what the Meter shows, a Level a channel.
func (m *Meter) Levels() []Level {
	list := make([]Level, len(m.channels))
	for i, c := range m.channels {
		list[i] = Level{Peak: decibels(c.peak), RMS: decibels(math.Sqrt(c.power))}
	}
	return list
}

// Clipped returns how many runs touched full scale, channel by channel.
func (m *Meter) Clipped() uint64 { return m.clipped }

func decibels(x float64) float64 {
	if x <= 1e-6 {
		return Floor
	}
	return math.Round(20*math.Log10(x)*10) / 10
}
