package relay_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gantry/internal/testkit"
	"gantry/media"
	"gantry/media/packing"
	"gantry/relay"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var (
	h264 = media.Track{Codec: media.H264, Packing: media.RTP, ClockRate: 90000}
	h265 = media.Track{Codec: media.H265, Packing: media.RTP, ClockRate: 90000}
	opus = media.Track{Codec: media.Opus, Packing: media.RTP, ClockRate: 48000, Channels: 2}
)

func picture(ms int, key bool) *media.Packet {
	return &media.Packet{PTS: time.Duration(ms) * time.Millisecond, Start: true, End: true, Key: key, Data: []byte{byte(ms)}}
}

func newHub(t *testing.T) *relay.Hub {
	t.Helper()
	h := relay.NewHub(relay.Default(), slog.New(slog.DiscardHandler))
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func publish(t *testing.T, h *relay.Hub, p relay.Publisher) *relay.Publication {
	t.Helper()
	pub, err := h.Publish("a", p)
	if err != nil {
		t.Fatal(err)
	}
	return pub
}

func subscribe(t *testing.T, h *relay.Hub) *relay.Subscription {
	t.Helper()
	sub, err := h.Subscribe("a", relay.Want{Packing: media.RTP})
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

// pull returns what waits now.
func pull(t *testing.T, sub *relay.Subscription) []*media.Packet {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	got, err := sub.Pull(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestSubscriberStartsAtCachedKeyFrame(t *testing.T) {
	h := newHub(t)
	pub := publish(t, h, relay.Publisher{Tracks: []media.Track{h264}})
	if _, err := h.Subscribe("a", relay.Want{Packing: media.RTP}); !errors.Is(err, relay.ErrNoStream) {
		t.Fatalf("before the first key frame: %v", err)
	}
	pub.Write(picture(0, false)) // nothing can be decoded yet
	pub.Write(picture(33, true))
	pub.Write(picture(66, false))
	sub := subscribe(t, h)
	pub.Write(picture(100, false))
	if got := pull(t, sub); len(got) != 2 || !got[0].Key || got[1].PTS != 66*time.Millisecond {
		t.Fatalf("cached: %v", got)
	}
	if got := pull(t, sub); len(got) != 1 || got[0].PTS != 100*time.Millisecond {
		t.Fatalf("live: %v", got)
	}
}

func TestEachLayerIsCachedFromItsOwnKeyFrame(t *testing.T) {
	h := newHub(t)
	low := h264
	low.RID = "l"
	pub := publish(t, h, relay.Publisher{Tracks: []media.Track{h264, low, opus}})
	on := func(track uint8, p *media.Packet) { p.Track = track; pub.Write(p) }
	on(0, picture(0, true))
	on(2, picture(1, false))
	on(1, picture(2, false)) // no key frame of this layer yet
	on(1, picture(3, true))
	on(0, picture(33, false))
	on(2, picture(34, false))
	on(0, picture(66, true))
	on(1, picture(67, false))
	got := pull(t, subscribe(t, h))
	var order []int
	for _, p := range got {
		order = append(order, int(p.Track)*1000+int(p.PTS.Milliseconds()))
	}
	if want := []int{1003, 2034, 66, 1067}; !slices.Equal(order, want) {
		t.Fatalf("cached %v, want %v", order, want)
	}
}

func TestPublisherReturnsAndTimelineContinues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := relay.NewHub(relay.Default(), slog.New(slog.DiscardHandler))
		defer h.Close()
		first := publish(t, h, relay.Publisher{Tracks: []media.Track{h264, opus}})
		first.Write(picture(5000, true))
		sub := subscribe(t, h)
		pull(t, sub)
		first.Close()
		if sub.Live() {
			t.Fatal("live without a publisher")
		}
		time.Sleep(2 * time.Second)

		// Another clock, another order of tracks.
		second := publish(t, h, relay.Publisher{Tracks: []media.Track{opus, h264}})
		second.Write(&media.Packet{Track: 0, PTS: 10 * time.Millisecond, Start: true, End: true}) // before the key frame
		p := picture(20, true)
		p.Track = 1
		second.Write(p)
		got := pull(t, sub)
		if len(got) != 1 || got[0].Track != 0 || !got[0].Key || got[0].PTS != 7*time.Second {
			t.Fatalf("after the return: %+v", got[0])
		}
	})
}

func TestNewestOfEqualsReplaces(t *testing.T) {
	h := newHub(t)
	old := publish(t, h, relay.Publisher{Tracks: []media.Track{h264}})
	old.Write(picture(0, true))
	var asked atomic.Int32
	newer := publish(t, h, relay.Publisher{Tracks: []media.Track{h264}, Feedback: func(f media.Feedback) {
		if f.KeyFrame {
			asked.Add(1)
		}
	}})
	newer.Write(picture(0, false))
	if asked.Load() != 1 {
		t.Fatal("the waiting publisher was not asked for a key frame")
	}
	if old.Err() != nil {
		t.Fatal("replaced before the newer one could be decoded")
	}
	newer.Write(picture(33, true))
	<-old.Done()
	if !errors.Is(old.Err(), relay.ErrReplaced) {
		t.Fatal(old.Err())
	}
}

func TestBackupTakesOverOnSilenceAndGivesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := relay.NewHub(relay.Default(), slog.New(slog.DiscardHandler))
		defer h.Close()
		main := publish(t, h, relay.Publisher{Tracks: []media.Track{h264}, Priority: 1})
		backup := publish(t, h, relay.Publisher{Tracks: []media.Track{h264}})
		main.Write(picture(0, true))
		backup.Write(picture(0, true))
		active := func() bool { return h.Streams()[0].Publishers[0].Active }
		if !active() {
			t.Fatal("the lower priority was preferred")
		}
		time.Sleep(1100 * time.Millisecond) // main is silent
		backup.Write(picture(1100, true))
		if active() {
			t.Fatal("the backup did not take over")
		}
		main.Write(picture(1200, true))
		if !active() {
			t.Fatal("the main publisher did not get the stream back")
		}
		if backup.Err() != nil {
			t.Fatal("the backup was thrown out:", backup.Err())
		}
	})
}

