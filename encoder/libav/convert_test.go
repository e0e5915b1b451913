//go:build cgo && !nolibav

package libav

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"
	"os/exec"
	"slices"
	"testing"
	"time"

	"gantry/encoder"
	"gantry/internal/testkit/encodertest"
	"gantry/media"
)

func TestNoConverterWhereNoneIsNeeded(t *testing.T) {
	for _, fourcc := range inputs {
		if c, err := NewConverter(encodertest.Format(320, 180, fourcc), false); c != nil || err != nil {
			t.Errorf("%v: %v, %v", fourcc, c, err)
		}
	}
	for _, in := range []media.VideoFormat{
		{Width: 320, Height: 180, FourCC: media.MJPG, Field: media.TopFieldFirst},
		{Width: 320, Height: 180, FourCC: media.RGB3, Field: media.TopFieldFirst},
	} {
		if c, err := NewConverter(in, false); c != nil || err == nil {
			t.Errorf("%+v: %v", in, c)
		} else {
			t.Log(err)
		}
	}
}

// coded is the memory of a frame that is a JPEG.
type coded []byte

func (c coded) CPU(_ *media.Frame, fn func([][]byte) error) error { return fn([][]byte{c}) }
func (coded) Release(*media.Frame)                                {}

func jpegFrame(in media.VideoFormat, n int, data []byte) *media.Frame {
	f := media.NewFrame(in, []media.Plane{{FD: -1, Len: len(data)}}, coded(data))
	f.PTS, f.Seq = encodertest.Stamp(n), uint32(n)
	return f
}

// drawnJPEG is picture n of the pattern as a JPEG of another maker, and its pixels in full range.
func drawnJPEG(t *testing.T, w, h, n int) (data, pixels []byte) {
	format := encodertest.Format(w, h, media.YU12)
	f := media.NewPool(format, 1).Get()
	defer f.Release()
	if err := encoder.DrawPattern(f, n, 0); err != nil {
		t.Fatal(err)
	}
	pixels = encodertest.Pixels(t, f)
	cw, ch := (w+1)/2, (h+1)/2
	picture := &image.YCbCr{Y: pixels[:w*h], Cb: pixels[w*h : w*h+cw*ch], Cr: pixels[w*h+cw*ch:], YStride: w, CStride: cw,
		SubsampleRatio: image.YCbCrSubsampleRatio420, Rect: image.Rect(0, 0, w, h)}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, picture, &jpeg.Options{Quality: 95}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), pixels
}

