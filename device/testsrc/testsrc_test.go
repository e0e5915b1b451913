package testsrc

import (
	"bytes"
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"gantry/device"
	"gantry/internal/clock"
	"gantry/internal/testkit"
	"gantry/media"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var noon = time.Date(2026, 11, 22, 12, 0, 0, int(33*time.Millisecond), time.UTC)

func format(w, h int) media.VideoFormat {
	return Config{Width: w, Height: h, Rate: media.Rational{Num: 30, Den: 1}}.Format()
}

func render(t testing.TB, f media.VideoFormat, n uint32, at time.Time) []byte {
	t.Helper()
	data, err := Render(f, n, at)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestMarkAtEverySize(t *testing.T) {
	for _, size := range [][2]int{{320, 180}, {640, 360}, {854, 480}, {720, 576}, {720, 1280}, {1280, 720}, {1920, 1080}, {322, 182}} {
		w, h := size[0], size[1]
		for _, n := range []uint32{0, 1, 0xaaaaaaaa, math.MaxUint32} {
			at := noon.Add(time.Duration(n) * time.Millisecond)
			got, err := Decode(render(t, format(w, h), n, at), w, w, h)
			if want := markAt(n, at); err != nil || got != want {
				t.Errorf("%dx%d: %+v %v, want %+v", w, h, got, err, want)
			}
		}
	}
}

// The mark is read after the picture was scaled down and up again, its range squeezed, blurred and made noisy.
func TestMarkSurvivesDamage(t *testing.T) {
	const w, h = 1280, 720
	want := markAt(123456789, noon)
	sharp := render(t, format(w, h), want.Counter, noon)[:w*h]
	for _, size := range [][2]int{{320, 180}, {426, 240}, {1920, 1080}, {333, 201}} {
		small := scale(sharp, w, h, size[0], size[1])
		for i := range small { // half the contrast, and noise
			small[i] = byte(60 + int(small[i])/2 + (i*7919)%41 - 20)
		}
		if got, err := Decode(small, size[0], size[0], size[1]); err != nil || got != want {
			t.Errorf("at %v: %+v %v", size, got, err)
		}
		back := scale(small, size[0], size[1], w, h)
		if got, err := Decode(back, w, w, h); err != nil || got != want {
			t.Errorf("back from %v: %+v %v", size, got, err)
		}
	}
}

// scale resamples by bilinear interpolation.
func scale(in []byte, w, h, w2, h2 int) []byte {
	out := make([]byte, w2*h2)
	at := func(x, y int) float64 { return float64(in[min(max(y, 0), h-1)*w+min(max(x, 0), w-1)]) }
	for y := range h2 {
		for x := range w2 {
			fx, fy := (float64(x)+.5)*float64(w)/float64(w2)-.5, (float64(y)+.5)*float64(h)/float64(h2)-.5
			x0, y0 := int(math.Floor(fx)), int(math.Floor(fy))
			fx, fy = fx-float64(x0), fy-float64(y0)
			top := at(x0, y0)*(1-fx) + at(x0+1, y0)*fx
			bottom := at(x0, y0+1)*(1-fx) + at(x0+1, y0+1)*fx
			out[y*w2+x] = byte(top*(1-fy) + bottom*fy + .5)
		}
	}
	return out
}

// A damaged mark is refused, not misread: no flip of cells gives another mark.
func TestDamagedMarkIsRefused(t *testing.T) {
	const w, h = 320, 180
	whole := render(t, format(w, h), 77, noon)[:w*h]
	for r := range markRows {
		for c := range markColumns {
			picture := bytes.Clone(whole)
			for y := (markTop + r) * h / markParts; y < (markTop+r+1)*h/markParts; y++ {
				for x := c * w / markColumns; x < (c+1)*w/markColumns; x++ {
					picture[y*w+x] = 251 - picture[y*w+x]
				}
			}
			if m, err := Decode(picture, w, w, h); !errors.Is(err, ErrNoMark) {
				t.Fatalf("cell %d,%d flipped: %+v %v", c, r, m, err)
			}
		}
	}
	for _, picture := range [][]byte{nil, make([]byte, 10), make([]byte, w*h), bytes.Repeat([]byte{200}, w*h)} {
		if m, err := Decode(picture, w, w, h); !errors.Is(err, ErrNoMark) {
			t.Errorf("read %+v %v", m, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(render(f, format(320, 180), 5, noon)[:320*180], 320, 320, 180)
	f.Fuzz(func(t *testing.T, luma []byte, stride, w, h int) {
		if m, err := Decode(luma, stride, w, h); err == nil && m.Time.UnixMilli() < 0 {
			t.Fatal(m)
		}
	})
}

// What moves changes and the rest does not; the same arguments give the same bytes.
func TestRenderIsDeterministic(t *testing.T) {
	f := format(640, 360)
	a, b, c := render(t, f, 9, noon), render(t, f, 9, noon), render(t, f, 10, noon.Add(33*time.Millisecond))
	if !bytes.Equal(a, b) {
		t.Error("the same picture differs")
	}
	changed := 0
	for i := range a {
		if a[i] != c[i] {
			changed++
		}
	}
	if changed < 100 || changed > len(a)/4 {
		t.Errorf("%d of %d bytes change from one picture to the next", changed, len(a))
	}
	for _, fourcc := range []media.FourCC{media.NV12, media.NV16, media.NV24, media.YUYV, media.UYVY, media.RGB3, media.BGR3, media.P010, media.Y210} {
		g := f
		g.FourCC = fourcc
		data := render(t, g, 9, noon)
		if _, size := g.Packed(); len(data) != size {
			t.Errorf("%v: %d bytes, want %d", fourcc, len(data), size)
		}
	}
	f.FourCC = media.MJPG
	if _, err := Render(f, 0, noon); !errors.Is(err, device.ErrUnsupported) {
		t.Errorf("MJPG: %v", err)
	}
}

func TestLayoutsShowTheSamePicture(t *testing.T) {
	f := format(320, 180)
	yu12 := render(t, f, 3, noon)
	w, h := f.Width, f.Height
	u, v := yu12[w*h:w*h*5/4], yu12[w*h*5/4:]
	for _, p := range [][2]int{{10, 10}, {100, 50}, {161, 31}, {319, 179}} {
		x, y := p[0], p[1]
		ci := y/2*(w/2) + x/2
		want := [3]byte{yu12[y*w+x], u[ci], v[ci]}
		at := func(c media.FourCC) []byte { g := f; g.FourCC = c; return render(t, g, 3, noon) }
		nv12, yuyv, nv24 := at(media.NV12), at(media.YUYV), at(media.NV24)
		uyvy, nv16, p010, y210 := at(media.UYVY), at(media.NV16), at(media.P010), at(media.Y210)
		for name, got := range map[string][3]byte{
			"NV12": {nv12[y*w+x], nv12[w*h+y/2*w+x&^1], nv12[w*h+y/2*w+x&^1+1]},
			"NV16": {nv16[y*w+x], nv16[w*h+y*w+x&^1], nv16[w*h+y*w+x&^1+1]},
			"NV24": {nv24[y*w+x], nv24[w*h+2*(y*w+x)], nv24[w*h+2*(y*w+x)+1]},
			"P010": {p010[2*(y*w+x)+1], p010[2*(w*h+y/2*w+x&^1)+1], p010[2*(w*h+y/2*w+x&^1)+3]},
			"Y210": {y210[4*(y*w+x)+1], y210[4*(y*w+x&^1)+3], y210[4*(y*w+x&^1)+7]},
			"YUYV": {yuyv[2*(y*w+x)], yuyv[2*(y*w+x&^1)+1], yuyv[2*(y*w+x&^1)+3]},
			"UYVY": {uyvy[2*(y*w+x)+1], uyvy[2*(y*w+x&^1)], uyvy[2*(y*w+x&^1)+2]},
		} {
			if got != want {
				t.Errorf("%s at %v: %v, want %v", name, p, got, want)
			}
		}
	}
	// BT.709: the 75 % bars in RGB are 191 or 0.
	g := f
	g.FourCC = media.RGB3
	rgb := render(t, g, 3, noon)
	for i, want := range [][3]byte{{191, 191, 191}, {191, 191, 0}, {0, 191, 191}, {0, 191, 0}, {191, 0, 191}, {191, 0, 0}} {
		at := 3 * (40*w + i*w/7 + w/14)
		for k := range want {
			if d := int(rgb[at+k]) - int(want[k]); d < -2 || d > 2 {
				t.Errorf("bar %d is %v, want %v", i, rgb[at:at+3], want)
				break
			}
		}
	}
}

func TestSourcePacesWithoutDrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rate := media.Rational{Num: 30000, Den: 1001}
		s, err := New(Config{Width: 320, Height: 180, Rate: rate})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		var first time.Duration
		const frames = 3000
		for n := range uint32(frames) {
			f, err := s.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				first = f.PTS
			}
			if f.Seq != n || f.PTS > clock.Now() || clock.Now()-f.PTS > time.Millisecond {
				t.Fatalf("frame %d: seq %d, %v after its time", n, f.Seq, clock.Now()-f.PTS)
			}
			_ = f.CPU(func(p [][]byte) error {
				m, err := Decode(p[0], 320, 320, 180)
				if err != nil || m != markAt(n, clock.Wall(f.PTS)) {
					t.Fatalf("frame %d: %+v %v", n, m, err)
				}
				return nil
			})
			want := time.Duration(n) * time.Second * 1001 / 30000
			if d := f.PTS - first - want; d.Abs() > time.Microsecond {
				t.Fatalf("frame %d drifted by %v", n, d)
			}
			f.Release()
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestLateReaderSkipsAndDoesNotBunch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := New(Config{Width: 320, Height: 180, Rate: media.Rational{Num: 10, Den: 1}})
		_, _ = s.Start(t.Context())
		read := func() (uint32, time.Duration) {
			f, err := s.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer f.Release()
			return f.Seq, clock.Now() - f.PTS
		}
		read()
		time.Sleep(1050 * time.Millisecond) // ten intervals and a half
		if n, late := read(); n != 10 || late > 60*time.Millisecond {
			t.Errorf("after the pause: frame %d, %v late", n, late)
		}
		if n, late := read(); n != 11 || late > time.Millisecond {
			t.Errorf("then: frame %d, %v late", n, late)
		}
		_ = s.Close()
	})
}

func TestSourceEndsWithContextAndLosesWithoutBuffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := New(Config{Width: 320, Height: 180, Rate: media.Rational{Num: 30, Den: 1}})
		_, _ = s.Start(t.Context())
		var held []*media.Frame
		for range poolSize {
			f, err := s.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, f)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Read(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("with all buffers out: %v", err)
		}
		for _, f := range held {
			f.Release()
		}
		f, err := s.Read(t.Context())
		if err != nil || f.Seq < 37 || f.Seq > 39 {
			t.Fatalf("after a second without buffers: %v", err)
		}
		f.Release()
		_ = s.Close()
		if _, err := s.Read(t.Context()); !errors.Is(err, device.ErrGone) {
			t.Errorf("read after Close: %v", err)
		}
	})
}

