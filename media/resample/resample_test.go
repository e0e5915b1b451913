package resample

import (
	"fmt"
	"math"
	"testing"
)

func sine(frames, channels, rate int, hz float64) []float32 {
	s := make([]float32, 0, frames*channels)
	for i := range frames {
		v := float32(0.5 * math.Sin(2*math.Pi*hz*float64(i)/float64(rate)))
		for range channels {
			s = append(s, v)
		}
	}
	return s
}

// snr fits a sine of the given frequency (in cycles a frame) to s and returns its amplitude, its phase at frame 0 in radians,
// and how far what remains lies below it, in dB.
func snr(s []float32, cycles float64) (amplitude, phase, db float64) {
	var a, b, aa, bb, ab float64
	for i, v := range s {
		x, y := math.Sincos(2 * math.Pi * cycles * float64(i))
		a, b, aa, bb, ab = a+x*float64(v), b+y*float64(v), aa+x*x, bb+y*y, ab+x*y
	}
	det := aa*bb - ab*ab
	p, q := (a*bb-b*ab)/det, (b*aa-a*ab)/det
	var noise float64
	for i, v := range s {
		x, y := math.Sincos(2 * math.Pi * cycles * float64(i))
		d := float64(v) - p*x - q*y
		noise += d * d
	}
	power := (p*p + q*q) / 2 * float64(len(s))
	return math.Hypot(p, q), math.Atan2(q, p), 10 * math.Log10(power/noise)
}

// A sine comes out as the same sine, at the right level, place and rate, whatever the sizes of the runs.
func TestSine(t *testing.T) {
	for _, c := range []struct {
		in, out, channels int
		hz, stretch, want float64
	}{
		{48000, 48000, 2, 997, 1, 100},
		{48000, 48000, 2, 997, 1 + 100e-6, 100},
		{48000, 48000, 2, 10007, 1 - 100e-6, 85},
		{48000, 48000, 1, 18011, 1 + 31e-6, 80},
		{44100, 48000, 2, 997, 1, 100},
		{44100, 48000, 2, 15013, 1 - 70e-6, 80},
		{32000, 48000, 8, 997, 1, 100},
		{96000, 48000, 2, 997, 1 + 50e-6, 100},
		{16000, 48000, 1, 997, 1, 95},
	} {
		t.Run(fmt.Sprintf("%d to %d, %g Hz at %+.0f ppm", c.in, c.out, c.hz, (c.stretch-1)*1e6), func(t *testing.T) {
			r, err := New(c.channels, c.in, c.out)
			if err != nil {
				t.Fatal(err)
			}
			step := float64(c.in) / float64(c.out) * c.stretch
			r.SetStep(step)
			var out []float32
			src := sine(c.in/2, c.channels, c.in, c.hz)
			for at, n := 0, 1; at < len(src); n = n%977 + 13 {
				end := min(at+n*c.channels, len(src))
				out = r.Process(out, src[at:end])
				at = end
			}
			if got, want := len(out)/c.channels, float64(c.in/2-r.reach)/step; math.Abs(float64(got)-want) > 1 {
				t.Errorf("%d frames, want %.1f", got, want)
			}
			for ch := range c.channels {
				var one []float32
				const edge = 1000 // the filter has begun to hear silence
				for i := edge; i < len(out)/c.channels; i++ {
					one = append(one, out[i*c.channels+ch])
				}
				cycles := c.hz / float64(c.in) * step
				amplitude, phase, db := snr(one, cycles)
				if ch == 0 {
					t.Logf("SNR %.1f dB, level %.5f", db, amplitude)
				}
				if math.Abs(20*math.Log10(amplitude/0.5)) > 0.01 || db < c.want {
					t.Errorf("channel %d: amplitude %.5f, SNR %.1f dB; want 0.5 and %.0f dB", ch, amplitude, db, c.want)
				}
				want := math.Remainder(2*math.Pi*cycles*edge, 2*math.Pi)
				if off := math.Remainder(phase-want, 2*math.Pi) / (2 * math.Pi * cycles); math.Abs(off) > 0.001 {
					t.Errorf("channel %d: %.4f frames out of place", ch, off)
				}
			}
		})
	}
}

