package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"gantry/device"
	"gantry/encoder"
	"gantry/internal/clock"
	"gantry/internal/health"
	"gantry/internal/testkit"
	"gantry/media"
	"gantry/uplink"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var (
	errUnplugged = errors.New("unplugged")
	errCrashed   = errors.New("encoder crashed")
	errLine      = errors.New("line cut")
)

func yu12(w, h, rate int) media.VideoFormat {
	return media.VideoFormat{Width: w, Height: h, FourCC: media.YU12, Rate: media.Rational{Num: rate, Den: 1}}
}

// A camera is a Source whose life the test directs. It delivers pictures at its rate.
type camera struct {
	mu     sync.Mutex
	format media.VideoFormat
	open   error // what Open says
	read   error // what Read says; with ErrNoSignal Start then waits until it is nil
	silent bool  // Read hangs
	tells  bool  // Start returns each new reason
	told   error
	opened int
	seq    uint32
	change chan struct{}
}

func newCamera() *camera { return &camera{format: yu12(64, 36, 25), change: make(chan struct{})} }

func (c *camera) set(fn func(*camera)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn(c)
	close(c.change)
	c.change = make(chan struct{})
}

func (c *camera) video() Video {
	return Video{Name: "camera", Key: "camera", Format: yu12(32, 18, 25), Open: func(context.Context) (device.Source, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.open != nil {
			return nil, c.open
		}
		c.opened++
		return &cameraRun{c: c}, nil
	}}
}

type cameraRun struct {
	c    *camera
	pool *media.Pool
	next time.Duration
}

func (r *cameraRun) Start(ctx context.Context) (media.VideoFormat, error) {
	for {
		r.c.mu.Lock()
		format, err, change := r.c.format, r.c.read, r.c.change
		news := r.c.tells && err != r.c.told
		r.c.told = err
		r.c.mu.Unlock()
		if err == nil {
			r.pool, r.next = media.NewPool(format, 4), clock.Now()
			return format, nil
		}
		if news || !errors.Is(err, device.ErrNoSignal) {
			return media.VideoFormat{}, err
		}
		select {
		case <-change:
		case <-ctx.Done():
			return media.VideoFormat{}, ctx.Err()
		}
	}
}