func TestJPEG(t *testing.T) {
	in := encodertest.Format(638, 361, media.MJPG)
	c, err := NewConverter(in, false)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want := in
	want.FourCC, want.Matrix, want.Range = media.YU12, media.MatrixBT601, media.RangeFull
	if c.Format() != want {
		t.Errorf("format %+v", c.Format())
	}
	try := func(data []byte, n int) (*media.Frame, error) {
		f := jpegFrame(in, n, data)
		defer f.Release()
		return convert(c, f)
	}
	data, pixels := drawnJPEG(t, 638, 361, 3)
	other, _ := drawnJPEG(t, 640, 360, 3)
	broken := bytes.Clone(data)
	for i := len(broken) / 2; i < len(broken)/2+40; i++ {
		broken[i] = 0xff
	}
	for name, bad := range map[string][]byte{
		"empty": {}, "no JPEG": []byte("not a picture"), "cut off": data[:len(data)/2], "of another size": other, "damaged": broken,
		"cut off, with an end": append(bytes.Clone(data[:len(data)/3]), 0xff, 0xd9),
	} {
		if f, err := try(bad, 0); err == nil {
			f.Release()
			t.Errorf("%s: taken", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
	got, err := try(append(bytes.Clone(data), make([]byte, 500)...), 7) // drivers pad
	if err != nil {
		t.Fatal(err)
	}
	if psnr := encodertest.PSNR(rows(t, got), pixels); psnr < 38 || got.Format != want || got.PTS != encodertest.Stamp(7) || got.Seq != 7 {
		t.Errorf("%.1f dB, %+v at %v number %d", psnr, got.Format, got.PTS, got.Seq)
	}
	got.Release()
}

// without cuts a JPEG's segments of one kind out.
func without(data []byte, marker byte) []byte {
	out, i := bytes.Clone(data[:2]), 2
	for data[i+1] != 0xda { // up to the scan
		n := 2 + int(data[i+2])<<8 + int(data[i+3])
		if data[i+1] != marker {
			out = append(out, data[i:i+n]...)
		}
		i += n
	}
	return append(out, data[i:]...)
}

// What cameras leave out or add: Huffman tables (those of the standard are meant), the end, garbage behind it, restart markers' loss.
func TestJPEGOddities(t *testing.T) {
	data, pixels := drawnJPEG(t, 320, 176, 5)
	in := encodertest.Format(320, 176, media.MJPG)
	c, err := NewConverter(in, false)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for name, odd := range map[string][]byte{
		"no Huffman tables":        without(data, 0xc4),
		"no end":                   data[:len(data)-2],
		"an end, and rubbish":      append(bytes.Clone(data), 1, 2, 3, 0xff, 0, 0xff),
		"zeroes behind":            append(bytes.Clone(data), make([]byte, 4096)...),
		"no end, zeroes behind":    append(bytes.Clone(data[:len(data)-2]), make([]byte, 64)...),
		"neither tables nor end":   without(data[:len(data)-2], 0xc4),
		"a comment":                slices.Concat(data[:2], []byte{0xff, 0xfe, 0, 6, 'a', 'b', 'c', 'd'}, data[2:]),
		"tables of the one before": without(data, 0xdb),
		"a segment for the camera": slices.Concat(data[:2], []byte{0xff, 0xe4, 0, 8, 1, 2, 0xff, 0xd9, 5, 6}, data[2:]),
	} {
		f := jpegFrame(in, 1, odd)
		got, err := convert(c, f)
		f.Release()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if psnr := encodertest.PSNR(rows(t, got), pixels); psnr < 38 {
			t.Errorf("%s: %.1f dB", name, psnr)
		}
		got.Release()
	}
	for name, bad := range map[string][]byte{
		"no size": without(data, 0xc0), "cut in the scan": data[:len(data)*2/3],
		"nothing but ends": {0xff, 0xd8, 0xff, 0xd9}, "two halves": slices.Concat(data[:len(data)/2], data),
	} {
		f := jpegFrame(in, 2, bad)
		got, err := convert(c, f)
		f.Release()
		if err == nil {
			psnr := encodertest.PSNR(rows(t, got), pixels)
			got.Release()
			t.Errorf("%s: taken, with %.1f dB", name, psnr)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}

// Most dongles make 4:2:2.
func TestJPEG422(t *testing.T) {
	out, err := exec.Command("ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "color=0x2060c0:s=320x180:d=1:r=1",
		"-vf", "scale=out_color_matrix=bt601:out_range=full", "-pix_fmt", "yuvj422p", "-q:v", "2", "-frames:v", "1", "-f", "mjpeg", "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	in := encodertest.Format(320, 180, media.MJPG)
	c, err := NewConverter(in, false)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f := jpegFrame(in, 0, out)
	defer f.Release()
	got, err := convert(c, f)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Release()
	p := rows(t, got)
	// H.273: Y = 0.299·32 + 0.587·96 + 0.114·192 = 87.8, Cb = 128 + (192−87.8)/1.772 = 186.8, Cr = 128 + (32−87.8)/1.402 = 88.2.
	for i, want := range []int{88, 187, 88} {
		at := []int{90*320 + 100, 320*180 + 45*160 + 50, 320*180*5/4 + 45*160 + 50}[i]
		if d := int(p[at]) - want; d < -3 || d > 3 {
			t.Errorf("component %d is %d, want %d", i, p[at], want)
		}
	}
}

// convert expects one picture at most.
func convert(c encoder.Converter, f *media.Frame) (*media.Frame, error) {
	got, err := c.Convert(f)
	if len(got) > 1 {
		return nil, fmt.Errorf("%d pictures of one", len(got))
	}
	if err != nil || len(got) == 0 {
		return nil, err
	}
	return got[0], nil
}

// weave makes an interlaced picture of two moments.
func weave(t *testing.T, pool *media.Pool, in media.VideoFormat, n int) *media.Frame {
	t.Helper()
	draw := func(n int) *media.Frame {
		progressive := in
		progressive.Field = media.Progressive
		f := media.NewPool(progressive, 1).Get()
		if err := encoder.DrawPattern(f, n, 0); err != nil {
			t.Fatal(err)
		}
		return f
	}
	top, bottom := draw(2*n), draw(2*n+1)
	if in.Field == media.BottomFieldFirst {
		top, bottom = bottom, top
	}
	defer top.Release()
	defer bottom.Release()
	f := pool.Get()
	err := f.CPU(func(out [][]byte) error {
		return top.CPU(func(a [][]byte) error {
			return bottom.CPU(func(b [][]byte) error {
				for i := range out {
					stride := f.Planes[i].Stride
					for y := 0; y*stride < len(out[i]); y++ {
						from := a[i]
						if y%2 == 1 {
							from = b[i]
						}
						copy(out[i][y*stride:], from[y*stride:(y+1)*stride])
					}
				}
				return nil
			})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	f.PTS, f.Seq = encodertest.Stamp(n), uint32(n)
	return f
}

// What comes out is the moment of the first field, in every layout and both orders: where the order is taken wrongly, it is the
// later one.
func TestDeinterlace(t *testing.T) {
	for _, fourcc := range []media.FourCC{media.UYVY, media.YUYV, media.YU12, media.NV12, media.NV16, media.NV24, media.P010, media.Y210} {
		for _, order := range []media.FieldOrder{media.TopFieldFirst, media.BottomFieldFirst} {
			t.Run(fmt.Sprint(fourcc, order), func(t *testing.T) { deinterlace(t, fourcc, order) })
		}
	}
}

func deinterlace(t *testing.T, fourcc media.FourCC, order media.FieldOrder) {
	in := encodertest.Format(640, 360, fourcc)
	in.Field = order
	c, err := NewConverter(in, false)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want := encodertest.Format(640, 360, media.YU12)
	if want.FourCC = media.YU12; fourcc.Depth() == 10 {
		want.FourCC = media.P010
	}
	pool, drawn := media.NewPool(in, 1), media.NewPool(want, 1)
	psnr := func(f *media.Frame, n int) float64 {
		d := drawn.Get()
		defer d.Release()
		if err := encoder.DrawPattern(d, n, 0); err != nil {
			t.Fatal(err)
		}
		return encodertest.PSNR(lumaOf(t, f), lumaOf(t, d))
	}
	for n := range 5 {
		f := weave(t, pool, in, n)
		got, err := convert(c, f)
		f.Release()
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			if got != nil {
				t.Error("a picture before the next field")
			}
			continue
		}
		first, second := psnr(got, 2*(n-1)), psnr(got, 2*(n-1)+1)
		if n > 1 && (first < 28 || first < second+3) {
			t.Errorf("picture %d: %.1f dB of the first field's moment, %.1f of the second's", n, first, second)
		}
		if off := got.PTS - encodertest.Stamp(n-1); got.Format != want || got.Seq != uint32(n-1) || off.Abs() > time.Microsecond {
			t.Errorf("picture %d: %+v number %d, %v off", n, got.Format, got.Seq, off)
		}
		got.Release()
	}
}

// lumaOf returns the upper eight bits of luma.
func lumaOf(t *testing.T, f *media.Frame) []byte {
	t.Helper()
	all := rows(t, f)
	n := f.Format.Width * f.Format.Height
	if f.Format.FourCC.Depth() == 8 {
		return all[:n]
	}
	out := make([]byte, n)
	for i := range out {
		out[i] = all[2*i+1]
	}
	return out
}

// With fields, each becomes a picture of its own moment, at twice the rate.
func TestDeinterlaceFields(t *testing.T) {
	for _, order := range []media.FieldOrder{media.TopFieldFirst, media.BottomFieldFirst} {
		in := encodertest.Format(640, 360, media.UYVY)
		in.Field, in.Rate = order, media.Rational{Num: 25, Den: 1}
		c, err := NewConverter(in, true)
		if err != nil {
			t.Fatal(err)
		}
		want := encodertest.Format(640, 360, media.YU12)
		want.Rate = media.Rational{Num: 50, Den: 1}
		if c.Format() != want {
			t.Errorf("makes %+v", c.Format())
		}
		pool, drawn := media.NewPool(in, 1), media.NewPool(encodertest.Format(640, 360, media.YU12), 1)
		number := 0
		for n := range 6 {
			f := weave(t, pool, in, n)
			got, err := c.Convert(f)
			f.Release()
			if err != nil || n > 0 && len(got) != 2 {
				t.Fatalf("picture %d makes %d, %v", n, len(got), err)
			}
			for _, p := range got {
				right := drawn.Get()
				if err := encoder.DrawPattern(right, number, 0); err != nil {
					t.Fatal(err)
				}
				if psnr := encodertest.PSNR(lumaOf(t, p), lumaOf(t, right)); number > 2 && psnr < 28 {
					t.Errorf("field %d: %.1f dB of its own moment", number, psnr)
				}
				right.Release()
				at := encodertest.Stamp(number / 2)
				if number%2 == 1 {
					at += (encodertest.Stamp(number/2+1) - at) / 2
				}
				if off := p.PTS - at; p.Format != want || p.Seq != uint32(number) || off.Abs() > time.Microsecond {
					t.Errorf("field %d: %+v number %d, %v off", number, p.Format, p.Seq, off)
				}
				p.Release()
				number++
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// FuzzJPEG: no bytes from a cable crash the decoder's caller; a picture that is taken has the right size.
func FuzzJPEG(f *testing.F) {
	var b bytes.Buffer
	_ = jpeg.Encode(&b, image.NewYCbCr(image.Rect(0, 0, 32, 16), image.YCbCrSubsampleRatio420), nil)
	f.Add(b.Bytes())
	f.Add([]byte{0xff, 0xd8, 0xff, 0xd9})
	in := encodertest.Format(32, 16, media.MJPG)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := NewConverter(in, false)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		frame := jpegFrame(in, 0, data)
		defer frame.Release()
		got, err := convert(c, frame)
		if err != nil {
			return
		}
		defer got.Release()
		if got.Format != c.Format() || len(rows(t, got)) != 32*16*3/2 {
			t.Errorf("%+v", got.Format)
		}
	})
}

// BenchmarkConvert is what a 1080p picture costs.
func BenchmarkConvert(b *testing.B) {
	out, err := exec.Command("ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=1920x1080:d=1:r=1",
		"-pix_fmt", "yuvj422p", "-q:v", "4", "-frames:v", "1", "-f", "mjpeg", "-").Output()
	if err != nil {
		b.Fatal(err)
	}
	in := encodertest.Format(1920, 1080, media.MJPG)
	jpg := jpegFrame(in, 0, out)
	defer jpg.Release()
	interlaced := encodertest.Format(1920, 1080, media.UYVY)
	interlaced.Field = media.TopFieldFirst
	woven := media.NewPool(interlaced, 1).Get()
	defer woven.Release()
	_ = encoder.DrawPattern(woven, 0, 4)
	for name, f := range map[string]*media.Frame{"MJPG": jpg, "1080i UYVY": woven} {
		b.Run(name, func(b *testing.B) {
			c, err := NewConverter(f.Format, false)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			for n := 0; b.Loop(); n++ {
				f.PTS = encodertest.Stamp(n)
				got, err := convert(c, f)
				if err != nil {
					b.Fatal(err)
				}
				if got != nil {
					got.Release()
				}
			}
		})
	}
}
