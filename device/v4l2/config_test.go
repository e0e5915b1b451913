package v4l2

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gantry/device"
	"gantry/internal/testkit/sysfs"
	kernel "gantry/internal/v4l2"
	"gantry/internal/v4l2/uapi"
	"gantry/media"
)

func TestConfig(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Errorf("default: %v", err)
	}
	bad := Config{Device: "video0", Input: -2, EDID: "1081p60", Standard: "PAL", Width: 5, Format: "H265", Rate: media.Rational{Num: 1000, Den: 1}, Buffers: 1}
	err := bad.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	lines := strings.Split(err.Error(), "\n")
	for i, key := range []string{"device: ", "input: ", "edid: ", "standard: ", "width: ", "height: ", "format: ", "rate: ", "buffers: "} {
		if i >= len(lines) || !strings.HasPrefix(lines[i], key) {
			t.Errorf("error %d of %q does not begin with %q", i, lines, key)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	for path, want := range map[string]error{
		"/dev/no-such-node": device.ErrNotFound,
		"/dev/null":         device.ErrUnsupported,
	} {
		cfg := Default()
		cfg.Device = path
		if _, err := Open(cfg, slog.Default()); !errors.Is(err, want) || !strings.Contains(err.Error(), "gantryd probe") {
			t.Errorf("%s: %v, want %v with what to do", path, err, want)
		}
	}
	if _, err := Open(Config{}, slog.Default()); err == nil {
		t.Error("an empty configuration was accepted")
	}
}

// What vivid cannot show: a driver that tells of HDCP, and one that has no power.
func TestReasons(t *testing.T) {
	s := &Source{dev: &kernel.Device{}}
	for _, c := range []struct {
		status uint32
		err    error
		kind   error
		want   string
	}{
		{uapi.InStNoAccess, nil, device.ErrEncrypted, "HDCP"},
		{uapi.InStNoAccess | uapi.InStNoSync, unix.ENOLCK, device.ErrEncrypted, "HDCP"},
		{uapi.InStNoPower, nil, device.ErrNoSignal, "no power"},
		{uapi.InStNoSignal, nil, device.ErrNoSignal, "check the cable"},
		{0, unix.ENOLINK, device.ErrNoSignal, "check the cable"},
		{uapi.InStNoSync, nil, device.ErrNoLock, "cannot lock"},
		{0, unix.ERANGE, device.ErrOutOfRange, "lower resolution"},
	} {
		err := s.missing(kernel.Input{Index: 1, Name: "HDMI 0", Status: c.status}, c.err)
		if !errors.Is(err, c.kind) || !errors.Is(err, device.ErrNoSignal) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("status %#x, %v: %v", c.status, c.err, err)
		}
	}
}

func TestPlaces(t *testing.T) {
	one := func(stride, size int) []kernel.PlaneFormat { return []kernel.PlaneFormat{{Stride: stride, Size: size}} }
	for _, c := range []struct {
		code          string
		width, height int
		memory        []kernel.PlaneFormat
		want          []planePlace // nil: refused
	}{
		{"NV12", 640, 360, one(640, 345600), []planePlace{
			{0, media.Plane{FD: -1, Offset: 0, Stride: 640, Len: 230400}}, {0, media.Plane{FD: -1, Offset: 230400, Stride: 640, Len: 115200}}}},
		{"NV12", 640, 360, one(704, 380160), []planePlace{
			{0, media.Plane{FD: -1, Offset: 0, Stride: 704, Len: 253440}}, {0, media.Plane{FD: -1, Offset: 253440, Stride: 704, Len: 126720}}}},
		{"YU12", 640, 360, one(704, 380160), []planePlace{
			{0, media.Plane{FD: -1, Offset: 0, Stride: 704, Len: 253440}}, {0, media.Plane{FD: -1, Offset: 253440, Stride: 352, Len: 63360}},
			{0, media.Plane{FD: -1, Offset: 316800, Stride: 352, Len: 63360}}}},
		{"NM12", 640, 360, []kernel.PlaneFormat{{Stride: 640, Size: 230400}, {Stride: 640, Size: 115200}}, []planePlace{
			{0, media.Plane{FD: -1, Offset: 0, Stride: 640, Len: 230400}}, {1, media.Plane{FD: -1, Offset: 0, Stride: 640, Len: 115200}}}},
		{"YUYV", 640, 360, one(1280, 460800), []planePlace{{0, media.Plane{FD: -1, Offset: 0, Stride: 1280, Len: 460800}}}},
		{"YUYV", 640, 360, one(0, 460800), []planePlace{{0, media.Plane{FD: -1, Offset: 0, Stride: 1280, Len: 460800}}}},
		{"YUYV", 640, 360, one(640, 460800), nil},              // lines too short
		{"NV12", 640, 360, one(640, 345599), nil},              // memory too small
		{"YUYV", 640, 360, nil, nil},                           // no memory
		{"YM12", 640, 360, make([]kernel.PlaneFormat, 2), nil}, // a plane missing
	} {
		l, ok := layoutOf(c.code)
		if !ok {
			t.Fatal(c.code)
		}
		got, err := places(l, kernel.Format{Width: c.width, Height: c.height, FourCC: l.code, Planes: c.memory})
		if (err == nil) != (c.want != nil) || len(got) != len(c.want) {
			t.Errorf("%s %v: %v, %v, want %v", c.code, c.memory, got, err, c.want)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s %v: plane %d is %v, want %v", c.code, c.memory, i, got[i], c.want[i])
			}
		}
	}
}

