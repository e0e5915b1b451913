package encoder_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"gantry/encoder"
	"gantry/internal/testkit"
	"gantry/media"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// fake is an encoder with a fault.
type fake struct {
	out     *encoder.Output
	n       int
	ignores bool // requests for key frames
	skips   bool
	hangs   bool
	delay   time.Duration
}

func (f *fake) Track() media.Track { return media.Track{Codec: media.H264, Width: 320, Height: 180} }

func (f *fake) Encode(ctx context.Context, frame *media.Frame, key bool) error {
	f.n++
	if f.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	for start := used(); used()-start < f.delay; { // work, however busy the machine is
	}
	if f.skips && f.n%4 == 0 {
		return nil
	}
	p := &media.Packet{PTS: frame.PTS, Key: f.n == 1 || key && !f.ignores, Data: []byte{byte(f.n)}}
	f.out.Put(p)
	return nil
}

func used() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (f *fake) Read(ctx context.Context) (*media.Packet, error) { return f.out.Read(ctx) }
func (f *fake) Apply(encoder.Params) error                      { return nil }
func (f *fake) Close() error                                    { f.out.End(nil); return nil }

func backend(name string, hardware bool, f fake) encoder.Backend {
	return encoder.Backend{
		Name: name, Codec: media.H264, Hardware: hardware, Inputs: []media.FourCC{media.YU12},
		Open: func(context.Context, media.VideoFormat, encoder.Params) (encoder.Encoder, error) {
			e := f
			e.out = encoder.NewOutput(8)
			return &e, nil
		},
	}
}

func absent(name string) encoder.Backend {
	b := backend(name, true, fake{})
	b.Open = func(context.Context, media.VideoFormat, encoder.Params) (encoder.Encoder, error) {
		return nil, errors.Join(encoder.ErrUnavailable, errors.New("no /dev/dri/renderD128"))
	}
	return b
}

var trial = encoder.Trial{
	Format: media.VideoFormat{Width: 320, Height: 180, FourCC: media.YU12, Rate: media.Rational{Num: 30, Den: 1}},
	Params: encoder.Params{Codec: media.H264, Bitrate: 1_000_000},
}

func TestProbeRanksAndSaysWhyNot(t *testing.T) {
	other := backend("av1", true, fake{})
	other.Codec = media.AV1
	packed := backend("packed", false, fake{})
	packed.Inputs = []media.FourCC{media.YUYV}
	results := encoder.Probe(context.Background(), []encoder.Backend{
		absent("absent"),
		backend("soft", false, fake{}),
		backend("deaf", true, fake{ignores: true}),
		backend("lossy", true, fake{skips: true}),
		backend("slow", false, fake{delay: 40 * time.Millisecond}),
		backend("chip", true, fake{}),
		packed, other,
	}, trial)
	var table strings.Builder
	if err := encoder.Table(&table, results); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", &table)
	want := []struct{ name, reason string }{
		{"chip", ""}, {"soft", ""}, {"slow", "too slow"},
		{"absent", "no /dev/dri/renderD128"},
		{"deaf", "no key frame where one was asked for"},
		{"lossy", "access units of 30 pictures"},
		{"packed", "takes no YU12 pictures"},
	}
	if len(results) != len(want) {
		t.Fatalf("%d results", len(results))
	}
	for i, w := range want {
		r := results[i]
		if r.Encoder != w.name || r.OK != (w.reason == "") || !strings.Contains(r.Reason, w.reason) {
			t.Errorf("rank %d: %+v, want %+v", i, r, w)
		}
	}
	b, err := json.Marshal(results[3])
	if err != nil || !strings.Contains(string(b), `"encoder":"absent","codec":"H264","hardware":true,"ok":false,"reason":`) {
		t.Errorf("JSON %s, %v", b, err)
	}
}

func TestRankKeepsWhatWorks(t *testing.T) {
	ctx := context.Background()
	names := func(list []encoder.Backend) (names []string) {
		for _, b := range list {
			names = append(names, b.Name)
		}
		return names
	}
	b, results, err := encoder.Rank(ctx, []encoder.Backend{
		backend("soft", false, fake{}), absent("absent"), backend("deaf", true, fake{ignores: true}),
		backend("slower", false, fake{delay: 50 * time.Millisecond}), backend("slow", false, fake{delay: 40 * time.Millisecond}),
		backend("chip", true, fake{}),
	}, trial)
	if err != nil || !slices.Equal(names(b), []string{"chip", "soft", "slow", "slower"}) || len(results) != 6 {
		t.Errorf("ranked %v, %v, %+v", names(b), err, results)
	}
	for _, r := range results {
		if r.Encoder == "slow" && (r.Delay < 30 || r.KeyDelay < 30 || r.Delay > 2000) {
			t.Errorf("a picture that takes 40 ms is out after %v ms, a key frame after %v", r.Delay, r.KeyDelay)
		}
	}
	for _, none := range [][]encoder.Backend{nil, {absent("absent")}} {
		if _, _, err = encoder.Rank(ctx, none, trial); !errors.Is(err, encoder.ErrUnavailable) {
			t.Errorf("with nothing: %v", err)
		}
		t.Log(err)
	}
	ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, _, err := encoder.Rank(ctx, []encoder.Backend{backend("stuck", true, fake{hangs: true})}, trial); err == nil {
		t.Error("a stuck encoder was chosen")
	}
}

