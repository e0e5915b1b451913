package encodertest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"gantry/encoder"
	"gantry/media"
	"gantry/media/h264"
)

// Run runs all tests of the suite.
func (s Suite) Run(t *testing.T) {
	t.Run("KeyFrames", s.keyFrames)
	t.Run("GOP", s.gop)
	t.Run("Picture", s.picture)
	t.Run("Bitrate", s.bitrate)
	t.Run("Sizes", s.sizes)
	t.Run("Colours", s.colours)
	t.Run("TenBits", s.tenBits)
	t.Run("Labels", s.labels)
	t.Run("OddSizes", s.oddSizes)
	t.Run("Timecodes", s.timecodes)
	t.Run("Copies", s.copies)
	if !s.Sibling {
		t.Run("Guard", s.guard)
	}
	t.Run("Drain", s.drain)
	t.Run("Waits", s.waits)
	t.Run("CloseUnblocks", s.closeUnblocks)
	t.Run("Refuses", s.refuses)
}

// keyFrames: exactly where they were asked for, a scene change included; nothing else out of order.
func (s Suite) keyFrames(t *testing.T) {
	in := Format(320, 240, media.YU12)
	e := s.Open(t, in, encoder.Params{Bitrate: 1_000_000})
	asked := func(n int) bool { return n == 7 || n == 8 || n == 31 }
	packets := Encode(t, e, in, 0, 20, 4, asked)
	if len(packets) != 20 {
		t.Errorf("it holds %d pictures back", 20-len(packets))
	}
	// Another scene, 500 pictures on, is no reason for a key frame.
	packets = append(packets, Encode(t, e, in, 520, 540, 4, func(n int) bool { return asked(n - 500) })...)
	packets = append(packets, Drain(t, e)...)
	if len(packets) != 40 {
		t.Fatalf("%d packets of 40 pictures", len(packets))
	}
	var order h264.Order
	for n, p := range packets {
		if want := n == 0 || asked(n); p.Key != want {
			t.Errorf("picture %d: key %v, want %v", n, p.Key, want)
		}
		stamp := Stamp(n)
		if n >= 20 {
			stamp = Stamp(n + 500)
		}
		if p.PTS != stamp {
			t.Errorf("picture %d: pts %v, want %v", n, p.PTS, stamp)
		}
		if s.Backend.Codec == media.H264 {
			checkUnit(t, n, p, &order)
		}
	}
}

// gop: by media time, changed while running.
func (s Suite) gop(t *testing.T) {
	in := Format(320, 240, media.YU12)
	p := encoder.Params{Codec: s.Backend.Codec, Bitrate: 1_000_000, GOP: time.Second}
	e := s.Open(t, in, p)
	packets := Encode(t, e, in, 0, 70, 0, nil)
	p.GOP = time.Second / 2
	if err := e.Apply(p); err != nil {
		t.Fatal(err)
	}
	packets = append(packets, Encode(t, e, in, 70, 110, 0, nil)...)
	packets = append(packets, Drain(t, e)...)
	var keys []int
	for n, p := range packets {
		if p.Key {
			keys = append(keys, n)
		}
	}
	if want := []int{0, 30, 60, 75, 90, 105}; !slices.Equal(keys, want) {
		t.Errorf("key frames at %v, want %v", keys, want)
	}
}

// picture: what comes out of ffmpeg's decoder is what went in, every picture once.
func (s Suite) picture(t *testing.T) {
	in := Format(640, 360, media.YU12)
	e := s.Open(t, in, encoder.Params{Bitrate: 3_000_000})
	packets := append(Encode(t, e, in, 0, 30, 2, nil), Drain(t, e)...)
	pictures := Decode(t, s.Backend.Codec, packets, 640, 360, in.Range)
	if len(pictures) != 30 {
		t.Fatalf("%d pictures decoded of 30", len(pictures))
	}
	pool := media.NewPool(in, 1)
	worst := math.Inf(1)
	for n, got := range pictures {
		f := pool.Get()
		if err := encoder.DrawPattern(f, n, 2); err != nil {
			t.Fatal(err)
		}
		worst = min(worst, PSNR(got, Pixels(t, f)))
		f.Release()
	}
	t.Logf("worst picture %.1f dB", worst)
	if worst < 30 {
		t.Errorf("worst picture %.1f dB", worst)
	}
}