// Tone and picture carry the same instant: the beep begins with the sample at which the flash begins.
func TestToneBeepsWithTheFlash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(1234567 * time.Microsecond)
		tone := NewTone()
		if _, err := tone.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		begins, lastPTS, loud := 0, time.Duration(0), true
		for range 300 {
			a, err := tone.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if lastPTS != 0 && (a.PTS-lastPTS-10*time.Millisecond).Abs() > time.Microsecond {
				t.Fatalf("step of %v", a.PTS-lastPTS)
			}
			lastPTS = a.PTS
			peak := 0.0
			for i, v := range a.Samples {
				peak = max(peak, math.Abs(float64(v)))
				if at := clock.Wall(a.PTS + time.Duration(i/2)*time.Second/toneRate); math.Abs(float64(v)) > 1.2*toneLevel && !loud {
					loud = true
					begins++
					if at.Nanosecond() > int(2*time.Millisecond) {
						t.Errorf("beep begins at %v", at)
					}
				}
			}
			if peak < 1.2*toneLevel {
				loud = false
				if peak < 0.95*toneLevel || peak > 1.01*toneLevel {
					t.Fatalf("tone peaks at %.3f", peak)
				}
			}
		}
		if begins != 3 {
			t.Errorf("%d beeps in three seconds", begins)
		}
		_ = tone.Close()
	})
}

