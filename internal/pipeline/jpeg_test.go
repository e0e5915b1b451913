//go:build cgo && !nolibav

package pipeline

import (
	"bytes"
	"context"
	"image"
	"image/jpeg"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"gantry/device"
	"gantry/device/testsrc"
	"gantry/encoder"
	"gantry/encoder/libav"
	"gantry/internal/clock"
	"gantry/internal/health"
	"gantry/media"
)

// A dongle is a source of JPEGs, until it is unplugged.
type dongle struct {
	format    media.VideoFormat
	picture   []byte
	unplugged *atomic.Bool
	n         uint32
}

func (d *dongle) Start(ctx context.Context) (media.VideoFormat, error) {
	if d.unplugged.Load() {
		<-ctx.Done()
		return d.format, ctx.Err()
	}
	return d.format, nil
}

func (d *dongle) Read(ctx context.Context) (*media.Frame, error) {
	select {
	case <-time.After(d.format.Rate.Interval()):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if d.unplugged.Load() {
		return nil, device.ErrNoSignal
	}
	f := media.NewFrame(d.format, []media.Plane{{FD: -1, Len: len(d.picture)}}, coded(d.picture))
	d.n++
	f.PTS, f.Seq = clock.Now(), d.n
	return f, nil
}

func (d *dongle) Close() error { return nil }

type coded []byte

func (c coded) CPU(_ *media.Frame, fn func([][]byte) error) error { return fn([][]byte{c}) }
func (coded) Release(*media.Frame)                                {}

// A source of JPEGs that loses its signal has a slate in the format that its pictures were decoded to: the same encoder goes on, and the
// slate is what a viewer sees. So too in an odd size.
func TestSlateOfJPEGs(t *testing.T) {
	for _, size := range [][2]int{{320, 180}, {321, 181}} {
		bubble(t, func(t *testing.T) {
			var b bytes.Buffer
			grey := image.NewYCbCr(image.Rect(0, 0, size[0], size[1]), image.YCbCrSubsampleRatio422)
			for _, plane := range [][]byte{grey.Y, grey.Cb, grey.Cr} {
				for i := range plane {
					plane[i] = 128
				}
			}
			if err := jpeg.Encode(&b, grey, nil); err != nil {
				t.Fatal(err)
			}
			var unplugged atomic.Bool
			src := &dongle{picture: b.Bytes(), unplugged: &unplugged,
				format: media.VideoFormat{Width: size[0], Height: size[1], FourCC: media.MJPG, Rate: media.Rational{Num: 25, Den: 1}}}
			all := libav.Backends()
			x264 := all[slices.IndexFunc(all, func(b encoder.Backend) bool { return b.Name == "libx264" })]
			p := newPeer("a")
			var set health.Set
			s := New(Spec{
				Video: Video{Name: "dongle", Key: 1, Format: yu12(320, 180, 25), Open: func(context.Context) (device.Source, error) {
					return Converted(src, func(in media.VideoFormat) (encoder.Converter, error) { return libav.NewConverter(in, false) }), nil
				}},
				Encoder: Encoder{Key: 1, Floor: 200_000, Backends: []encoder.Backend{x264}, Params: encoder.Params{Codec: media.H264, Bitrate: 1_000_000}},
				Uplinks: []Uplink{p.uplink()},
			}, func(f media.VideoFormat, title, reason string) (Still, error) { return testsrc.Slate(f, title, reason) }, &set, slog.New(slog.DiscardHandler))
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- s.Run(ctx) }()
			sleep(3 * time.Second)
			unplugged.Store(true)
			sleep(3 * time.Second)
			st := s.Status()
			if st.Encoder.Opened != 1 || st.Video.Slates < 60 || st.Video.Signal || st.Video.Format.Range != media.RangeFull || st.Video.Format.Width != size[0] {
				t.Errorf("%d encoders, %+v", st.Encoder.Opened, st.Video)
			}
			packets := p.got()
			steady(t, packets, 300*time.Millisecond, true)
			if ink := bright(t, packets); ink[0] != 0 || ink[1] < 100 {
				t.Errorf("bright pixels in the first and the last picture: %d", ink)
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// bright counts the bright pixels of the first and the last picture.
func bright(t *testing.T, packets []*media.Packet) (count [2]int) {
	d, err := libav.NewDecoder(media.H264)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	first := true
	for _, p := range packets {
		frames, err := d.Decode(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range frames {
			n := 0
			_ = f.CPU(func(planes [][]byte) error {
				for y := range f.Format.Height {
					for _, v := range planes[0][y*f.Planes[0].Stride:][:f.Format.Width] {
						if v > 180 {
							n++
						}
					}
				}
				return nil
			})
			f.Release()
			if first {
				count[0], first = n, false
			}
			count[1] = n
		}
	}
	return count
}
