package sound

import (
	"errors"
	"math"
	"slices"
	"testing"
	"time"
)

func TestMix(t *testing.T) {
	for _, c := range []struct {
		mix      string
		gain     float64
		channels int
		in, want []float32
	}{
		{"auto", 0, 1, []float32{0.5, -0.25}, []float32{0.5, 0.5, -0.25, -0.25}},
		{"auto", 0, 2, []float32{0.5, -0.25}, []float32{0.5, -0.25}},
		{"auto", 0, 4, []float32{0.1, 0.2, 0.3, 0.4}, []float32{0.1, 0.2}},
		{"auto", 0, 6, []float32{1, 1, 1, 1, 1, 1}, []float32{1, 1}},
		{"auto", 0, 6, []float32{0, 0, 0, 1, 0, 0}, []float32{0, 0}},
		{"auto", 0, 8, []float32{1, 0, 1, 0, 1, 0, 1, 0}, []float32{1, 0.22654}},
		{"2", 0, 2, []float32{0.5, -0.25}, []float32{-0.25, -0.25}},
		{"2,1", 0, 2, []float32{0.5, -0.25}, []float32{-0.25, 0.5}},
		{"3,4", 0, 4, []float32{0.1, 0.2, 0.3, 0.4}, []float32{0.3, 0.4}},
		{"1+2", 0, 2, []float32{0.5, -0.25}, []float32{0.125, 0.125}},
		{"1+3,2+3", 0, 3, []float32{0.2, 0.4, 0.6}, []float32{0.4, 0.5}},
		{"auto", -20, 2, []float32{0.5, -0.25}, []float32{0.05, -0.025}},
		{"auto", 20, 2, []float32{0.5, -0.025}, []float32{1, -0.25}},
	} {
		m, err := ParseMix(c.mix)
		if err != nil {
			t.Fatal(err)
		}
		x, err := NewMixer(m, c.channels, c.gain)
		if err != nil {
			t.Fatal(err)
		}
		if got := x.Apply(c.in); !slices.EqualFunc(got, c.want, func(a, b float32) bool { return math.Abs(float64(a-b)) < 1e-5 }) {
			t.Errorf("%s, %g dB of %v: %v, want %v", c.mix, c.gain, c.in, got, c.want)
		}
	}
}

func TestBadMix(t *testing.T) {
	for _, s := range []string{"", "0", "65", "1,2,3", "1,", "left", "1+", "-1"} {
		if _, err := ParseMix(s); err == nil {
			t.Errorf("%q: no error", s)
		}
	}
	m, _ := ParseMix("3,4")
	if _, err := NewMixer(m, 2, 0); !errors.Is(err, ErrChannel) {
		t.Error(err)
	}
}

func FuzzParseMix(f *testing.F) {
	f.Add("1+3,2+3")
	f.Add("auto")
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMix(s)
		if err != nil {
			return
		}
		x, err := NewMixer(m, maxChannels, 0)
		if err != nil {
			t.Fatal(err)
		}
		loud := slices.Repeat([]float32{1}, maxChannels)
		for _, v := range x.Apply(loud) {
			if s != Auto && math.Abs(float64(v)-1) > 1e-4 {
				t.Errorf("full scale on all channels becomes %g", v)
			}
		}
	})
}

func TestMeter(t *testing.T) {
	var m Meter
	run := make([]float32, 2*480)
	for i := range 480 {
		run[2*i] = float32(0.5 * math.Sin(2*math.Pi*float64(i)/48))
	}
	const d = 10 * time.Millisecond
	for range 300 {
		m.Add(run, 2, d)
	}
	if got := m.Levels(); got[0] != (Level{-6, -9}) || got[1] != (Level{Floor, Floor}) || m.Clipped() != 0 {
		t.Errorf("%v, %d clipped; want -6 and -9 on the left", got, m.Clipped())
	}
	for range 85 {
		m.Add(make([]float32, 2*480), 2, d)
	}
	if got := m.Levels()[0]; got.Peak != -16 || got.RMS > -20 {
		t.Errorf("%v after 850 ms of silence, want a peak of -16", got)
	}
	m.Add([]float32{1, -1, 0}, 3, d)
	if got := m.Levels(); len(got) != 3 || got[1].Peak != 0 || m.Clipped() != 2 {
		t.Errorf("%v, %d clipped", got, m.Clipped())
	}
}

func BenchmarkMeter(b *testing.B) {
	var m Meter
	run := make([]float32, 2*480)
	for b.Loop() {
		m.Add(run, 2, 10*time.Millisecond)
	}
}