func TestToneWithoutClicks(t *testing.T) {
	samples := []float32(nil)
	for n := int64(0); n < 2*toneRate; n += toneChunk {
		samples = play(samples, n, time.Unix(0, n*int64(time.Second)/toneRate))
	}
	for i := 2; i < len(samples); i++ {
		if d := math.Abs(float64(samples[i] - samples[i-2])); d > 0.06 {
			t.Fatalf("a jump of %.3f at sample %d", d, i/2)
		}
	}
}

// A slate is shown in the last format, whatever that was.
func TestSlateOfAnySize(t *testing.T) {
	for _, size := range [][2]int{{16, 16}, {17, 1081}, {4095, 19}, {321, 181}, {641, 479}, {1919, 1079}} {
		for _, fourcc := range []media.FourCC{media.YU12, media.NV12, media.NV16, media.NV24, media.YUYV, media.BGR3, media.P010, media.Y210} {
			f := format(size[0], size[1])
			f.FourCC = fourcc
			s, err := Slate(f, "No signal", "Nothing is connected.")
			if err != nil {
				t.Errorf("%v: %v", f, err)
				continue
			}
			if _, want := f.Packed(); len(s.data) != want {
				t.Errorf("%v: %d bytes of %d", f, len(s.data), want)
			}
		}
	}
}