// bitrate: 2500, 800, 4000 kbit/s over a picture that would take more; each is reached within two seconds and kept.
func (s Suite) bitrate(t *testing.T) {
	in := Format(640, 360, media.YU12)
	p := encoder.Params{Codec: s.Backend.Codec, Bitrate: 2_500_000}
	e := s.Open(t, in, p)
	first := 0
	for _, bps := range []int{2_500_000, 800_000, 4_000_000} {
		if p.Bitrate = bps; first > 0 {
			if err := e.Apply(p); errors.Is(err, encoder.ErrRestart) {
				t.Logf("%s needs a new encoder for another bitrate, and says so", s.Backend.Name)
				if got := len(Encode(t, e, in, first, first+5, 0, nil)) + len(Drain(t, e)); got != 5 {
					t.Errorf("ErrRestart, but not as before: %d packets of 5 pictures", got)
				}
				return
			} else if err != nil {
				t.Fatal(err)
			}
		}
		settling := Encode(t, e, in, first, first+60, 16, nil)
		packets := Encode(t, e, in, first+60, first+150, 16, nil)
		first += 150
		got := float64(bits(packets)) / 3
		t.Logf("asked %d: %d in the first two seconds, then %.0f bit/s", bps, bits(settling)/2, got)
		if share := got / float64(bps); share > 1.1 || share < 0.75 {
			t.Errorf("%d bit/s asked, %.0f after two seconds", bps, got)
		}
	}
	p.Threads = 2
	if err := e.Apply(p); err != encoder.ErrRestart {
		t.Errorf("another thread count: %v, want ErrRestart", err)
	}
}

// sizes: odd ones lose a column or line; sizes that are no multiple of a macroblock are cropped by the SPS.
func (s Suite) sizes(t *testing.T) {
	for _, c := range []struct{ w, h, codedW, codedH int }{
		{642, 362, 642, 362}, {643, 361, 642, 360}, {1919, 1079, 1918, 1078}, {18, 16, 18, 16},
	} {
		if min(c.w, c.h) < s.Least {
			continue
		}
		fourccs := []media.FourCC{media.YU12, media.NV12, media.YUYV}
		if s.Sibling || c.w > 1000 {
			fourccs = fourccs[:1]
		}
		for _, fourcc := range fourccs {
			in := Format(c.w, c.h, fourcc)
			e := s.Open(t, in, encoder.Params{Bitrate: 8_000_000})
			track := e.Track()
			if track.Width != c.codedW || track.Height != c.codedH || track.ClockRate != 90000 || track.Codec != s.Backend.Codec {
				t.Errorf("%v: track %+v", in, track)
			}
			packets := append(Encode(t, e, in, 0, 3, 0, nil), Drain(t, e)...)
			if s.Backend.Codec == media.H264 {
				var sets h264.ParameterSets
				sets.Learn(packets[0].Data)
				info, err := h264.ParseSPS(sets.SPS())
				if err != nil || info.Width != c.codedW || info.Height != c.codedH || info.ProfileLevelID != track.Profile {
					t.Errorf("%v: SPS says %+v, %v; track profile %s", in, info, err, track.Profile)
				}
			}
			pictures := Decode(t, s.Backend.Codec, packets, c.codedW, c.codedH, in.Range)
			if len(pictures) != 3 {
				t.Fatalf("%v: %d pictures", in, len(pictures))
			}
			if got := PSNR(pictures[2], cropped(t, in, 2, c.codedW, c.codedH)); got < 30 {
				t.Errorf("%v: %.1f dB", in, got)
			}
		}
	}
}

// cropped draws picture n in YU12 and cuts it to width by height.
func cropped(t *testing.T, in media.VideoFormat, n, width, height int) []byte {
	in.FourCC = media.YU12
	f := media.NewPool(in, 1).Get()
	defer f.Release()
	if err := encoder.DrawPattern(f, n, 0); err != nil {
		t.Fatal(err)
	}
	var out []byte
	_ = f.CPU(func(planes [][]byte) error {
		for i, p := range planes {
			w, h := width, height
			if i > 0 {
				w, h = w/2, h/2
			}
			for y := range h {
				out = append(out, p[y*f.Planes[i].Stride:][:w]...)
			}
		}
		return nil
	})
	return out
}