func (r *cameraRun) Read(ctx context.Context) (*media.Frame, error) {
	for {
		r.c.mu.Lock()
		err, silent, change, format := r.c.read, r.c.silent, r.c.change, r.c.format
		r.c.mu.Unlock()
		if err != nil {
			return nil, err
		}
		wait := max(r.next-clock.Now(), 0)
		if silent {
			wait = time.Hour
		}
		select {
		case <-change:
			continue
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
		f := r.pool.Get()
		r.next += format.Rate.Interval()
		r.c.mu.Lock()
		r.c.seq++
		seq := r.c.seq
		r.c.mu.Unlock()
		if f == nil {
			continue
		}
		f.PTS, f.Seq = clock.Now(), seq
		return f, nil
	}
}

func (r *cameraRun) Close() error { return nil }

// A chip makes fake encoders: a packet a picture, a key frame every GOP or when asked.
type chip struct {
	mu      sync.Mutex
	name    string
	bytes   int
	open    error         // what Open says
	fail    error         // what the next Encode says
	hang    bool          // swallow pictures
	slow    time.Duration // each picture takes this long
	restart bool          // Apply says ErrRestart
	slice   bool          // packets begin as H.264 slices do
	opened  []encoder.Params
	formats []media.VideoFormat
	applied []int
	live    int
	asked   int // key frames that Encode was asked for
}

func (c *chip) keys(t *testing.T) int {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

func (c *chip) set(fn func(*chip)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn(c)
}

func (c *chip) backend() encoder.Backend {
	return encoder.Backend{Name: c.name, Codec: media.H264, Inputs: []media.FourCC{media.YU12},
		Open: func(_ context.Context, in media.VideoFormat, p encoder.Params) (encoder.Encoder, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.open != nil {
				return nil, c.open
			}
			c.opened, c.formats = append(c.opened, p), append(c.formats, in)
			c.live++
			return &fakeEncoder{chip: c, in: in, keys: encoder.KeyTimer{GOP: p.GOP, Interval: in.Rate.Interval()}, out: encoder.NewOutput(8), codec: p.Codec}, nil
		}}
}

type fakeEncoder struct {
	chip  *chip
	in    media.VideoFormat
	codec media.Codec
	keys  encoder.KeyTimer
	out   *encoder.Output
	once  sync.Once
}

func (e *fakeEncoder) Track() media.Track {
	return media.Track{Codec: e.codec, ClockRate: 90000, Width: e.in.Width, Height: e.in.Height}
}

func (e *fakeEncoder) Encode(ctx context.Context, f *media.Frame, key bool) error {
	if f.Format != e.in {
		return fmt.Errorf("opened for %v, got %v", e.in, f.Format)
	}
	if err := e.out.Wait(ctx); err != nil {
		return err
	}
	e.chip.mu.Lock()
	slow := e.chip.slow
	e.chip.mu.Unlock()
	time.Sleep(slow)
	e.chip.mu.Lock()
	defer e.chip.mu.Unlock()
	if err := e.chip.fail; err != nil {
		e.chip.fail = nil
		return err
	}
	if e.chip.hang {
		return nil
	}
	if key {
		e.chip.asked++
	}
	k := e.keys.Key(f.PTS, key)
	// The packet says what picture it was made of.
	data := make([]byte, 0, e.chip.bytes)
	if e.chip.slice {
		data = append(data, 0, 0, 0, 1, 0x41)
	}
	data = fmt.Appendf(data, "%dx%d", f.Format.Width, f.Format.Height)
	e.out.Put(&media.Packet{PTS: f.PTS, DTS: f.PTS, Start: true, End: true, Key: k, Data: data})
	return nil
}

func (e *fakeEncoder) Read(ctx context.Context) (*media.Packet, error) { return e.out.Read(ctx) }

func (e *fakeEncoder) Apply(p encoder.Params) error {
	e.chip.mu.Lock()
	defer e.chip.mu.Unlock()
	if e.chip.restart || p.Codec != e.codec {
		return encoder.ErrRestart
	}
	e.chip.applied = append(e.chip.applied, p.Bitrate)
	e.keys.GOP = p.GOP
	return nil
}

func (e *fakeEncoder) Close() error {
	e.once.Do(func() {
		e.out.End(nil)
		e.chip.mu.Lock()
		e.chip.live--
		e.chip.mu.Unlock()
	})
	return nil
}

// A peer is a Sender that keeps what it gets.
type peer struct {
	name string

	mu       sync.Mutex
	err      error // what Run says, at once
	slow     bool  // it takes nothing
	runs     int
	clean    int // runs that ended by their context
	packets  []*media.Packet
	tracks   []media.Track
	feedback func(media.Feedback)
	cut      chan error
}

func newPeer(name string) *peer { return &peer{name: name, cut: make(chan error)} }

func (p *peer) uplink() Uplink {
	return Uplink{Name: p.name, Key: p.name, Open: func(*slog.Logger) (uplink.Sender, error) { return p, nil }}
}

func (p *peer) Run(ctx context.Context, prog uplink.Program) error {
	p.mu.Lock()
	p.runs++
	p.tracks, p.feedback = prog.Tracks, prog.Feedback
	err, slow := p.err, p.slow
	p.mu.Unlock()
	if err != nil {
		return err
	}
	prog.Connected()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case err := <-p.cut:
			cancel(err)
		case <-ctx.Done():
		}
	}()
	defer func() { <-done }()
	for {
		if slow {
			<-ctx.Done()
		}
		pkt, err := prog.Packets.Pull(ctx)
		if cause := context.Cause(ctx); cause != nil {
			if errors.Is(cause, context.Canceled) {
				p.mu.Lock()
				p.clean++
				p.mu.Unlock()
				return nil
			}
			return cause
		}
		if errors.Is(err, io.EOF) {
			return errors.New("queue closed under the sender")
		}
		p.mu.Lock()
		p.packets = append(p.packets, pkt)
		p.mu.Unlock()
	}
}

// got returns the video packets since the last call and forgets them.
func (p *peer) got() (list []*media.Packet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pkt := range p.packets {
		if pkt.Track == videoTrack {
			list = append(list, pkt)
		}
	}
	p.packets = nil
	return list
}

func (p *peer) count() (runs, clean int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.runs, p.clean
}

// A mic is an AudioSource that delivers silence.
type mic struct {
	mu     sync.Mutex
	err    error
	opened int
	live   [8]int   // encoders, by codec
	fail   [8]error // what opening one says
}

