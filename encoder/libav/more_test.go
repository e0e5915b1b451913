//go:build cgo && !nolibav

package libav

import (
	"context"
	"errors"
	"strings"
	"testing"

	"gantry/encoder"
	"gantry/internal/testkit/encodertest"
	"gantry/media"
	"gantry/media/h264"
)

func TestUnknownOptionsAndEncodersAreErrors(t *testing.T) {
	in := encodertest.Format(320, 240, media.NV12)
	p := encoder.Params{Bitrate: 1_000_000}
	odd := coders[0]
	odd.options = func(p encoder.Params, r media.Rational) []option {
		return append(x264(p, r), option{"forced_idr", "1"})
	}
	if _, err := open(&odd, in, p); err == nil || !strings.Contains(err.Error(), `no option "forced_idr"`) {
		t.Errorf("an option that libx264 spells otherwise: %v", err)
	}
	odd.options = func(p encoder.Params, r media.Rational) []option { return append(x264(p, r), option{"level", "x"}) }
	if _, err := open(&odd, in, p); err == nil {
		t.Error("a value that it does not know was taken")
	} else {
		t.Log(err)
	}
	odd = coders[0]
	odd.name = "h264_nowhere"
	if _, err := open(&odd, in, p); !errors.Is(err, encoder.ErrUnavailable) {
		t.Errorf("an encoder that does not exist: %v", err)
	}
}

func TestProfiles(t *testing.T) {
	in := encodertest.Format(1280, 720, media.NV12)
	for profile, want := range map[string]string{"": "42c01f", "baseline": "42c01f", "main": "4d401f", "high": "64001f"} {
		e := suite(t, "libx264").Open(t, in, encoder.Params{Bitrate: 2_500_000, Profile: profile, Preset: "veryfast"})
		if got := e.Track().Profile; got != want {
			t.Errorf("%q: profile-level-id %s, want %s", profile, got, want)
		}
	}
}

// More bits than the level in the parameter sets allows are a matter for a new encoder.
func TestBitrateBeyondTheLevel(t *testing.T) {
	in := encodertest.Format(1280, 720, media.NV12)
	p := encoder.Params{Codec: media.H264, Bitrate: 2_500_000}
	e := suite(t, "libx264").Open(t, in, p)
	for bps, want := range map[int]error{14_000_000: nil, 14_000_001: encoder.ErrRestart} {
		p.Bitrate = bps
		if err := e.Apply(p); err != want {
			t.Errorf("%d bit/s: %v, want %v", bps, err, want)
		}
	}
}

// Several threads delay the stream; they do not cut pictures into slices, as tune=zerolatency alone would.
func TestThreadsKeepOneSlice(t *testing.T) {
	in := encodertest.Format(640, 360, media.YU12)
	e := suite(t, "libx264").Open(t, in, encoder.Params{Bitrate: 1_000_000, Threads: 4})
	packets := encodertest.Encode(t, e, in, 0, 20, 2, func(n int) bool { return n == 9 })
	packets = append(packets, encodertest.Drain(t, e)...)
	if len(packets) != 20 {
		t.Fatalf("%d packets of 20 pictures", len(packets))
	}
	for n, p := range packets {
		if h264.Slices(p.Data) != 1 || p.PTS != encodertest.Stamp(n) || p.Key != (n == 0 || n == 9) {
			t.Errorf("picture %d: %d slices, key %v, pts %v", n, h264.Slices(p.Data), p.Key, p.PTS)
		}
	}
}

func TestDecoder(t *testing.T) {
	in := encodertest.Format(642, 362, media.YU12)
	in.Range = media.RangeFull
	e := suite(t, "libx264").Open(t, in, encoder.Params{Bitrate: 2_000_000})
	packets := append(encodertest.Encode(t, e, in, 0, 10, 2, nil), encodertest.Drain(t, e)...)
	d, err := NewDecoder(media.H264)
	if err != nil {
		t.Fatal(err)
	}
	var frames []*media.Frame
	for _, p := range packets {
		got, err := d.Decode(p)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 1 {
			t.Fatalf("%d pictures for an access unit: a live decoder has no delay", len(got))
		}
		frames = append(frames, got...)
	}
	if rest, err := d.Drain(); err != nil || len(rest) != 0 {
		t.Errorf("%d pictures left, %v", len(rest), err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	pool := media.NewPool(in, 1)
	for n, f := range frames { // they outlive the decoder
		want := in
		want.Rate = media.Rational{}
		if f.Format != want || f.PTS != encodertest.Stamp(n) {
			t.Errorf("picture %d: %+v at %v", n, f.Format, f.PTS)
		}
		drawn := pool.Get()
		if err := encoder.DrawPattern(drawn, n, 2); err != nil {
			t.Fatal(err)
		}
		if psnr := encodertest.PSNR(rows(t, f), rows(t, drawn)); psnr < 30 {
			t.Errorf("picture %d: %.1f dB", n, psnr)
		}
		drawn.Release()
		f.Release()
	}
	if _, err := NewDecoder(media.Opus); err == nil {
		t.Error("decodes sound to pictures")
	}
	d, err = NewDecoder(media.H264)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	broken := *packets[0]
	broken.Data = broken.Data[:len(broken.Data)/2]
	got, err := d.Decode(&broken)
	for _, f := range got {
		f.Release()
	}
	if err == nil {
		t.Error("a damaged access unit decodes")
	}
}

// rows returns a picture's pixels without padding.
func rows(t *testing.T, f *media.Frame) []byte {
	t.Helper()
	packed, _ := f.Format.Packed()
	var out []byte
	if err := f.CPU(func(planes [][]byte) error {
		for i, want := range packed {
			for y := range want.Len / want.Stride {
				out = append(out, planes[i][y*f.Planes[i].Stride:][:want.Stride]...)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// Opening and closing gives back what it took, with and without pictures in between.
func TestOpenCloseHoldsNothing(t *testing.T) {
	in := encodertest.Format(320, 240, media.YUYV)
	f := media.NewPool(in, 1).Get()
	defer f.Release()
	before := resident(t)
	for n := range 60 {
		for _, b := range Backends() {
			if b.Codec == media.AV1 && n > 0 {
				continue // its hundreds of threads and megabytes take a second each time
			}
			e, err := b.Open(context.Background(), in, encoder.Params{Bitrate: 500_000})
			if errors.Is(err, encoder.ErrUnavailable) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if n%2 == 0 {
				if err := e.Encode(context.Background(), f, false); err != nil {
					t.Fatal(err)
				}
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if n == 20 {
			before = resident(t) // the libraries' own caches are filled
		}
	}
	if grown := resident(t) - before; grown > 16<<20 {
		t.Errorf("%d MB more after 40 encoders of each kind", grown>>20)
	}
}
