// Package encodertest holds every encoder.Backend to the contract of package encoder: the same tests for libx264, openh264
// and whatever comes. What an encoder made is decoded by Debian's ffmpeg, which shares no code with the product's own path.
package encodertest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gantry/encoder"
	"gantry/media"
	"gantry/media/h264"
)

// A Suite is a backend under test.
type Suite struct {
	Backend encoder.Backend
	// FullColour: the stream says which matrix and range it has.
	FullColour bool
	// Scales: it codes pictures in another size than they come.
	Scales bool
	// Ten: pictures of ten bits stay so.
	Ten bool
	// Sibling: its conversions are those of another back end, which runs the whole suite.
	Sibling bool
	// Least is the smallest side in pixels that it codes, 0: 16.
	Least int
}

// Format returns a format of 30 pictures a second in BT.709.
func Format(width, height int, fourcc media.FourCC) media.VideoFormat {
	return media.VideoFormat{
		Width: width, Height: height, FourCC: fourcc, Rate: media.Rational{Num: 30, Den: 1},
		Matrix: media.MatrixBT709, Range: media.RangeLimited,
	}
}

// Open opens the backend, and closes it with the test.
func (s Suite) Open(tb testing.TB, in media.VideoFormat, p encoder.Params) encoder.Encoder {
	tb.Helper()
	p.Codec = s.Backend.Codec
	e, err := s.Backend.Open(context.Background(), in, p)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := e.Close(); err != nil {
			tb.Error(err)
		}
	})
	return e
}

// Stamp is the PTS of picture n: 30 a second, off the beat by some milliseconds as real capture is.
func Stamp(n int) time.Duration {
	jitter := time.Duration(n*n%7-3) * time.Millisecond
	return time.Hour + time.Duration(n)*time.Second/30 + jitter + time.Duration(n)
}

// Encode codes the pictures first to last-1 of the moving pattern and returns the packets.
func Encode(tb testing.TB, e encoder.Encoder, in media.VideoFormat, first, last, noise int, key func(n int) bool) []*media.Packet {
	tb.Helper()
	ctx := context.Background()
	pool := media.NewPool(in, 2)
	var packets []*media.Packet
	for n := first; n < last; n++ {
		f := pool.Get()
		f.PTS = Stamp(n)
		if err := encoder.DrawPattern(f, n, noise); err != nil {
			tb.Fatal(err)
		}
		err := e.Encode(ctx, f, key != nil && key(n))
		f.Release()
		if err != nil {
			tb.Fatalf("picture %d: %v", n, err)
		}
		if p := poll(tb, e); p != nil {
			packets = append(packets, p)
		}
	}
	return packets
}

// poll returns a packet that is ready, or nil.
func poll(tb testing.TB, e encoder.Encoder) *media.Packet {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p, err := e.Read(ctx)
	if err != nil && !errors.Is(err, context.Canceled) && err != io.EOF {
		tb.Fatal(err)
	}
	return p
}

// Drain closes e and returns what was still in it.
func Drain(tb testing.TB, e encoder.Encoder) []*media.Packet {
	tb.Helper()
	if err := e.Close(); err != nil {
		tb.Fatal(err)
	}
	var packets []*media.Packet
	for {
		p, err := e.Read(context.Background())
		if err == io.EOF {
			return packets
		}
		if err != nil {
			tb.Fatal(err)
		}
		packets = append(packets, p)
	}
}

// Decode decodes a whole stream with ffmpeg to packed YU12 pictures of that size, in the stream's own range. Any complaint of
// ffmpeg fails the test.
func Decode(tb testing.TB, codec media.Codec, packets []*media.Packet, width, height int, rng media.ColourRange) [][]byte {
	tb.Helper()
	format := "yuv420p"
	if rng == media.RangeFull {
		format = "yuvj420p" // with the other name, some versions convert to limited range and some do not
	}
	_, size := Format(width, height, media.YU12).Packed()
	return decode(tb, codec, packets, format, size)
}