// drain: Close hands out everything that was encoded, to a reader that came before or after; nothing works afterwards.
func (s Suite) drain(t *testing.T) {
	in := Format(320, 240, media.YU12)
	e := s.Open(t, in, encoder.Params{Bitrate: 1_000_000})
	ctx := context.Background()
	pool := media.NewPool(in, 1)
	for n := range 5 {
		f := pool.Get()
		f.PTS = Stamp(n)
		if err := e.Encode(ctx, f, false); err != nil {
			t.Fatal(err)
		}
		f.Release()
	}
	if got := len(Drain(t, e)); got != 5 {
		t.Errorf("%d packets after Close, want 5", got)
	}
	if err := e.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	f := pool.Get()
	defer f.Release()
	if err := e.Encode(ctx, f, false); !errors.Is(err, encoder.ErrClosed) {
		t.Errorf("Encode after Close: %v", err)
	}
	if err := e.Apply(encoder.Params{}); !errors.Is(err, encoder.ErrClosed) {
		t.Errorf("Apply after Close: %v", err)
	}
}

// waits: Encode holds back when nobody reads, Read when nothing was encoded; both until their context ends.
func (s Suite) waits(t *testing.T) {
	in := Format(320, 240, media.YU12)
	e := s.Open(t, in, encoder.Params{Bitrate: 1_000_000})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := e.Read(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Read of nothing: %v", err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	f := media.NewPool(in, 1).Get()
	defer f.Release()
	var err error
	for n := 0; err == nil; n++ {
		if n > 1000 {
			t.Fatal("1000 pictures encoded that nobody read")
		}
		f.PTS = Stamp(n)
		err = e.Encode(ctx, f, false)
		if n == 64 {
			cancel()
		}
	}
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		t.Errorf("Encode with a full output: %v", err)
	}
}

// closeUnblocks: Close may come at any time, from another goroutine; a reader and a writer then end.
func (s Suite) closeUnblocks(t *testing.T) {
	in := Format(320, 240, media.YU12)
	for range 3 {
		e := s.Open(t, in, encoder.Params{Bitrate: 1_000_000})
		var wg sync.WaitGroup
		started := make(chan struct{}, 1)
		wg.Go(func() {
			pool := media.NewPool(in, 1)
			for n := 0; ; n++ {
				f := pool.Get()
				f.PTS = Stamp(n)
				err := e.Encode(context.Background(), f, n%5 == 0)
				f.Release()
				if err != nil {
					if !errors.Is(err, encoder.ErrClosed) {
						t.Errorf("Encode: %v", err)
					}
					return
				}
			}
		})
		wg.Go(func() {
			for {
				if _, err := e.Read(context.Background()); err != nil {
					if err != io.EOF {
						t.Errorf("Read: %v", err)
					}
					return
				}
				select {
				case started <- struct{}{}:
				default:
				}
			}
		})
		wg.Go(func() {
			for bps := 500_000; bps < 520_000; bps += 1000 {
				err := e.Apply(encoder.Params{Codec: s.Backend.Codec, Bitrate: bps})
				if err != nil && !errors.Is(err, encoder.ErrClosed) && err != encoder.ErrRestart {
					t.Errorf("Apply: %v", err)
				}
			}
		})
		<-started
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	}
}

// refuses: what cannot be is an error that names it.
func (s Suite) refuses(t *testing.T) {
	good := Format(320, 240, media.YU12)
	params := encoder.Params{Codec: s.Backend.Codec, Bitrate: 1_000_000}
	for name, change := range map[string]func(*media.VideoFormat, *encoder.Params){
		"codec":      func(_ *media.VideoFormat, p *encoder.Params) { p.Codec = media.VP8 },
		"bitrate":    func(_ *media.VideoFormat, p *encoder.Params) { p.Bitrate = 0 },
		"gop":        func(_ *media.VideoFormat, p *encoder.Params) { p.GOP = -1 },
		"size":       func(f *media.VideoFormat, _ *encoder.Params) { f.Width = 8 },
		"large":      func(_ *media.VideoFormat, p *encoder.Params) { p.Height = 100_000 },
		"layout":     func(f *media.VideoFormat, _ *encoder.Params) { f.FourCC = media.MJPG },
		"preset":     func(_ *media.VideoFormat, p *encoder.Params) { p.Preset = "no-such-preset" },
		"profile":    func(_ *media.VideoFormat, p *encoder.Params) { p.Profile = "extended" },
		"interlaced": func(f *media.VideoFormat, _ *encoder.Params) { f.Field = media.TopFieldFirst },
	} {
		in, p := good, params
		change(&in, &p)
		e, err := s.Backend.Open(context.Background(), in, p)
		if err == nil {
			_ = e.Close()
			t.Errorf("%s: opened", name)
			continue
		}
		t.Logf("%s: %v", name, err)
	}
	e := s.Open(t, good, params)
	f := media.NewPool(Format(640, 360, media.YU12), 1).Get()
	defer f.Release()
	if err := e.Encode(context.Background(), f, false); err == nil {
		t.Error("took a picture of another size")
	} else {
		t.Log(err)
	}
	short := media.NewFrame(good, []media.Plane{{Stride: 320, Len: 10}, {Stride: 160, Len: 10}, {Stride: 160, Len: 10}}, tooShort{})
	defer short.Release()
	if err := e.Encode(context.Background(), short, false); err == nil {
		t.Error("took a picture with short planes")
	} else {
		t.Log(err)
	}
}

