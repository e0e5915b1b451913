package encodertest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"gantry/encoder"
	"gantry/media"
)

// tenBits: pictures of ten bits come out with all ten where the encoder has them, else rounded to eight.
func (s Suite) tenBits(t *testing.T) {
	const w, h = 320, 64
	for _, fourcc := range []media.FourCC{media.P010, media.Y210} {
		if !slices.Contains(s.Backend.Inputs, fourcc) {
			continue
		}
		t.Run(fourcc.String(), func(t *testing.T) {
			in := Format(w, h, fourcc)
			in.Matrix, in.Transfer = media.MatrixBT2020, media.TransferPQ
			got := s.still(t, in, func(f *media.Frame) { drawBars(t, f) })
			for i, b := range bars {
				x := (2*i + 1) * w / 16
				chroma := w*h + h/4*w/2 + x/2
				y, u, v := b.ycbcr(in.Matrix, in.Range)
				for _, c := range []struct{ got, want float64 }{{got[h/2*w+x], y}, {got[chroma], u}, {got[chroma+w*h/4], v}} {
					if math.Abs(c.got-c.want) > 2.5 {
						t.Errorf("bar %d: got %.2f, want %.2f", i, c.got, c.want)
					}
				}
			}
			// A ramp of one step of ten bits a pixel: rounded to eight, half of it would be gone.
			got = s.still(t, in, func(f *media.Frame) { drawRamp(t, f) })
			off := 0.0
			for x := range w {
				off += math.Abs(got[h/2*w+x]-float64(256+x)/4) / w
			}
			t.Logf("the ramp is off by %.3f steps of eight bits", off)
			if limit := map[bool]float64{true: 0.2, false: 0.6}[s.Ten]; off > limit {
				t.Errorf("the ramp is off by %.3f steps of eight bits, want %.1f at most", off, limit)
			}
		})
	}
}

// still codes a picture three times and returns the samples of the last in planes, in steps of eight bits.
func (s Suite) still(t *testing.T, in media.VideoFormat, draw func(*media.Frame)) []float64 {
	t.Helper()
	e := s.Open(t, in, encoder.Params{Bitrate: 8_000_000})
	f := media.NewPool(in, 1).Get()
	defer f.Release()
	draw(f)
	for n := range 3 {
		f.PTS = Stamp(n)
		if err := e.Encode(t.Context(), f, false); err != nil {
			t.Fatal(err)
		}
	}
	size := in.Width * in.Height * 3 / 2
	packets := Drain(t, e)
	var raw []byte
	if s.Ten {
		pictures := decode(t, s.Backend.Codec, packets, "yuv420p10le", 2*size)
		raw = pictures[len(pictures)-1]
	} else {
		pictures := Decode(t, s.Backend.Codec, packets, in.Width, in.Height, media.RangeLimited)
		raw = pictures[len(pictures)-1]
	}
	out := make([]float64, size)
	for i := range out {
		if s.Ten {
			out[i] = float64(binary.LittleEndian.Uint16(raw[2*i:])) / 4
		} else {
			out[i] = float64(raw[i])
		}
	}
	return out
}