func TestOtherCodecsEndSubscriptions(t *testing.T) {
	h := newHub(t)
	a := publish(t, h, relay.Publisher{Tracks: []media.Track{h264}})
	a.Write(picture(0, true))
	sub := subscribe(t, h)
	pull(t, sub)
	b := publish(t, h, relay.Publisher{Tracks: []media.Track{h265}})
	b.Write(picture(0, true))
	if _, err := sub.Pull(t.Context(), nil); !errors.Is(err, relay.ErrTracksChanged) {
		t.Fatal(err)
	}
	if got := subscribe(t, h).Tracks(); got[0].Codec != media.H265 {
		t.Fatal(got)
	}
}

func TestStreamEndsAfterHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := relay.NewHub(relay.Default(), slog.New(slog.DiscardHandler))
		defer h.Close()
		pub := publish(t, h, relay.Publisher{Tracks: []media.Track{h264}})
		pub.Write(picture(0, true))
		sub := subscribe(t, h)
		pull(t, sub)
		pub.Close()
		if _, err := sub.Pull(t.Context(), nil); !errors.Is(err, relay.ErrEnded) {
			t.Fatal(err)
		}
		if len(h.Streams()) != 0 {
			t.Fatal("the stream is still listed")
		}
	})
}

func TestKeyFrameRequestsAreCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := relay.NewHub(relay.Default(), slog.New(slog.DiscardHandler))
		defer h.Close()
		asked := 0
		pub := publish(t, h, relay.Publisher{Tracks: []media.Track{h264}, Feedback: func(media.Feedback) { asked++ }})
		pub.Write(picture(0, true))
		subs := []*relay.Subscription{subscribe(t, h), subscribe(t, h)}
		for range 100 {
			for _, s := range subs {
				s.Feedback(media.Feedback{KeyFrame: true})
			}
			time.Sleep(10 * time.Millisecond)
		}
		if asked != 2 {
			t.Fatalf("asked %d times in a second", asked)
		}
	})
}