// save writes a stream to a file, and returns what ffmpeg calls its format.
func save(tb testing.TB, codec media.Codec, packets []*media.Packet) (demuxer, file string) {
	tb.Helper()
	demuxer = map[media.Codec]string{media.H264: "h264", media.H265: "hevc", media.AV1: "obu"}[codec]
	file = filepath.Join(tb.TempDir(), "stream")
	var stream bytes.Buffer
	for _, p := range packets {
		if delimiter := []byte{0x12, 0}; codec == media.AV1 && !bytes.HasPrefix(p.Data, delimiter) {
			stream.Write(delimiter) // files have one before each temporal unit, RTP has none
		}
		stream.Write(p.Data)
	}
	if err := os.WriteFile(file, stream.Bytes(), 0o600); err != nil {
		tb.Fatal(err)
	}
	return demuxer, file
}

// decode returns pictures of size bytes, in a pixel format of ffmpeg's.
func decode(tb testing.TB, codec media.Codec, packets []*media.Packet, format string, size int) [][]byte {
	tb.Helper()
	demuxer, file := save(tb, codec, packets)
	cmd := exec.Command("ffmpeg", "-nostdin", "-v", "warning", "-xerror", "-f", demuxer, "-i", file,
		"-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", format, "-")
	var complaint strings.Builder
	cmd.Stderr = &complaint
	raw, err := cmd.Output()
	if err != nil {
		tb.Fatalf("ffmpeg: %v\n%s", err, complaint.String())
	}
	for line := range strings.Lines(complaint.String()) {
		// yuvj420p, which full-range streams decode to, is deprecated inside FFmpeg itself.
		if !strings.Contains(line, "deprecated pixel format") && !strings.Contains(line, "Last message repeated") {
			tb.Errorf("ffmpeg: %s", line)
		}
	}
	if len(raw)%size != 0 {
		tb.Fatalf("%d bytes decoded, not pictures of %d", len(raw), size)
	}
	var pictures [][]byte
	for ; len(raw) > 0; raw = raw[size:] {
		pictures = append(pictures, raw[:size])
	}
	return pictures
}

// PSNR compares two pictures in dB.
func PSNR(a, b []byte) float64 {
	var sum float64
	for i := range a {
		d := float64(a[i]) - float64(b[i])
		sum += d * d
	}
	if sum == 0 {
		return 100
	}
	return 10 * math.Log10(255*255*float64(len(a))/sum)
}

// Pixels returns a copy of a frame's planes, one behind the other.
func Pixels(tb testing.TB, f *media.Frame) []byte {
	tb.Helper()
	var all []byte
	if err := f.CPU(func(planes [][]byte) error {
		all = bytes.Join(planes, nil)
		return nil
	}); err != nil {
		tb.Fatal(err)
	}
	return all
}

// bits is the size of packets.
func bits(packets []*media.Packet) int {
	n := 0
	for _, p := range packets {
		n += 8 * len(p.Data)
	}
	return n
}

// checkUnit holds one H.264 access unit to what WebRTC needs.
func checkUnit(t *testing.T, n int, p *media.Packet, order *h264.Order) {
	t.Helper()
	if !p.Start || !p.End || p.Lost || p.PTS != p.DTS {
		t.Errorf("packet %d: not a whole access unit: start %v end %v lost %v pts %v dts %v", n, p.Start, p.End, p.Lost, p.PTS, p.DTS)
	}
	if got := order.Observe(p.Data); got != (h264.Picture{}) {
		t.Errorf("packet %d: %+v", n, got)
	}
	if s := h264.Slices(p.Data); s != 1 {
		t.Errorf("packet %d: %d slices", n, s)
	}
	if p.Key != h264.HasIDR(p.Data) {
		t.Errorf("packet %d: Key %v, but IDR %v", n, p.Key, !p.Key)
	}
	var sets h264.ParameterSets
	sets.Learn(p.Data)
	if p.Key && !sets.Complete() {
		t.Errorf("packet %d: key frame without its parameter sets", n)
	}
}
