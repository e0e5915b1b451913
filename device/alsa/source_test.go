package alsa

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"gantry/device"
	"gantry/internal/clock"
	"gantry/internal/testkit"
	"gantry/internal/usb"
	"gantry/media"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// A fake is a card that plays a sine of 1 kHz by its own clock, the second channel at half the level.
type fake struct {
	stream
	ppm    float64
	buffer int // frames
	began  time.Duration
	taken  int64
	err    error
	frozen bool
	closed bool
}

func (f *fake) made(now time.Duration) int64 {
	return int64((now - f.began).Seconds() * float64(f.rate) * (1 + f.ppm*1e-6))
}

func (f *fake) avail() (int, time.Duration, error) {
	if f.err != nil {
		return 0, 0, f.err
	}
	now := clock.Now()
	n := int(f.made(now) - f.taken)
	switch {
	case f.frozen:
		n = 0
	case n > f.buffer:
		return 0, 0, errOverrun
	}
	return n, now, nil
}

func (f *fake) read(buf []byte) error {
	for i := 0; i < len(buf); i += 2 {
		frame, ch := f.taken, i/2%f.channels
		v := 0.5 / float64(ch+1) * math.Sin(2*math.Pi*1000*float64(frame)/float64(f.rate))
		binary.LittleEndian.PutUint16(buf[i:], uint16(int16(math.Round(v*(1<<15)))))
		if ch == f.channels-1 {
			f.taken++
		}
	}
	return f.err
}

func (f *fake) restart() error {
	if f.err != nil {
		return f.err
	}
	f.began, f.taken = clock.Now(), 0
	return nil
}

func (f *fake) Close() error { f.closed = true; return nil }

func newFake(t *testing.T, rate, channels int, ppm float64) (*fake, *Source) {
	t.Helper()
	f := &fake{stream: stream{layout: layoutOf("S16"), rate: rate, channels: channels}, ppm: ppm, buffer: rate * 16 / 100}
	s, err := newSource(Card{Name: "hw:Fake,0"}, f, f.stream, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil || !f.closed {
			t.Error(err, f.closed)
		}
	})
	return f, s
}

func start(t *testing.T, s *Source) media.AudioFormat {
	t.Helper()
	format, err := s.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return format
}

// collect reads sound for d and checks that its PTS count on.
func collect(t *testing.T, s *Source, d time.Duration) (samples []float32, first, next time.Duration) {
	t.Helper()
	for played := time.Duration(0); played < d; {
		a, err := s.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(samples) == 0 {
			first = a.PTS
		} else if (a.PTS - next).Abs() > time.Microsecond {
			t.Fatalf("PTS %v, want %v", a.PTS, next)
		}
		if late := clock.Now() - a.PTS - a.Duration(); late < -time.Millisecond || late > 50*time.Millisecond {
			t.Fatalf("the end of a run has a PTS %v ago", late)
		}
		next = a.PTS + a.Duration()
		played += a.Duration()
		samples = append(samples, a.Samples...)
	}
	return samples, first, next
}

// pitch returns the frequency in Hz by which a sine of about 1 kHz fits best, and its amplitude.
func pitch(samples []float32, channels, channel int) (hz, amplitude float64) {
	hz = 1000
	for _, step := range []float64{1, 0.25, 0.05} {
		for middle, i := hz, -5.0; i <= 5; i++ {
			try := middle + i*step
			var a, b float64
			n := len(samples) / channels
			for i := range n {
				x, y := math.Sincos(2 * math.Pi * try * float64(i) / outRate)
				v := float64(samples[i*channels+channel])
				a, b = a+x*v, b+y*v
			}
			if m := 2 * math.Hypot(a, b) / float64(n); m > amplitude {
				hz, amplitude = try, m
			}
		}
	}
	return hz, amplitude
}