// An encoder that does not return from a call ends its trial, and not the daemon's start.
func TestProbeOfAnEncoderThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		b := backend("hung", true, fake{})
		open := b.Open
		b.Open = func(ctx context.Context, in media.VideoFormat, p encoder.Params) (encoder.Encoder, error) {
			<-free
			return open(ctx, in, p)
		}
		begun := time.Now()
		r := encoder.Probe(context.Background(), []encoder.Backend{b, backend("soft", false, fake{})}, trial)
		if len(r) != 2 || r[0].Encoder != "soft" || !strings.Contains(r[1].Reason, "does not return") {
			t.Errorf("%+v", r)
		}
		if took := time.Since(begun); took > 25*time.Second {
			t.Errorf("it took %v", took)
		}
		close(free)
	})
}

// The first that passes is enough; the others are left for later, in their order.
func TestFirst(t *testing.T) {
	ctx := context.Background()
	var tried []string
	all := []encoder.Backend{
		backend("soft", false, fake{}), absent("absent"), backend("deaf", true, fake{ignores: true}), backend("chip", true, fake{}),
		backend("other", true, fake{}), backend("slow", false, fake{delay: 40 * time.Millisecond}),
	}
	for i := range all {
		open, name := all[i].Open, all[i].Name
		all[i].Open = func(ctx context.Context, in media.VideoFormat, p encoder.Params) (encoder.Encoder, error) {
			tried = append(tried, name)
			return open(ctx, in, p)
		}
	}
	names := func(list []encoder.Backend) (names []string) {
		for _, b := range list {
			names = append(names, b.Name)
		}
		return names
	}
	ranked, left, results, err := encoder.First(ctx, all, trial)
	if err != nil || !slices.Equal(names(ranked), []string{"chip"}) || !slices.Equal(names(left), []string{"other", "soft", "slow"}) ||
		len(results) != 3 || !slices.Equal(tried, []string{"absent", "deaf", "chip"}) {
		t.Errorf("%v first, %v left, %v tried, %v", names(ranked), names(left), tried, err)
	}
	ranked, left, results, err = encoder.First(ctx, []encoder.Backend{absent("absent"), all[5]}, trial)
	if err != nil || !slices.Equal(names(ranked), []string{"slow"}) || left != nil || len(results) != 2 {
		t.Errorf("%v first, %v left, %v", names(ranked), names(left), err)
	}
	if _, _, _, err = encoder.First(ctx, []encoder.Backend{absent("absent")}, trial); !errors.Is(err, encoder.ErrUnavailable) {
		t.Errorf("with nothing: %v", err)
	}
}

func TestKeyTimer(t *testing.T) {
	k := encoder.KeyTimer{GOP: time.Second, Interval: time.Second / 30}
	for _, c := range []struct {
		ms   int
		want bool
	}{{0, true}, {33, false}, {970, false}, {985, true}, {1985, true}, {100, false}, {1000, false}, {1100, true}} {
		if got := k.Key(time.Duration(c.ms)*time.Millisecond, false); got != c.want {
			t.Errorf("at %d ms: %v", c.ms, got)
		}
	}
	if !k.Key(1200*time.Millisecond, true) || k.Key(2100*time.Millisecond, false) {
		t.Error("a key frame on demand does not start the GOP anew")
	}
}

func TestDrawPatternFillsEveryLayout(t *testing.T) {
	for _, fourcc := range []media.FourCC{media.YU12, media.NV12, media.NV16, media.NV24, media.YUYV, media.UYVY, media.RGB3, media.BGR3, media.P010, media.Y210} {
		for _, size := range [][2]int{{64, 48}, {33, 17}} {
			f := media.NewPool(media.VideoFormat{Width: size[0], Height: size[1], FourCC: fourcc}, 1).Get()
			if err := encoder.DrawPattern(f, 3, 32); err != nil {
				t.Fatal(err)
			}
			_ = f.CPU(func(planes [][]byte) error {
				for i, p := range planes {
					for at, v := range p {
						pad := fourcc == media.RGB3 || fourcc == media.BGR3 || fourcc.Depth() > 8
						if v == 0 && !pad {
							t.Fatalf("%v %v: plane %d byte %d not drawn", fourcc, size, i, at)
						}
					}
				}
				return nil
			})
			f.Release()
		}
	}
	if err := func() error {
		planes, _ := media.VideoFormat{Width: 16, Height: 16, FourCC: media.YU12}.Packed()
		f := media.NewFrame(media.VideoFormat{Width: 16, Height: 16, FourCC: media.MJPG}, planes, nothing{})
		defer f.Release()
		return encoder.DrawPattern(f, 0, 0)
	}(); err == nil {
		t.Error("drew a JPEG")
	}
}

type nothing struct{}

func (nothing) CPU(_ *media.Frame, fn func([][]byte) error) error { return fn(make([][]byte, 3)) }
func (nothing) Release(*media.Frame)                              {}

func TestOutput(t *testing.T) {
	o := encoder.NewOutput(2)
	ctx := context.Background()
	for range 100 {
		done := make(chan int)
		go func() {
			n := 0
			for n < 50 {
				if _, err := o.Read(ctx); err != nil {
					break
				}
				n++
			}
			done <- n
		}()
		for range 50 {
			if err := o.Wait(ctx); err != nil {
				t.Fatal(err)
			}
			o.Put(&media.Packet{})
		}
		if n := <-done; n != 50 {
			t.Fatalf("%d packets of 50", n)
		}
	}
	o.Put(&media.Packet{})
	o.End(nil)
	o.End(errors.New("late"))
	if _, err := o.Read(ctx); err != nil {
		t.Error("the last packet is lost")
	}
	if _, err := o.Read(ctx); err == nil || err.Error() != "EOF" {
		t.Errorf("after the last: %v", err)
	}
	if err := o.Wait(ctx); err != encoder.ErrClosed {
		t.Errorf("Wait after End: %v", err)
	}
}
