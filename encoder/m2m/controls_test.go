package m2m

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gantry/encoder"
	"gantry/internal/testkit/vm"
	kernel "gantry/internal/v4l2"
	"gantry/internal/v4l2/uapi"
	"gantry/media"
)

// A recorder stands in for the controls of a hardware encoder and writes down what is set. Where beneath is set, what that
// device has goes there too.
type recorder struct {
	has     map[uint32]kernel.Control
	menus   map[uint32]map[int64]string
	calls   []string
	beneath controls
}

func (r *recorder) Control(id uint32) (kernel.Control, error) {
	if c, ok := r.has[id]; ok {
		c.ID = id
		return c, nil
	}
	if r.beneath != nil {
		return r.beneath.Control(id)
	}
	return kernel.Control{}, unix.EINVAL
}

func (r *recorder) Menu(c kernel.Control) (map[int64]string, error) { return r.menus[c.ID], nil }

func (r *recorder) SetControls(settings ...kernel.Setting) error {
	for _, s := range settings {
		r.calls = append(r.calls, fmt.Sprintf("%s=%d", names[s.ID], s.Value))
		if _, own := r.has[s.ID]; own || r.beneath == nil {
			continue
		}
		if err := r.beneath.SetControls(s); err != nil {
			return err
		}
	}
	return nil
}

// picture notes that a picture goes in.
func (r *recorder) picture() { r.calls = append(r.calls, "picture") }

var names = map[uint32]string{
	uapi.CIDBitrateMode: "mode", uapi.CIDBitrate: "bitrate", uapi.CIDBitratePeak: "peak", uapi.CIDBFrames: "b-frames", uapi.CIDGOPSize: "gop",
	uapi.CIDRepeatSeqHeader: "repeat-headers", uapi.CIDForceKeyFrame: "force-key", uapi.CIDHeaderMode: "header-mode",
	uapi.CIDH264IPeriod: "i-period", uapi.CIDH264Level: "level", uapi.CIDH264Profile: "profile",
}

// likeRaspberry has the controls of bcm2835-codec.
func likeRaspberry() *recorder {
	levels, profiles := map[int64]string{}, map[int64]string{0: "Baseline", 1: "Constrained Baseline", 2: "Main", 4: "High"}
	for i := range int64(16) {
		levels[i] = fmt.Sprint("level ", i)
	}
	return &recorder{
		has: map[uint32]kernel.Control{
			uapi.CIDBitrateMode: {Max: 1}, uapi.CIDBitrate: {Min: 25_000, Max: 25_000_000, Step: 25_000}, uapi.CIDHeaderMode: {Max: 1},
			uapi.CIDRepeatSeqHeader: {Max: 1}, uapi.CIDForceKeyFrame: {}, uapi.CIDH264IPeriod: {Max: 0x7fffffff, Step: 1},
			uapi.CIDH264Level: {Max: 15}, uapi.CIDH264Profile: {Max: 4}, uapi.CIDBFrames: {},
		},
		menus: map[uint32]map[int64]string{
			uapi.CIDBitrateMode: {0: "VBR", 1: "CBR"}, uapi.CIDHeaderMode: {0: "separate", 1: "joined"}, uapi.CIDH264Level: levels, uapi.CIDH264Profile: profiles,
		},
	}
}

func TestSetUp(t *testing.T) {
	hd := media.VideoFormat{Width: 1920, Height: 1080, FourCC: media.NV12, Rate: media.Rational{Num: 30, Den: 1}}
	for _, c := range []struct {
		name    string
		p       encoder.Params
		change  func(*recorder)
		calls   string
		profile string
		err     string
	}{
		{"default", encoder.Params{Bitrate: 4_010_000, GOP: 2 * time.Second}, nil,
			"mode=1 header-mode=1 b-frames=0 repeat-headers=1 profile=1 level=11 bitrate=4000000 i-period=60", "42e028", ""},
		{"high, keys on demand", encoder.Params{Bitrate: 100_000_000, Profile: "high"}, nil,
			"mode=1 header-mode=1 b-frames=0 repeat-headers=1 profile=4 level=14 bitrate=25000000 i-period=2147483647", "640032", ""},
		{"no such profile", encoder.Params{Bitrate: 1_000_000, Profile: "high"}, func(r *recorder) { delete(r.menus[uapi.CIDH264Profile], 4) }, "", "", "profile high"},
		{"profile not to be chosen", encoder.Params{Bitrate: 1_000_000, Profile: "main"}, func(r *recorder) { delete(r.has, uapi.CIDH264Profile) }, "", "", "lets nobody choose"},
		{"no bitrate", encoder.Params{Bitrate: 1_000_000}, func(r *recorder) { delete(r.has, uapi.CIDBitrate) }, "", "", "no control for the bitrate"},
		{"little to set", encoder.Params{Bitrate: 1_000_000, GOP: time.Second}, func(r *recorder) {
			for id := range r.has {
				if id != uapi.CIDBitrate {
					delete(r.has, id)
				}
			}
			r.has[uapi.CIDGOPSize] = kernel.Control{Max: 16, Step: 1}
		}, "bitrate=1000000 gop=16", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := likeRaspberry()
			if c.change != nil {
				c.change(r)
			}
			profile, err := setUp(r, h264Coding, hd, c.p)
			if c.err != "" {
				if !errors.Is(err, encoder.ErrUnavailable) || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%v, want %q", err, c.err)
				}
				return
			}
			if got := strings.Join(r.calls, " "); err != nil || got != c.calls || profile != c.profile {
				t.Errorf("set %s, profile %q, %v\nwant %s, %q", got, profile, err, c.calls, c.profile)
			}
		})
	}
}

