package pipeline

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"gantry/device"
	"gantry/encoder"
	"gantry/internal/clock"
	"gantry/internal/health"
	"gantry/media"
)

// When the source's own packets give way to pictures that are coded anew, and come back.
func TestWidth(t *testing.T) {
	const rate, ceiling = 4e6, 2e6
	var w width
	now := time.Hour
	after := func(left float64, limit time.Duration) time.Duration {
		t.Helper()
		was := w.narrow
		for begin := now; now-begin <= limit; now += judgeEvery {
			if w = w.next(left, rate, ceiling, now); w.narrow != was {
				return now - begin
			}
		}
		return 0
	}
	if d := after(5e6, time.Minute); d != 0 {
		t.Errorf("a path that is wide enough is too narrow after %v", d)
	}
	if after(3e6, tooNarrow/2) != 0 || after(5e6, time.Second) != 0 || after(3e6, tooNarrow/2) != 0 {
		t.Error("a moment counts")
	}
	if d := after(1e6, time.Minute); d == 0 || d > tooNarrow {
		t.Errorf("too narrow after %v", d)
	}
	if d := after(2.1e6, time.Minute); d != 0 {
		t.Errorf("a path with hardly room for what is coded anew: back after %v", d)
	}
	for _, want := range []time.Duration{wideEnough, 2 * wideEnough, 4 * wideEnough} { // each time it turns out to be too narrow
		if d := after(2.6e6, 10*time.Minute); d != want {
			t.Errorf("back after %v, want %v", d, want)
		}
		if d := after(1e6, time.Minute); d == 0 {
			t.Error("not too narrow again")
		}
	}
	if d := after(0, time.Hour); d != 0 {
		t.Errorf("back after %v where nothing is known", d)
	}
}

// A thickCamera is a PacketSource of 25 pictures a second and 1 Mbit/s, with a key frame every two seconds.
type thickCamera struct{ n int }

func (c *thickCamera) Start(context.Context) ([]media.Track, error) {
	return []media.Track{{Codec: media.H264, ClockRate: 90000}}, nil
}

func (c *thickCamera) Read(ctx context.Context) (*media.Packet, error) {
	select {
	case <-time.After(40 * time.Millisecond):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	data := make([]byte, 5000)
	copy(data, []byte{0, 0, 0, 1, 0x65})
	now := clock.Now()
	c.n++
	return &media.Packet{PTS: now, DTS: now, Start: true, End: true, Key: c.n%50 == 1, Data: data}, nil
}

func (c *thickCamera) Close() error { return nil }

// A lateDecoder makes a picture of the packet before the last three.
type lateDecoder struct {
	pool *media.Pool
	late []time.Duration
}

func (d *lateDecoder) Decode(p *media.Packet) ([]*media.Frame, error) {
	if d.late = append(d.late, p.PTS); len(d.late) <= 3 {
		return nil, nil
	}
	f := d.pool.Get()
	f.PTS, d.late = d.late[0], d.late[1:]
	return []*media.Frame{f}, nil
}

func (d *lateDecoder) Close() error { return nil }

// A path becomes too narrow for the camera's packets, and wide again: pictures that are coded anew take over and give back, on one
// connection, from key frame to key frame, with times that rise and no hole to speak of.
func TestNarrow(t *testing.T) {
	for pass, want := range map[PassThrough]string{PassAuto: "re-encoded: the path carries 0.4 Mbit/s", PassAlways: "passed through"} {
		synctest.Test(t, func(t *testing.T) {
			coder, peer := &chip{name: "chip", bytes: 8}, newPeer("relay")
			enc := Encoder{Key: 1, Floor: 100_000, Params: encoder.Params{Codec: media.H264, Bitrate: 2_000_000, GOP: 2 * time.Second},
				Backends: []encoder.Backend{coder.backend()}}
			spec := Spec{
				Encoder: enc,
				Video: Video{Name: "camera", Key: 1, Format: yu12(64, 36, 25), Coded: &Coded{
					Open: func(context.Context) (device.PacketSource, error) { return new(thickCamera), nil },
					Decode: func(media.Codec) (Decoder, error) {
						return &lateDecoder{pool: media.NewPool(yu12(64, 36, 25), 16)}, nil
					},
					StandIn:     func(media.Codec) Encoder { return enc },
					PassThrough: pass,
				}},
				Uplinks: []Uplink{peer.uplink()},
			}
			session := New(spec, func(f media.VideoFormat, _, _ string) (Still, error) { return codedStill{media.NewPool(f, 8)}, nil },
				new(health.Set), slog.New(slog.DiscardHandler))
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- session.Run(ctx) }()
			var all []*media.Packet
			for _, step := range []struct {
				carries int
				lasts   time.Duration
				want    string
			}{{0, 10 * time.Second, "passed through"}, {400_000, 10 * time.Second, want}, {420_000, 5 * time.Second, want},
				{2_000_000, 12 * time.Second, "passed through"}} {
				if step.carries != 0 {
					peer.feedback(media.Feedback{Bitrate: step.carries})
				}
				time.Sleep(step.lasts)
				synctest.Wait()
				if got := session.Status().Uplinks[0].Pictures; got != step.want {
					t.Errorf("%d: at %d bit/s for %v: %q", pass, step.carries, step.lasts, got)
				}
				all = append(all, peer.got()...)
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			steady(t, all, 500*time.Millisecond, true)
			own, turns := true, 0
			for i, p := range all {
				if is := len(p.Data) == 5000; is != own {
					own = is
					if turns++; !p.Key {
						t.Errorf("packet %d: the pictures change without a key frame", i)
					}
				}
			}
			if wantTurns := map[PassThrough]int{PassAuto: 2}[pass]; turns != wantTurns || !own || peer.runs != 1 {
				t.Errorf("%d: %d turns, %d connections, own %v", pass, turns, peer.runs, own)
			}
		})
	}
}