// Whatever a driver says about its memory, no plane reaches beyond it.
func FuzzPlaces(f *testing.F) {
	f.Add(uint8(0), 640, 360, 640, 345600, 0, 0)
	f.Add(uint8(1), 640, 360, 640, 230400, 640, 115200)
	f.Fuzz(func(t *testing.T, which uint8, width, height, stride, size, stride2, size2 int) {
		if width < 1 || height < 1 || width > 1<<15 || height > 1<<15 || stride < 0 || stride > 1<<20 || stride2 < 0 || stride2 > 1<<20 {
			return // the kernel's numbers are 32 bits, and a driver's picture is not that large
		}
		l := layouts[int(which)%len(layouts)]
		memory := []kernel.PlaneFormat{{Stride: stride, Size: size}}
		if size2 > 0 {
			memory = append(memory, kernel.PlaneFormat{Stride: stride2, Size: size2}, kernel.PlaneFormat{Stride: stride2, Size: size2})
		}
		got, err := places(l, kernel.Format{Width: width, Height: height, FourCC: l.code, Planes: memory})
		if err != nil {
			return
		}
		for i, p := range got {
			if p.Offset < 0 || p.Len <= 0 || p.Stride <= 0 && !l.coded() || p.Offset+p.Len > memory[p.memory].Size {
				t.Errorf("%v %dx%d in %v: plane %d is %v", l.code, width, height, memory, i, p)
			}
		}
	})
}

func TestVideoFormat(t *testing.T) {
	for _, c := range []struct {
		code  string
		f     kernel.Format
		std   uapi.Std
		want  media.ColourMatrix
		rng   media.ColourRange
		field media.FieldOrder
	}{
		{"NV12", kernel.Format{Colorspace: uapi.ColorspaceREC709}, 0, media.MatrixBT709, media.RangeLimited, media.Progressive},
		{"NV12", kernel.Format{Colorspace: uapi.ColorspaceSRGB, Quantization: uapi.QuantizationFull}, 0, media.MatrixBT601, media.RangeFull, media.Progressive},
		{"NV12", kernel.Format{Colorspace: uapi.ColorspaceREC709, YCbCrEnc: uapi.YCbCrEnc601}, 0, media.MatrixBT601, media.RangeLimited, media.Progressive},
		{"NV12", kernel.Format{}, 0, media.MatrixUnspecified, media.RangeLimited, media.Progressive},
		{"BGR3", kernel.Format{Colorspace: uapi.ColorspaceSRGB}, 0, media.MatrixRGB, media.RangeFull, media.Progressive},
		{"YUYV", kernel.Format{Colorspace: uapi.ColorspaceSMPTE170M, Field: uapi.FieldInterlaced}, uapi.Std525, media.MatrixBT601, media.RangeLimited, media.BottomFieldFirst},
		{"YUYV", kernel.Format{Colorspace: uapi.ColorspaceSMPTE170M, Field: uapi.FieldInterlaced}, 0xff, media.MatrixBT601, media.RangeLimited, media.TopFieldFirst},
		{"YUYV", kernel.Format{Colorspace: uapi.ColorspaceREC709, Field: uapi.FieldInterlacedBT}, 0, media.MatrixBT709, media.RangeLimited, media.BottomFieldFirst},
	} {
		l, _ := layoutOf(c.code)
		got := videoFormat(l, c.f, media.Rational{Num: 25, Den: 1}, c.std)
		if got.Matrix != c.want || got.Range != c.rng || got.Field != c.field {
			t.Errorf("%s %+v: matrix %d range %d field %d, want %d %d %d", c.code, c.f, got.Matrix, got.Range, got.Field, c.want, c.rng, c.field)
		}
	}
}

// A USB device is found by its place or its serial number, and two that cannot be told apart are refused.
func TestNodesOf(t *testing.T) {
	desk := sysfs.Load(t, "../uvc/testdata/desk.txt")
	for name, want := range map[string]string{
		"usb:1-1.4":                   "/dev/video0 /dev/video1",
		"usb:0fd9:0066:0005AC85A6000": "/dev/video2",
		"usb:0fd9:0066:0005AC85A7001": "/dev/video4",
	} {
		got, err := nodesOf(desk, name)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for name, want := range map[string]error{
		"usb:534d:2109:20210623":     device.ErrUnsupported, // two of them
		"usb:0fd9:0066:000000000000": device.ErrNotFound,    // others of its make are there
		"usb:1-1":                    device.ErrNotFound,
	} {
		if got, err := nodesOf(desk, name); !errors.Is(err, want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
