package v4l2

import (
	"bytes"
	"errors"
	"image"
	"image/jpeg"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"gantry/device"
	"gantry/internal/testkit"
	"gantry/internal/testkit/usb"
	"gantry/internal/testkit/vm"
	"gantry/media"
	"gantry/media/h264"
)

// The camera of these tests: Linux's own numbers for a webcam made of software.
const (
	vendor, product = 0x1d6b, 0x0102
	named           = "usb:1d6b:0102:" // and a serial number
)

func format(code string, width, height int, rates ...int) usb.Format {
	return usb.Format{FourCC: code, Width: width, Height: height, Rates: rates}
}

func usbCamera(serial string, picture func(usb.Format, int) []byte, formats ...usb.Format) *usb.Camera {
	return &usb.Camera{Vendor: vendor, Product: product, Maker: "Gantry", Name: "Camera", Serial: serial, Formats: formats, Picture: picture}
}

// grey is picture n in YUYV: luma says which.
func grey(f usb.Format, n int) []byte {
	return bytes.Repeat([]byte{byte(n), 128}, f.Width*f.Height)
}

// jpegOf is picture n as a JPEG.
func jpegOf(f usb.Format, n int) []byte {
	img := image.NewGray(image.Rect(0, 0, f.Width, f.Height))
	for i := range img.Pix {
		img.Pix[i] = byte(i/f.Width + 5*n)
	}
	var b bytes.Buffer
	_ = jpeg.Encode(&b, img, nil) // into memory
	return b.Bytes()
}

// await opens a device as soon as it can be opened.
func await[S any](t *testing.T, open func(Config, *slog.Logger) (S, error), cfg Config) (s S) {
	t.Helper()
	var err error
	testkit.Eventually(t, 10*time.Second, "the camera is opened", func() bool {
		s, err = open(cfg, slog.Default())
		return err == nil
	})
	return s
}

func usbConfig(device, layout string) Config {
	cfg := Default()
	cfg.Device, cfg.Format, cfg.Buffers = device, layout, 4
	return cfg
}

func TestKernelUSBPictures(t *testing.T) { testPictures(t, false) }

func TestKernelUSBIsochronous(t *testing.T) { testPictures(t, true) }