// Whatever the card's rate and however wrong its clock, the sound leaves at 48 kHz with its PTS true, and its drift known.
func TestCard(t *testing.T) {
	for _, c := range []struct {
		rate, channels int
		ppm            float64
	}{{48000, 2, 100}, {48000, 1, -100}, {44100, 2, 250}, {96000, 2, -30}, {32000, 6, 0}} {
		synctest.Test(t, func(t *testing.T) {
			_, s := newFake(t, c.rate, c.channels, c.ppm)
			if f := start(t, s); f != (media.AudioFormat{Rate: 48000, Channels: c.channels}) {
				t.Fatal(f)
			}
			collect(t, s, 30*time.Second)
			samples, _, _ := collect(t, s, 400*time.Millisecond)
			hz, amplitude := pitch(samples, c.channels, 0)
			if want := 1000 * (1 + c.ppm*1e-6); math.Abs(hz-want) > 0.3 || math.Abs(amplitude-0.5) > 0.002 {
				t.Errorf("%+v: %.2f Hz at %.4f, want %.2f Hz at 0.5", c, hz, amplitude, want)
			}
			if st := s.SoundStats(); math.Abs(st.Drift-c.ppm) > 5 || st.Offset.Abs() > 2*time.Millisecond || st.Overruns != 0 {
				t.Errorf("%+v: %+v", c, st)
			}
		})
	}
}

// An overrun is a gap in the PTS, a card that stands still or is unplugged an error.
func TestTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newFake(t, 48000, 2, 0)
		if _, err := s.Read(t.Context()); !errors.Is(err, device.ErrGone) {
			t.Error("read before start:", err)
		}
		start(t, s)
		_, _, before := collect(t, s, time.Second)
		time.Sleep(300 * time.Millisecond) // the bubble's clock
		_, after, _ := collect(t, s, time.Second)
		if gap := after - before; gap < 290*time.Millisecond || gap > 330*time.Millisecond {
			t.Errorf("a gap of %v, want 300 ms and a little", gap)
		}
		if st := s.SoundStats(); st.Overruns != 1 {
			t.Errorf("%+v", st)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := s.Read(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		f.frozen = true
		if _, err := s.Read(t.Context()); !errors.Is(err, device.ErrGone) {
			t.Error("a card that stands still:", err)
		}
		f.frozen, f.err = false, unix.ENODEV
		if _, err := s.Read(t.Context()); !errors.Is(err, device.ErrGone) {
			t.Error("unplugged:", err)
		}
		if _, err := s.Start(t.Context()); !errors.Is(err, device.ErrGone) {
			t.Error("start unplugged:", err)
		}
	})
}

// A card that says mono at 96 kHz and delivers stereo at 48 kHz is read as what it is.
func TestQuirk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &interleaved{fake{stream: stream{layout: layoutOf("S16"), rate: 48000, channels: 2}, buffer: 1 << 20}}
		s, err := newSource(Card{Name: "hw:MS2109,0", USB: &usb.Device{ID: "534d:2109"}}, f, stream{layout: layoutOf("S16"), rate: 96000, channels: 1}, quiet)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if got := start(t, s); got != (media.AudioFormat{Rate: 48000, Channels: 2}) {
			t.Fatal(got)
		}
		samples, _, _ := collect(t, s, 500*time.Millisecond)
		left, loud := pitch(samples[9600:], 2, 0)
		right, soft := pitch(samples[9600:], 2, 1)
		if math.Abs(left-1000) > 0.3 || math.Abs(right-1000) > 0.3 || math.Abs(loud-0.5) > 0.01 || math.Abs(soft-0.25) > 0.01 {
			t.Errorf("left %.2f Hz at %.3f, right %.2f Hz at %.3f; want 1 kHz at 0.5 and 0.25", left, loud, right, soft)
		}
	})
}

// interleaved counts each sample of its two channels as a frame, as an MS2109 does.
type interleaved struct{ fake }

func (f *interleaved) avail() (int, time.Duration, error) {
	n, at, err := f.fake.avail()
	return 2*n + 1, at, err
}