// tooShort is a memory with fewer bytes than the format needs, as a broken driver may give.
type tooShort struct{}

func (tooShort) CPU(f *media.Frame, fn func([][]byte) error) error {
	planes := make([][]byte, len(f.Planes))
	for i, p := range f.Planes {
		planes[i] = make([]byte, p.Len)
	}
	return fn(planes)
}

func (tooShort) Release(*media.Frame) {}

// A bar is one known colour, by R'G'B' in 0–255.
type bar struct{ r, g, b float64 }

var bars = []bar{{235, 235, 235}, {191, 191, 0}, {0, 191, 191}, {0, 191, 0}, {191, 0, 191}, {191, 0, 0}, {0, 0, 191}, {16, 16, 16}}

// ycbcr is H.273's equations for 8 bits.
func (c bar) ycbcr(m media.ColourMatrix, r media.ColourRange) (y, u, v float64) {
	kr, kb := 0.2126, 0.0722
	switch m {
	case media.MatrixBT601:
		kr, kb = 0.299, 0.114
	case media.MatrixBT2020:
		kr, kb = 0.2627, 0.0593
	}
	red, green, blue := c.r/255, c.g/255, c.b/255
	l := kr*red + (1-kr-kb)*green + kb*blue
	pb, pr := (blue-l)/(2*(1-kb)), (red-l)/(2*(1-kr))
	if r == media.RangeFull {
		return 255 * l, 128 + 255*pb, 128 + 255*pr
	}
	return 16 + 219*l, 128 + 224*pb, 128 + 224*pr
}

// colours: vertical bars of known colours in every layout, matrix and range come out as H.273 says, within two steps, and the
// stream names the right matrix and range.
func (s Suite) colours(t *testing.T) {
	inputs := s.Backend.Inputs
	if s.Sibling {
		inputs = inputs[:1]
	}
	for _, fourcc := range inputs {
		if fourcc.Depth() > 8 {
			continue // tenBits has them
		}
		for _, m := range []media.ColourMatrix{media.MatrixBT709, media.MatrixBT601, media.MatrixBT2020} {
			for _, r := range []media.ColourRange{media.RangeLimited, media.RangeFull} {
				one := m == media.MatrixBT601 && r == media.RangeLimited || m == media.MatrixBT709 && r == media.RangeFull
				if whole := fourcc == media.YU12 || fourcc == media.YUYV; !whole && !one {
					continue // matrix and range are labels there, as the two show
				}
				in := Format(320, 64, fourcc)
				in.Matrix, in.Range = m, r
				if rgb := fourcc == media.RGB3 || fourcc == media.BGR3; rgb {
					if m != media.MatrixBT601 || r != media.RangeLimited {
						continue
					}
					in.Matrix, in.Range = media.MatrixRGB, media.RangeFull
				}
				t.Run(fmt.Sprintf("%v/%d/%d", fourcc, m, r), func(t *testing.T) { s.colour(t, in, 320, 64) })
			}
		}
		if !s.Scales {
			continue
		}
		in := Format(320, 64, fourcc)
		if fourcc == media.RGB3 || fourcc == media.BGR3 {
			in.Matrix, in.Range = media.MatrixRGB, media.RangeFull
		}
		t.Run(fmt.Sprintf("%v/scaled", fourcc), func(t *testing.T) { s.colour(t, in, 256, 96) })
	}
}