func TestWall(t *testing.T) {
	h := newHub(t)
	pub := publish(t, h, relay.Publisher{Tracks: []media.Track{h264}})
	pub.Write(picture(0, true))
	sub := subscribe(t, h)
	if _, ok := sub.Wall(0, 0); ok {
		t.Fatal("a wall time that nobody told")
	}
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	pub.Sync(0, time.Second, at)
	if got, ok := sub.Wall(0, 3*time.Second); !ok || !got.Equal(at.Add(2*time.Second)) {
		t.Fatal(got, ok)
	}
}

// What the last publisher's media was captured at is known as long as somebody may have to read of it.
func TestWallOfThePublisherBefore(t *testing.T) {
	h := newHub(t)
	pub := publish(t, h, relay.Publisher{Tracks: []media.Track{h264}})
	first := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	pub.Sync(0, 0, first)
	pub.Write(picture(0, true))
	pub.Write(picture(40, false))
	sub := subscribe(t, h)
	_ = pub.Close()
	if got, ok := sub.Wall(0, 40*time.Millisecond); !ok || !got.Equal(first.Add(40*time.Millisecond)) {
		t.Fatal("after its end:", got, ok)
	}
	pub = publish(t, h, relay.Publisher{Tracks: []media.Track{h264}})
	second := first.Add(time.Hour)
	pub.Sync(0, 0, second)
	pub.Write(picture(0, true))
	packets := append(pull(t, sub), pull(t, sub)...) // the cached ones, then the new
	if len(packets) != 3 {
		t.Fatal(len(packets), "packets")
	}
	for i, want := range []time.Time{first, first.Add(40 * time.Millisecond), second} {
		if got, ok := sub.Wall(0, packets[i].PTS); !ok || !got.Equal(want) {
			t.Errorf("packet %d: %v %v, want %v", i, got, ok, want)
		}
	}
}

func TestPackingIsConvertedOnceForAll(t *testing.T) {
	h := newHub(t)
	pub := publish(t, h, relay.Publisher{Tracks: []media.Track{{Codec: media.H264, ClockRate: 90000}}}) // access units
	unit := append([]byte{0, 0, 0, 1, 0x65}, bytes.Repeat([]byte{7}, 3000)...)
	pub.Write(&media.Packet{Start: true, End: true, Key: true, Data: unit})
	a, b := subscribe(t, h), subscribe(t, h)
	got, other := pull(t, a), pull(t, b)
	if len(got) != 3 || !got[0].Start || got[0].End || !got[2].End || got[0] != other[0] {
		t.Fatalf("%d payloads, shared %v", len(got), got[0] == other[0])
	}
	back, err := h.Subscribe("a", relay.Want{})
	if err != nil {
		t.Fatal(err)
	}
	if u := pull(t, back); len(u) != 1 || !bytes.Equal(u[0].Data, unit) {
		t.Fatal("the access unit came back changed")
	}

	// A publisher of the other packing goes on in both.
	second := publish(t, h, relay.Publisher{Tracks: []media.Track{h264}})
	for _, p := range got {
		second.Write(p)
	}
	if p := pull(t, a); len(p) != 3 || p[0] != other[0] && !bytes.Equal(p[0].Data, other[0].Data) {
		t.Fatal(p)
	}
	if u := pull(t, back); len(u) != 1 || !bytes.Equal(u[0].Data, unit) || !u[0].Key {
		t.Fatal(u)
	}
}

// shout is a transcoder that changes each byte and counts those that are open.
type shout struct{ open *int }

func (shout) Convert(dst []*media.Packet, p *media.Packet) []*media.Packet {
	out := *p
	out.Data = bytes.ToUpper(p.Data)
	return append(dst, &out)
}
func (s shout) Close() error { *s.open--; return nil }