// vicodec codes, and the recorder stands in for the controls that it lacks: forced key frames and bitrate. This shows which
// calls are made before which picture; that hardware heeds them, only hardware can show.
func TestKernelControlCalls(t *testing.T) {
	vm.Guest(t)
	dev, err := kernel.Open(node(t, "stateful-encoder"))
	must(t, err)
	in := format(640, 360, media.NV12)
	code, err := match(dev, fwht, in)
	must(t, err)
	r := likeRaspberry()
	r.beneath = dev
	p := encoder.Params{Bitrate: 2_000_000, GOP: time.Second / 2}
	want, err := p.Resolve(in)
	must(t, err)
	e, err := newEncoder(dev, r, fwht, code, in, want)
	must(t, err)
	defer e.Close()
	r.calls = nil
	pool := media.NewPool(in, 2)
	for i := range 6 {
		switch i {
		case 2:
			p.Bitrate = 1_000_000
			must(t, e.Apply(p))
		case 4:
			p.GOP = time.Second
			must(t, e.Apply(p))
		}
		f := pool.Get()
		f.PTS = stamp(i)
		must(t, encoder.DrawPattern(f, i, 0))
		put(t, e, f, i == 3)
		f.Release()
		r.picture()
		if p := next(t, e); p.PTS != stamp(i) || p.Key != (i == 0) {
			t.Errorf("picture %d: key %v: with the control the encoder does not start anew", i, p.Key)
		}
	}
	must(t, e.Apply(p)) // nothing new, no call
	calls := []string{"picture", "picture", "bitrate=1000000", "picture", "force-key=1", "picture", "gop=16", "i-period=30", "picture", "picture"}
	if !slices.Equal(r.calls, calls) {
		t.Errorf("calls %v\nwant  %v", r.calls, calls)
	}
}

func annexB(nalus ...[]byte) (au []byte) {
	for _, n := range nalus {
		au = append(append(au, 0, 0, 0, 1), n...)
	}
	return au
}

func TestCompleteH265(t *testing.T) {
	vps, sps, pps := []byte{32 << 1, 1, 7}, []byte{33 << 1, 1, 8}, []byte{34 << 1, 1, 9}
	idr, trail := []byte{19 << 1, 1, 5}, []byte{1 << 1, 1, 6}
	complete := completeH265()
	first := annexB(vps, sps, pps, idr)
	for i, c := range []struct{ in, want []byte }{
		{first, first}, {annexB(trail), annexB(trail)}, {annexB(idr), annexB(vps, sps, pps, idr)},
	} {
		key := h265Key(c.in)
		if got := complete(c.in, key); !bytes.Equal(got, c.want) || key != (i != 1) {
			t.Errorf("%d: %x, key %v, want %x", i, got, key, c.want)
		}
	}
}

// Whatever a driver makes, looking at it does no harm and loses none of it.
func FuzzComplete(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 64, 1, 7, 0, 0, 1, 38, 1, 5}, true)
	f.Add([]byte{0, 0, 1, 0x67, 0x42, 0, 0x1e, 0, 0, 1, 0x65}, true)
	f.Fuzz(func(t *testing.T, au []byte, key bool) {
		for _, k := range []coding{h264Coding, h265Coding} {
			complete := k.complete()
			k.key(au)
			for range 2 {
				if out := complete(bytes.Clone(au), key); k.codec == media.H265 && !bytes.HasSuffix(out, au) {
					t.Errorf("%x became %x", au, out)
				}
			}
		}
	})
}