func TestLayouts(t *testing.T) {
	for _, c := range []struct {
		layout string
		in     []byte
		want   []float32
	}{
		{"S16", []byte{0, 0x40, 0, 0x80, 0xff, 0x7f}, []float32{0.5, -1, 32767.0 / 32768}},
		{"S24", []byte{0, 0, 0x40, 0x55, 0, 0, 0x80, 0}, []float32{0.5, -1}},
		{"S24_3", []byte{0, 0, 0x40, 0, 0, 0x80}, []float32{0.5, -1}},
		{"S32", []byte{0, 0, 0, 0x40, 0, 0, 0, 0x80}, []float32{0.5, -1}},
		{"FLOAT", []byte{0, 0, 0, 0x3f, 0, 0, 0xc0, 0x7f, 0, 0, 0, 0x40}, []float32{0.5, 0, 1}},
	} {
		l := layoutOf(c.layout)
		got := make([]float32, len(c.in)/l.bytes)
		l.read(got, c.in)
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s: %v, want %v", c.layout, got, c.want)
			}
		}
	}
}

var machine = fstest.MapFS{
	"sys/class/sound/pcmC0D0p": {}, "sys/class/sound/pcmC0D0c": {}, "sys/class/sound/pcmC0D1c": {}, "sys/class/sound/pcmC1D0p": {},
	"sys/class/sound/pcmC3D0c":                                 {},
	"sys/class/sound/card0":                                    {Mode: 0o777 | fs.ModeSymlink, Data: []byte("../../devices/platform/snd_aloop.0/sound/card0")},
	"sys/class/sound/card1":                                    {Mode: 0o777 | fs.ModeSymlink, Data: []byte("../../devices/platform/soc/sound/card1")},
	"sys/class/sound/card3":                                    {Mode: 0o777 | fs.ModeSymlink, Data: []byte("../../devices/pci0/usb1/1-1/1-1.4/1-1.4:1.2/sound/card3")},
	"sys/devices/platform/snd_aloop.0/sound/card0/id":          {Data: []byte("Loopback\n")},
	"sys/devices/pci0/usb1/1-1/1-1.4/1-1.4:1.2/sound/card3/id": {Data: []byte("MS2109\n")},
	"sys/devices/pci0/usb1/1-1/1-1.4/idVendor":                 {Data: []byte("534d\n")},
	"sys/devices/pci0/usb1/1-1/1-1.4/idProduct":                {Data: []byte("2109\n")},
	"sys/devices/pci0/usb1/1-1/1-1.4/serial":                   {Data: []byte("7\n")},
	"sys/devices/pci0/usb1/1-1/1-1.4/product":                  {Data: []byte("USB3. 0 capture\n")},
}

func TestFind(t *testing.T) {
	all := list(machine)
	want := Card{Name: "hw:MS2109,0", Number: 3, ID: "MS2109", Text: "USB3. 0 capture"}
	dongle := usb.Device{Place: "1-1.4", ID: "534d:2109", Serial: "7", Name: "USB3. 0 capture"}
	if len(all) != 3 || all[2].USB == nil || *all[2].USB != dongle {
		t.Fatalf("%+v", all)
	}
	if all[2].USB = nil; all[2] != want {
		t.Errorf("%+v, want 3 with %+v", all, want)
	}
	for name, want := range map[string]string{
		"auto": "hw:Loopback,0", "hw:0,1": "hw:Loopback,1", "hw:Loopback,1": "hw:Loopback,1", "hw:3,0": "hw:MS2109,0",
		"hw:MS2109,0": "hw:MS2109,0", "usb:1-1.4": "hw:MS2109,0",
		"usb:534d:2109:7": "hw:MS2109,0",
	} {
		c, err := find(machine, name)
		if err != nil || c.Name != want {
			t.Errorf("%s is %+v, %v; want %s", name, c, err, want)
		}
	}
	for _, name := range []string{"hw:1,0", "hw:3,1", "usb:1-1", "usb:534d:2109:8", "hw:Gone,0"} {
		if _, err := find(machine, name); !errors.Is(err, device.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := find(fstest.MapFS{}, "auto"); !errors.Is(err, device.ErrNotFound) {
		t.Error(err)
	}
}

func FuzzName(f *testing.F) {
	f.Add("hw:Loopback,1")
	f.Add("usb:1-1.4")
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := parseName(s); err == nil {
			_, _ = find(machine, s)
		}
	})
}