func TestSlate(t *testing.T) {
	for _, fourcc := range []media.FourCC{media.YU12, media.NV12, media.YUYV, media.RGB3} {
		f := format(1920, 1080)
		f.FourCC = fourcc
		s, err := Slate(f, "No signal", "Nothing is connected to the HDMI input, or the source is switched off. Größe über alles: "+string(bytes.Repeat([]byte("x"), 200)))
		if err != nil {
			t.Fatal(err)
		}
		a, b := s.Frame(time.Second, 1), s.Frame(2*time.Second, 2)
		if a.Format != f || a.PTS != time.Second || b.Seq != 2 {
			t.Errorf("frame %+v", a)
		}
		ink := 0
		_ = a.CPU(func(p [][]byte) error {
			if want, _ := f.Packed(); len(p) != len(want) {
				t.Errorf("%d planes", len(p))
			}
			for _, v := range p[0] {
				if v > 150 {
					ink++
				}
			}
			return nil
		})
		if ink < 1000 {
			t.Errorf("%v: %d bright bytes", fourcc, ink)
		}
		a.Release()
		b.Release()
	}
	jpeg := format(320, 180)
	jpeg.FourCC = media.MJPG
	if _, err := Slate(jpeg, "x", ""); !errors.Is(err, device.ErrUnsupported) {
		t.Errorf("compressed slate: %v", err)
	}
}

func TestConfigNamesItsKeys(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	err := Config{Width: 641, Height: 20}.Validate()
	const want = "width: 641 is not an even number from 320 to 7680\n" +
		"height: 20 is not an even number from 180 to 4320\n" +
		"rate: 0/0 is not from 1 to 240 pictures a second"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func BenchmarkDraw720p(b *testing.B)  { benchmarkDraw(b, 1280, 720) }
func BenchmarkDraw1080p(b *testing.B) { benchmarkDraw(b, 1920, 1080) }

func benchmarkDraw(b *testing.B, w, h int) {
	p := newPainter(format(w, h))
	data := make([]byte, len(p.background))
	planes := [][]byte{p.plane(data, 0), p.plane(data, 1), p.plane(data, 2)}
	b.ReportAllocs()
	n := uint32(0)
	for b.Loop() {
		n++
		p.draw(planes, markAt(n, noon))
	}
}

func BenchmarkDecode(b *testing.B) {
	picture := render(b, format(1280, 720), 1, noon)
	for b.Loop() {
		if _, err := Decode(picture, 1280, 1280, 720); err != nil {
			b.Fatal(err)
		}
	}
}