// drawRamp draws luma from 256 of 1023 on, a step to the right each pixel, without colour.
func drawRamp(t *testing.T, f *media.Frame) {
	t.Helper()
	word := func(to []byte, v int) { binary.LittleEndian.PutUint16(to, uint16(v)<<6) }
	if err := f.CPU(func(planes [][]byte) error {
		for y := range f.Format.Height {
			for x := range f.Format.Width {
				switch f.Format.FourCC {
				case media.P010:
					word(planes[0][y*f.Planes[0].Stride+2*x:], 256+x)
					word(planes[1][y/2*f.Planes[1].Stride+2*x:], 512)
				case media.Y210:
					word(planes[0][y*f.Planes[0].Stride+4*x:], 256+x)
					word(planes[0][y*f.Planes[0].Stride+4*x+2:], 512)
				}
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// A Label is what ffprobe says of a stream.
type Label struct {
	Matrix    string `json:"color_space"`
	Range     string `json:"color_range"`
	Transfer  string `json:"color_transfer"`
	Primaries string `json:"color_primaries"`
	Layout    string `json:"pix_fmt"`
}

// LabelOf asks ffprobe about the pictures in a file; a format of ffmpeg's, or "" for it to find out.
func LabelOf(tb testing.TB, demuxer, file string) Label {
	tb.Helper()
	args := []string{"-v", "error", "-select_streams", "v", "-of", "json", "-show_entries",
		"stream=color_space,color_range,color_transfer,color_primaries,pix_fmt"}
	if demuxer != "" {
		args = append(args, "-f", demuxer)
	}
	out, err := exec.Command("ffprobe", append(args, file)...).Output()
	if err != nil {
		tb.Fatalf("ffprobe: %v", err)
	}
	var said struct{ Streams []Label }
	if err := json.Unmarshal(out, &said); err != nil || len(said.Streams) == 0 {
		tb.Fatalf("ffprobe: %v: %s", err, out)
	}
	return said.Streams[0].Plain()
}

// Plain returns l without the name that only some versions have for layouts in full range.
func (l Label) Plain() Label {
	l.Layout = strings.Replace(l.Layout, "yuvj", "yuv", 1)
	return l
}

// Labelled is what ffprobe should say of pictures that a source delivered as in.
func Labelled(in media.VideoFormat, ten bool) Label {
	l := Label{Range: "tv", Layout: "yuv420p"}
	switch in.Matrix {
	case media.MatrixBT601:
		l.Matrix, l.Transfer, l.Primaries = "smpte170m", "smpte170m", "smpte170m"
	case media.MatrixBT709:
		l.Matrix, l.Transfer, l.Primaries = "bt709", "bt709", "bt709"
	case media.MatrixBT2020:
		l.Matrix, l.Transfer, l.Primaries = "bt2020nc", "bt2020-10", "bt2020"
	}
	switch in.Transfer {
	case media.TransferPQ:
		l.Transfer = "smpte2084"
	case media.TransferHLG:
		l.Transfer = "arib-std-b67"
	}
	if ten && in.FourCC.Depth() == 10 {
		l.Layout = "yuv420p10le"
	}
	if in.Range == media.RangeFull {
		l.Range = "pc"
	}
	return l
}

// labels: the stream says the source's matrix, range, primaries and transfer, as ffprobe reads them.
func (s Suite) labels(t *testing.T) {
	if !s.FullColour {
		t.Skip("it says nothing of its colours")
	}
	fourccs := []media.FourCC{media.YU12, media.P010}
	for _, fourcc := range fourccs {
		for _, m := range []media.ColourMatrix{media.MatrixBT601, media.MatrixBT709, media.MatrixBT2020} {
			for _, r := range []media.ColourRange{media.RangeLimited, media.RangeFull} {
				for _, transfer := range []media.ColourTransfer{media.TransferSDR, media.TransferPQ, media.TransferHLG} {
					if transfer != media.TransferSDR && (m != media.MatrixBT2020 || r != media.RangeLimited) || fourcc == media.P010 && m == media.MatrixBT601 {
						continue
					}
					in := Format(320, 240, fourcc)
					in.Matrix, in.Range, in.Transfer = m, r, transfer
					e := s.Open(t, in, encoder.Params{Bitrate: 1_000_000})
					demuxer, file := save(t, s.Backend.Codec, append(Encode(t, e, in, 0, 2, 0, nil), Drain(t, e)...))
					got, want := LabelOf(t, demuxer, file), Labelled(in, s.Ten)
					if got != want {
						t.Errorf("%v: ffprobe says %+v, want %+v", in, got, want)
					}
				}
			}
		}
	}
}

// padded is a Memory whose lines are longer than they need be.
type padded struct{ pixels [][]byte }

func (m padded) CPU(_ *media.Frame, fn func([][]byte) error) error { return fn(m.pixels) }
func (padded) Release(*media.Frame)                                {}

// newPadded returns a picture whose lines have extra bytes at their ends.
func newPadded(in media.VideoFormat, extra int) *media.Frame {
	packed, _ := in.Packed()
	var m padded
	for i := range packed {
		lines := packed[i].Len / packed[i].Stride
		packed[i].Offset = 0
		packed[i].Stride += extra
		packed[i].Len = lines * packed[i].Stride
		m.pixels = append(m.pixels, make([]byte, packed[i].Len))
	}
	return media.NewFrame(in, packed, m)
}

// oddSizes: pictures of odd sizes, small and large, narrow and wide, with lines of odd lengths in memory, in every layout.
func (s Suite) oddSizes(t *testing.T) {
	sizes := [][2]int{{17, 19}, {4095, 17}, {17, 4095}, {33, 65}, {127, 333}, {1023, 77}, {2049, 31}, {641, 481}}
	inputs := s.Backend.Inputs
	if s.Sibling {
		inputs = []media.FourCC{media.YU12, media.P010, media.YUYV}
	}
	for i, size := range sizes {
		if min(size[0], size[1]) < s.Least {
			continue
		}
		for j, fourcc := range inputs {
			if (i+j)%3 != 0 { // each layout meets narrow and wide ones
				continue
			}
			in := Format(size[0], size[1], fourcc)
			t.Run(fmt.Sprintf("%dx%d/%v", size[0], size[1], fourcc), func(t *testing.T) {
				e := s.Open(t, in, encoder.Params{Bitrate: 8_000_000})
				f := newPadded(in, []int{2, 6, 64, 130}[(i+j)%4])
				defer f.Release()
				for n := range 3 {
					f.PTS = Stamp(n)
					if err := encoder.DrawPattern(f, n, 0); err != nil {
						t.Fatal(err)
					}
					if err := e.Encode(t.Context(), f, false); err != nil {
						t.Fatal(err)
					}
				}
				w, h := in.Width&^1, in.Height&^1
				packets := Drain(t, e)
				var luma []byte
				if s.Ten && fourcc.Depth() == 10 {
					pictures := decode(t, s.Backend.Codec, packets, "yuv420p10le", 3*w*h)
					for i := range w * h {
						luma = append(luma, byte(binary.LittleEndian.Uint16(pictures[len(pictures)-1][2*i:])>>2))
					}
				} else {
					pictures := Decode(t, s.Backend.Codec, packets, w, h, in.Range)
					luma = pictures[len(pictures)-1][:w*h]
				}
				if fourcc == media.RGB3 || fourcc == media.BGR3 {
					return // its luma is none of the pattern's: that it comes through whole is what counts
				}
				if got := PSNR(luma, cropped(t, in, 2, w, h)[:w*h]); got < 30 {
					t.Errorf("%.1f dB", got)
				}
			})
		}
	}
}

// copies: each picture is counted once, as read in place or as copied; packed and deeper ones cannot be read in place.
func (s Suite) copies(t *testing.T) {
	for _, fourcc := range s.Backend.Inputs {
		in := Format(320, 240, fourcc)
		e := s.Open(t, in, encoder.Params{Bitrate: 1_000_000})
		Encode(t, e, in, 0, 3, 0, nil)
		Drain(t, e)
		counter, ok := e.(encoder.CopyCounter)
		if !ok {
			t.Fatal("it does not tell")
		}
		inPlace, copied := counter.Copies()
		t.Logf("%v: %d in place, %d copied", fourcc, inPlace, copied)
		if inPlace+copied != 3 || inPlace > 0 && (fourcc == media.YUYV || fourcc == media.RGB3 || fourcc == media.Y210) {
			t.Errorf("%v: %d in place, %d copied of 3", fourcc, inPlace, copied)
		}
	}
}