func (m *mic) audio() Audio {
	return Audio{Name: "mic", Key: "mic",
		Open: func(context.Context) (device.AudioSource, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.opened++
			return &micRun{m: m}, m.err
		},
		Codings: []AudioCoding{m.coding(media.Opus), m.coding(media.AAC)},
	}
}

func (m *mic) coding(c media.Codec) AudioCoding {
	t := media.Track{Codec: c, ClockRate: 48000, Channels: 2, Bitrate: 100_000}
	return AudioCoding{Track: t, Encode: func(media.AudioFormat) (encoder.AudioEncoder, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if err := m.fail[c]; err != nil {
			return nil, err
		}
		m.live[c]++
		return &micEncoder{m, t}, nil
	}}
}

type micRun struct{ m *mic }

var stereo = media.AudioFormat{Rate: 48000, Channels: 2}

func (r *micRun) Start(context.Context) (media.AudioFormat, error) { return stereo, nil }
func (r *micRun) Close() error                                     { return nil }
func (r *micRun) Read(ctx context.Context) (*media.Audio, error) {
	select {
	case <-time.After(20 * time.Millisecond):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	return &media.Audio{Format: stereo, PTS: clock.Now() - 20*time.Millisecond, Samples: make([]float32, 1920)}, r.m.err
}

type micEncoder struct {
	m     *mic
	track media.Track
}

func (e *micEncoder) Track() media.Track { return e.track }
func (*micEncoder) SetBitrate(int) error { return nil }
func (e *micEncoder) Close() error {
	e.m.mu.Lock()
	defer e.m.mu.Unlock()
	e.m.live[e.track.Codec]--
	return nil
}
func (e *micEncoder) Encode(a *media.Audio) ([]*media.Packet, error) {
	return []*media.Packet{{PTS: a.PTS, Start: true, End: true, Data: []byte(e.track.Codec.String())}}, nil
}

type still struct{ format media.VideoFormat }

func (s still) Frame(pts time.Duration, seq uint32) *media.Frame {
	f := media.NewFrame(s.format, nil, s)
	f.PTS, f.Seq = pts, seq
	return f
}
func (s still) CPU(*media.Frame, func([][]byte) error) error { return nil }
func (s still) Release(*media.Frame)                         {}

// A rig is a session with fakes at all ends.
type rig struct {
	*Session
	t      *testing.T
	camera *camera
	chip   *chip
	spec   Spec
	health health.Set
	slates []string
}

// start runs a session until the test ends, inside a synctest bubble. The end checks that all stopped.
func start(t *testing.T, change func(*rig), peers ...*peer) *rig {
	t.Helper()
	r := &rig{t: t, camera: newCamera(), chip: &chip{name: "chip", bytes: 8}}
	r.spec = Spec{Video: r.camera.video(), Encoder: Encoder{Key: 1, Floor: 200_000,
		Backends: []encoder.Backend{r.chip.backend()}, Params: encoder.Params{Codec: media.H264, Bitrate: 2_000_000, GOP: 2 * time.Second}}}
	for _, p := range peers {
		r.spec.Uplinks = append(r.spec.Uplinks, p.uplink())
	}
	if change != nil {
		change(r)
	}
	var slateMu sync.Mutex
	slate := func(f media.VideoFormat, title, reason string) (Still, error) {
		slateMu.Lock()
		defer slateMu.Unlock()
		r.slates = append(r.slates, fmt.Sprintf("%dx%d %s: %s", f.Width, f.Height, title, reason))
		return still{f}, nil
	}
	r.Session = New(r.spec, slate, &r.health, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("stop: %v", err)
		}
		r.chip.set(func(c *chip) {
			if c.live != 0 {
				t.Errorf("%d encoders left open", c.live)
			}
		})
		if n := media.OutstandingFrames(); n != 0 {
			t.Errorf("%d frames outstanding", n)
		}
	})
	return r
}

// steady fails the test unless the packets are a stream without a break: PTS rises by no more than limit, beginning with a
// key frame if first says so.
func steady(t *testing.T, packets []*media.Packet, limit time.Duration, first bool) {
	t.Helper()
	if len(packets) == 0 {
		t.Error("nothing came")
		return
	}
	if first && !packets[0].Key {
		t.Error("the first packet is no key frame")
	}
	for i := 1; i < len(packets); i++ {
		if d := packets[i].PTS - packets[i-1].PTS; d <= 0 || d > limit {
			t.Errorf("packet %d of %d comes %v after the one before", i, len(packets), d)
		}
	}
}