func (s Suite) colour(t *testing.T, in media.VideoFormat, width, height int) {
	e := s.Open(t, in, encoder.Params{Bitrate: 4_000_000, Width: width, Height: height})
	f := media.NewPool(in, 1).Get()
	defer f.Release()
	drawBars(t, f)
	var packets []*media.Packet
	for n := range 3 {
		f.PTS = Stamp(n)
		if err := e.Encode(context.Background(), f, false); err != nil {
			t.Fatal(err)
		}
	}
	packets = Drain(t, e)
	want := in
	if in.Matrix == media.MatrixRGB {
		want.Matrix, want.Range = media.MatrixBT709, media.RangeLimited
	}
	if s.FullColour && s.Backend.Codec == media.H264 {
		var sets h264.ParameterSets
		sets.Learn(packets[0].Data)
		info, err := h264.ParseSPS(sets.SPS())
		if err != nil || info.Matrix != want.Matrix || info.Range != want.Range {
			t.Errorf("stream says matrix %d range %d, %v; want %d %d", info.Matrix, info.Range, err, want.Matrix, want.Range)
		}
	}
	said := want.Range
	if !s.FullColour {
		said = media.RangeUnspecified
	}
	pictures := Decode(t, s.Backend.Codec, packets, width, height, said)
	if len(pictures) != 3 {
		t.Fatalf("%d pictures decoded", len(pictures))
	}
	got := pictures[2]
	cw := width / 2
	for i, b := range bars {
		x := (2*i + 1) * width / 16
		y, u, v := b.ycbcr(want.Matrix, want.Range)
		at := height/2*width + x
		chroma := width*height + height/4*cw + x/2
		gy, gu, gv := float64(got[at]), float64(got[chroma]), float64(got[chroma+cw*height/2])
		if math.Abs(gy-y) > 3 || math.Abs(gu-u) > 3 || math.Abs(gv-v) > 3 {
			t.Errorf("bar %d: got %v %v %v, want %.1f %.1f %.1f", i, gy, gu, gv, y, u, v)
		}
	}
}

// drawBars draws the colour bars in the frame's own layout, matrix and range.
func drawBars(t *testing.T, f *media.Frame) {
	w, h := f.Format.Width, f.Format.Height
	round := func(v float64) byte { return byte(math.Round(v)) }
	deep := func(to []byte, v float64) { binary.LittleEndian.PutUint16(to, uint16(math.Round(4*v))<<6) }
	err := f.CPU(func(planes [][]byte) error {
		for y := range h {
			row := func(i, y int) []byte { return planes[i][y*f.Planes[i].Stride:] }
			for x := range w {
				b := bars[x*len(bars)/w]
				fy, fu, fv := b.ycbcr(f.Format.Matrix, f.Format.Range)
				l, u, v := round(fy), round(fu), round(fv)
				switch f.Format.FourCC {
				case media.YU12:
					row(0, y)[x], row(1, y/2)[x/2], row(2, y/2)[x/2] = l, u, v
				case media.NV12:
					row(0, y)[x], row(1, y/2)[x&^1], row(1, y/2)[x|1] = l, u, v
				case media.NV16:
					row(0, y)[x], row(1, y)[x&^1], row(1, y)[x|1] = l, u, v
				case media.NV24:
					row(0, y)[x], row(1, y)[2*x], row(1, y)[2*x+1] = l, u, v
				case media.YUYV:
					p := row(0, y)[4*(x/2):]
					p[2*(x&1)], p[1], p[3] = l, u, v
				case media.UYVY:
					p := row(0, y)[4*(x/2):]
					p[1+2*(x&1)], p[0], p[2] = l, u, v
				case media.P010:
					deep(row(0, y)[2*x:], fy)
					deep(row(1, y/2)[4*(x/2):], fu)
					deep(row(1, y/2)[4*(x/2)+2:], fv)
				case media.Y210:
					p := row(0, y)[8*(x/2):]
					deep(p[4*(x&1):], fy)
					deep(p[2:], fu)
					deep(p[6:], fv)
				case media.RGB3:
					copy(row(0, y)[3*x:], []byte{round(b.r), round(b.g), round(b.b)})
				case media.BGR3:
					copy(row(0, y)[3*x:], []byte{round(b.b), round(b.g), round(b.r)})
				default:
					return fmt.Errorf("no bars in %v", f.Format.FourCC)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