// What the lower rate cannot carry is removed, not folded down.
func TestAlias(t *testing.T) {
	r, err := New(1, 96000, 48000)
	if err != nil {
		t.Fatal(err)
	}
	out := r.Process(nil, sine(48000, 1, 96000, 30000))
	var power float64
	for _, s := range out[200:] {
		power += float64(s * s)
	}
	if db := 10 * math.Log10(power/float64(len(out)-200)/0.125); db > -90 {
		t.Errorf("30 kHz is heard at %.1f dB in sound at 48 kHz", db)
	}
}

// A ratio that changes while it runs makes no step in the sound.
func TestVaryingStep(t *testing.T) {
	r, err := New(1, 48000, 48000)
	if err != nil {
		t.Fatal(err)
	}
	var out []float32
	src := sine(48000, 1, 48000, 1000)
	for i := 0; i < len(src); i += 480 {
		r.SetStep(1 + 200e-6*math.Sin(float64(i)/5000))
		out = r.Process(out, src[i:i+480])
	}
	most := 0.0
	for i := 1001; i < len(out); i++ { // the second difference of a sine of 1 kHz is at most 0.5·(2π/48)²
		most = max(most, math.Abs(float64(out[i]-2*out[i-1]+out[i-2])))
	}
	if limit := 0.5 * math.Pow(2*math.Pi/48, 2) * 1.01; most > limit {
		t.Errorf("a bend of %.5f, want at most %.5f", most, limit)
	}
}

func TestRestart(t *testing.T) {
	r, err := New(2, 44100, 48000)
	if err != nil {
		t.Fatal(err)
	}
	src := sine(2000, 2, 44100, 440)
	first := r.Process(nil, src)
	r.Restart()
	second := r.Process(nil, src)
	if len(first) == 0 || len(first) != len(second) {
		t.Fatalf("%d and %d samples", len(first), len(second))
	}
	for i := range first {
		if first[i] != second[i] {
			t.Fatalf("sample %d: %g and %g", i, first[i], second[i])
		}
	}
}

func TestRefused(t *testing.T) {
	for _, c := range [][3]int{{0, 48000, 48000}, {2, 0, 48000}, {2, 48000, 0}, {2, 48000, 100}} {
		if _, err := New(c[0], c[1], c[2]); err == nil {
			t.Errorf("%v: no error", c)
		}
	}
}

// Whatever the runs and the ratio, the Resampler stays within its samples, and loses none.
func FuzzRuns(f *testing.F) {
	f.Add(uint16(480), uint16(1), uint16(77), int16(100))
	f.Add(uint16(0), uint16(2000), uint16(3), int16(-900))
	f.Fuzz(func(t *testing.T, a, b, c uint16, ppm int16) {
		r, err := New(1, 48000, 48000)
		if err != nil {
			t.Fatal(err)
		}
		step := 1 + float64(ppm)*1e-6
		r.SetStep(step)
		in, out := 0, 0
		for _, n := range []uint16{a, b, c, a, c, b} {
			in += int(n)
			out += len(r.Process(nil, make([]float32, n)))
		}
		if want := math.Ceil(float64(in-r.reach) / step); math.Abs(float64(out)-max(want, 0)) > 1 {
			t.Errorf("%d frames of %d, want %.0f", out, in, want)
		}
	})
}

func BenchmarkProcess(b *testing.B) {
	for _, c := range []struct{ in, channels int }{{48000, 1}, {48000, 2}, {48000, 8}, {96000, 2}} {
		b.Run(fmt.Sprintf("%d Hz %d ch, 10 ms", c.in, c.channels), func(b *testing.B) {
			r, err := New(c.channels, c.in, 48000)
			if err != nil {
				b.Fatal(err)
			}
			r.SetStep(float64(c.in) / 48000 * (1 + 37e-6))
			src := sine(c.in/100, c.channels, c.in, 440)
			dst := make([]float32, 0, 1000*c.channels)
			b.ReportAllocs()
			for b.Loop() {
				dst = r.Process(dst[:0], src)
			}
		})
	}
}