func testPictures(t *testing.T, isochronous bool) {
	vm.Guest(t)
	camera := usbCamera("A1", func(f usb.Format, n int) []byte {
		if f.FourCC == "MJPG" {
			return jpegOf(f, n)
		}
		return grey(f, n)
	}, format("YUYV", 320, 180, 15, 10), format("MJPG", 640, 360, 30))
	camera.Isochronous = isochronous
	camera.Plug(t)
	src := await(t, Open, usbConfig(named+"A1", ""))
	defer func() { src.Close() }()
	for _, c := range []struct {
		width, height, rate int
		code                media.FourCC
	}{
		{0, 0, 0, media.YUYV},      // as it is set
		{640, 360, 30, media.MJPG}, // YUYV does not come in this size
		{320, 180, 10, media.YUYV},
	} {
		cfg := usbConfig(named+"A1", "")
		cfg.Width, cfg.Height, cfg.Rate = c.width, c.height, media.Rational{Num: c.rate, Den: 1}
		if err := src.Close(); err != nil {
			t.Fatal(err)
		}
		var err error
		if src, err = Open(cfg, slog.Default()); err != nil {
			t.Fatal(err)
		}
		got, err := src.Start(t.Context())
		if err != nil || got.FourCC != c.code || c.width != 0 && (got.Width != c.width || !sameRate(got.Rate, cfg.Rate)) {
			t.Fatalf("%+v: %v, %v", c, got, err)
		}
		var last *media.Frame
		for i := range 5 {
			f, err := src.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := f.CPU(func(planes [][]byte) error {
				sent := usb.Format{Width: got.Width, Height: got.Height}
				want := grey(sent, int(planes[0][0]))
				if c.code == media.MJPG {
					want = jpegOf(sent, int(f.Seq))
				}
				if !bytes.Equal(planes[0], want) {
					return errors.New("another picture than the camera's")
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
			if last != nil && (f.PTS <= last.PTS || f.Seq != last.Seq+1) {
				t.Errorf("picture %d: number %d at %v after %d at %v", i, f.Seq, f.PTS, last.Seq, last.PTS)
			}
			if last != nil {
				last.Release()
			}
			last = f
		}
		last.Release()
	}
}

// Pictures of which a part is missing, as on a bad cable, are not delivered; those between them are.
func TestKernelUSBShortPictures(t *testing.T) {
	vm.Guest(t)
	camera := usbCamera("A1", func(f usb.Format, n int) []byte {
		if n%3 == 2 {
			return grey(f, n)[:f.Width]
		}
		return grey(f, n)
	}, format("YUYV", 160, 120, 30))
	camera.Isochronous = true
	camera.Plug(t)
	src := await(t, Open, usbConfig(named+"A1", ""))
	defer src.Close()
	if _, err := src.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, want := range []byte{0, 1, 3, 4, 6, 7} {
		f, err := src.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = f.CPU(func(planes [][]byte) error {
			if got := planes[0][0]; got != want || !bytes.Equal(planes[0], grey(usb.Format{Width: 160, Height: 120}, int(want))) {
				t.Errorf("picture %d is the camera's %d, want %d whole", i, got, want)
			}
			return nil
		})
		f.Release()
	}
}

// A camera that codes its pictures: they leave as it made them, from a key frame on.
func TestKernelUSBCoded(t *testing.T) {
	vm.Guest(t)
	stream, err := os.ReadFile("../../media/h264/testdata/baseline.h264")
	if err != nil {
		t.Fatal(err)
	}
	units := split(stream)
	key := slices.IndexFunc(units, h264.HasIDR)
	if key < 0 || len(units) < 5 {
		t.Fatalf("%d pictures, key frame %d", len(units), key)
	}
	const before = 2 // the stream is joined in the middle
	usbCamera("A1", func(_ usb.Format, n int) []byte { return units[(n+len(units)-before)%len(units)] },
		format("YUYV", 320, 180, 30), format("H264", 320, 180, 30)).Plug(t)
	if _, err := Open(usbConfig(named+"A1", "H264"), slog.Default()); !errors.Is(err, device.ErrUnsupported) {
		t.Error("a Source of H.264:", err)
	}
	p := await(t, OpenPackets, usbConfig(named+"A1", "H264"))
	defer p.Close()
	tracks, err := p.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var sets h264.ParameterSets
	sets.Learn(stream)
	info, err := h264.ParseSPS(sets.SPS())
	if err != nil {
		t.Fatal(err)
	}
	want := media.Track{Codec: media.H264, ClockRate: 90000, Width: info.Width, Height: info.Height, Profile: info.ProfileLevelID}
	if len(tracks) != 1 || tracks[0] != want {
		t.Errorf("tracks %+v, want %+v", tracks, want)
	}
	var last time.Duration
	for i := range 2 * len(units) {
		pkt, err := p.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		unit := units[(key+i)%len(units)]
		if !bytes.Equal(pkt.Data, unit) || pkt.Key != h264.HasIDR(unit) || pkt.Lost || !pkt.Start || !pkt.End || pkt.PTS <= last || pkt.DTS != pkt.PTS {
			t.Errorf("picture %d: %d bytes, want %d; %+v", i, len(pkt.Data), len(unit), pkt)
		}
		last = pkt.PTS
	}
}

// split cuts a stream into its access units, of one slice each.
func split(stream []byte) (units [][]byte) {
	var unit []byte
	for nalu := range h264.NALUs(stream) {
		unit = h264.Append(unit, nalu)
		if t := h264.TypeOf(nalu); t == h264.IDR || t == h264.NonIDR {
			units, unit = append(units, unit), nil
		}
	}
	return units
}

// Two cameras that differ in their serial numbers alone come and go: each name stays with its own camera, whatever its number.
func TestKernelUSBTwins(t *testing.T) {
	vm.Guest(t)
	mark := func(v byte) func(usb.Format, int) []byte {
		return func(f usb.Format, _ int) []byte { return bytes.Repeat([]byte{v, 128}, f.Width*f.Height) }
	}
	a := usbCamera("A1", mark(10), format("YUYV", 160, 120, 30))
	b := usbCamera("B2", mark(20), format("YUYV", 160, 120, 30))
	a.Version = 0x0210 // made for USB 3
	first, second := a.PlugInto(t, 0), b.PlugInto(t, 1)
	defer func() { first.Unplug(); second.Unplug() }()
	look := func(name string, want byte) {
		t.Helper()
		src := await(t, Open, usbConfig(name, ""))
		defer src.Close()
		if _, err := src.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		f, err := src.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer f.Release()
		if err := f.CPU(func(planes [][]byte) error {
			if planes[0][0] != want {
				t.Errorf("%s shows %d, want %d", name, planes[0][0], want)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	look(named+"A1", 10)
	look(named+"B2", 20)
	look("usb:"+first.Place, 10)
	src := await(t, Open, usbConfig(named+"A1", ""))
	if w := src.Warning(); !strings.HasPrefix(w, "a USB 3 device at 480 Mbit/s") {
		t.Errorf("in a USB 2 port: %q", w)
	}
	src.Close()
	first.Unplug()
	testkit.Eventually(t, 10*time.Second, "the first is gone", func() bool {
		_, err := Find(named + "A1")
		return errors.Is(err, device.ErrNotFound)
	})
	if path, err := Find("usb:" + first.Place); !errors.Is(err, device.ErrNotFound) {
		t.Errorf("at %s there is %s, %v", first.Place, path, err)
	}
	second.Unplug()
	second = b.PlugInto(t, 0) // they change places
	look(named+"B2", 20)
	first = a.PlugInto(t, 1)
	look(named+"A1", 10)
	look("usb:"+second.Place, 20)

	b.Serial = "A1" // as of makers who give all the same
	second.Unplug()
	second = b.PlugInto(t, 0)
	testkit.Eventually(t, 10*time.Second, "two cameras of one serial number are refused", func() bool {
		_, err := Find(named + "A1")
		return errors.Is(err, device.ErrUnsupported)
	})
	look("usb:"+second.Place, 20)
}
