package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"gantry/device"
	"gantry/encoder"
	"gantry/internal/clock"
	"gantry/internal/health"
	"gantry/internal/testkit"
	"gantry/media"
)

// Which pictures a destination gets of a source that comes coded, and the reason in words.
func TestRoute(t *testing.T) {
	known := ownTrack{coded: true, track: media.Track{Codec: media.H264}}
	reordered, off, unknown, h265 := known, known, known, known
	reordered.reordered, off.pass, unknown.track, h265.track.Codec = true, PassNever, media.Track{}, media.H265
	webrtc := Uplink{Name: "relay", Carries: []media.Codec{media.H264, media.Opus}, InOrder: true}
	file, small, layers := Uplink{Name: "disk"}, webrtc, webrtc
	small.Rendition, layers.Layers = "small", []string{"small"}
	for _, c := range []struct {
		source ownTrack
		uplink Uplink
		first  string
		why    string
	}{
		{ownTrack{}, webrtc, "", ""},
		{known, webrtc, sourceRID, ""},
		{known, file, sourceRID, ""},
		{reordered, webrtc, "", "B-frames"},
		{reordered, file, sourceRID, ""},
		{off, file, "", "passing through is switched off"},
		{unknown, file, "", "nothing has come from the source yet"},
		{h265, webrtc, "", "it takes no H265"},
		{h265, file, sourceRID, ""},
		{known, small, "small", "the rendition small"},
		{known, layers, "", "simulcast"},
	} {
		if r := c.source.route(c.uplink); r.renditions[0] != c.first || r.why != c.why {
			t.Errorf("%+v of %+v: %q, %q; want %q, %q", c.uplink, c.source, r.renditions[0], r.why, c.first, c.why)
		}
	}
}

// After the slate the source's packets come back at a key frame, and later than the slate whatever their own times say.
func TestAdmit(t *testing.T) {
	p := &passing{tracks: newTracks()}
	r := &codedRun{tracks: []media.Track{{Codec: media.H264}}}
	if got := p.admit(r, &media.Packet{PTS: 100, DTS: 100}, 0); got != nil {
		t.Error("it begins without a key frame")
	}
	first := p.admit(r, &media.Packet{PTS: 140, DTS: 120, Key: true}, 500) // the slate was shown until 500
	if first == nil || first.DTS <= 500 || first.PTS-first.DTS != 20 {
		t.Fatalf("%+v", first)
	}
	second := p.admit(r, &media.Packet{PTS: 130, DTS: 130}, first.PTS)
	if second == nil || second.DTS-first.DTS != 10 {
		t.Errorf("%+v after %+v", second, first)
	}
	p.dark() // held up by the network, not begun anew
	if got := p.admit(r, &media.Packet{PTS: 160, DTS: 160, Key: true}, first.DTS+1000); got != nil {
		t.Error("what was held up is shown after the slate that is newer")
	}
	if got := p.admit(r, &media.Packet{PTS: 5000, DTS: 5000, Key: true}, first.DTS+1000); got == nil || got.DTS <= first.DTS+1000 {
		t.Errorf("%+v", got)
	}
}

// A codedCamera is a PacketSource that the test can break.
type codedCamera struct{ broken atomic.Bool }

func (c *codedCamera) Start(context.Context) ([]media.Track, error) {
	if c.broken.Load() {
		return nil, fmt.Errorf("unplugged: %w", device.ErrGone)
	}
	return []media.Track{{Codec: media.H264, ClockRate: 90000}}, nil
}

func (c *codedCamera) Read(ctx context.Context) (*media.Packet, error) {
	select {
	case <-time.After(10 * time.Millisecond):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c.broken.Load() {
		return nil, fmt.Errorf("unplugged: %w", device.ErrGone)
	}
	now := clock.Now()
	return &media.Packet{PTS: now, DTS: now, Start: true, End: true, Key: true, Data: []byte{0, 0, 0, 1, 0x65, 'c'}}, nil
}

func (c *codedCamera) Close() error { return nil }

// The camera breaks and comes back: the destination has one connection, rising times, the camera's packets as they are, the slate in
// between.
func TestCodedSlate(t *testing.T) {
	camera, slates, peer := new(codedCamera), &chip{name: "stand-in"}, newPeer("relay")
	spec := Spec{
		Video: Video{Name: "camera", Key: 1, Format: yu12(64, 36, 25), Coded: &Coded{
			Open:   func(context.Context) (device.PacketSource, error) { return camera, nil },
			Decode: func(media.Codec) (Decoder, error) { return nil, errors.New("nobody needs one") },
			StandIn: func(c media.Codec) Encoder {
				return Encoder{Key: 1, Params: encoder.Params{Codec: c, Bitrate: 1_000_000, GOP: time.Second}, Backends: []encoder.Backend{slates.backend()}}
			},
		}},
		Uplinks: []Uplink{peer.uplink()},
	}
	session := New(spec, func(f media.VideoFormat, _, _ string) (Still, error) { return codedStill{media.NewPool(f, 8)}, nil }, new(health.Set), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- session.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	count := func() (own, slate int) {
		peer.mu.Lock()
		defer peer.mu.Unlock()
		for i, p := range peer.packets {
			if i > 0 && p.DTS <= peer.packets[i-1].DTS {
				t.Fatalf("packet %d: DTS %v after %v", i, p.DTS, peer.packets[i-1].DTS)
			}
			if string(p.Data[len(p.Data)-1:]) == "c" {
				own++
			} else {
				slate++
			}
		}
		return own, slate
	}
	testkit.Eventually(t, 10*time.Second, "the camera's packets", func() bool { own, _ := count(); return own > 20 })
	camera.broken.Store(true)
	testkit.Eventually(t, 10*time.Second, "the slate", func() bool { _, slate := count(); return slate > 10 })
	before, _ := count()
	camera.broken.Store(false)
	testkit.Eventually(t, 10*time.Second, "the camera again", func() bool { own, _ := count(); return own > before+20 })
	peer.mu.Lock()
	defer peer.mu.Unlock()
	if st := session.Status(); peer.runs != 1 || peer.tracks[0].RID != "" || st.Uplinks[0].Pictures != "passed through" {
		t.Errorf("%d connections, %+v, %+v", peer.runs, peer.tracks, st.Uplinks)
	}
}

type codedStill struct{ pool *media.Pool }

func (s codedStill) Frame(pts time.Duration, seq uint32) *media.Frame {
	f := s.pool.Get()
	f.PTS, f.Seq = pts, seq
	return f
}