func TestSoundIsTranscodedWhileSomebodyWantsIt(t *testing.T) {
	h := newHub(t)
	open := 0
	h.SetTranscoder(func(from media.Track, to media.Codec) (media.Track, packing.Converter, error) {
		if from.Codec != media.AAC || to != media.Opus {
			t.Errorf("asked for %v to %v", from.Codec, to)
		}
		open++
		return media.Track{Codec: to, ClockRate: 48000, Channels: 2}, shout{&open}, nil
	})
	pub := publish(t, h, relay.Publisher{Tracks: []media.Track{{Codec: media.AAC, ClockRate: 44100, Channels: 2}}})
	pub.Write(&media.Packet{Start: true, End: true, Data: []byte("a")})
	plain := relay.Want{}
	browser := relay.Want{Packing: media.RTP, Audio: media.Opus}
	a, err := h.Subscribe("a", plain)
	if err != nil || open != 0 {
		t.Fatal(err, open)
	}
	b, err := h.Subscribe("a", browser)
	if err != nil || open != 1 {
		t.Fatal(err, open)
	}
	c, err := h.Subscribe("a", browser)
	if err != nil || open != 1 {
		t.Fatal(err, open)
	}
	if tr := b.Tracks()[0]; tr.Codec != media.Opus || tr.Packing != media.RTP || tr.ClockRate != 48000 {
		t.Fatal(tr)
	}
	pub.Write(&media.Packet{PTS: time.Second, Start: true, End: true, Data: []byte("b")})
	for sub, want := range map[*relay.Subscription]string{a: "b", b: "B", c: "B"} {
		if got := pull(t, sub); len(got) != 1 || string(got[0].Data) != want {
			t.Errorf("got %q, want %q", got[0].Data, want)
		}
	}
	b.Close()
	if open != 1 {
		t.Fatal("closed while somebody listens")
	}
	c.Close()
	if open != 0 {
		t.Fatal("not closed with the last listener")
	}
}

func TestSoundWithoutTranscoderIsLeftOut(t *testing.T) {
	h := newHub(t)
	pub := publish(t, h, relay.Publisher{Tracks: []media.Track{h264, {Codec: media.AAC, ClockRate: 44100}}})
	pub.Write(picture(0, true))
	sub, err := h.Subscribe("a", relay.Want{Packing: media.RTP, Audio: media.Opus})
	if err != nil {
		t.Fatal(err)
	}
	pub.Write(&media.Packet{Track: 1, Start: true, End: true, Data: []byte("a")})
	pub.Write(picture(33, false))
	for _, p := range append(pull(t, sub), pull(t, sub)...) {
		if p.Track != 0 {
			t.Fatal("sound in another codec was delivered")
		}
	}
	if tr := sub.Tracks()[1]; tr.Codec != media.AAC {
		t.Fatal(tr)
	}
	// The fault is there as long as somebody misses the sound.
	faults := func() []relay.Fault { return h.Streams()[0].Publishers[0].Faults }
	if f := faults(); len(f) != 1 || f[0].Code != "no-transcoder" || !strings.Contains(f[0].Reason, "published as AAC") {
		t.Errorf("faults %v", f)
	}
	sub.Close()
	if f := faults(); len(f) != 0 {
		t.Errorf("faults %v with no viewer", f)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{"demo": true, "a/b_c-1.2": true, "": false, "/a": false, "a/": false, "a//b": false,
		"../a": false, "a/./b": false, "a b": false, "é": false, string(make([]byte, 129)): false} {
		if relay.ValidName(name) != want {
			t.Errorf("ValidName(%q) = %v", name, !want)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	h := relay.NewHub(relay.Default(), slog.New(slog.DiscardHandler))
	defer h.Close()
	pub, _ := h.Publish("a", relay.Publisher{Tracks: []media.Track{h264}})
	pub.Write(picture(0, true))
	sub, _ := h.Subscribe("a", relay.Want{Packing: media.RTP})
	var buf []*media.Packet
	p := picture(1, false)
	for b.Loop() {
		pub.Write(p)
		buf, _ = sub.Pull(b.Context(), buf[:0])
	}
}
