package relay_test

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"gantry/media"
	"gantry/relay"
)

// While nobody publishes, or a publisher hangs, subscribers see the slate once a second, in the stream's timeline; then the
// publisher again, from a key frame on.
func TestSlate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := relay.NewHub(relay.Default(), slog.New(slog.DiscardHandler))
		defer h.Close()
		slate := [][]byte{{0, 0, 0, 1, 0x65, 1, 1, 1}, {0, 0, 0, 1, 0x65, 2, 2, 2}}
		h.SetSlate(func(t media.Track) [][]byte {
			if t.Codec == media.H264 {
				return slate
			}
			return nil
		})
		tracks := []media.Track{opus, h264}
		video := func(ms int, key bool) *media.Packet {
			p := picture(ms, key)
			p.Track = 1
			return p
		}
		var asked int
		pub := publish(t, h, relay.Publisher{Tracks: tracks, Feedback: func(media.Feedback) { asked++ }})
		pub.Write(video(5000, true))
		sub := subscribe(t, h)
		pull(t, sub)
		published, err := h.Subscribe("a", relay.Want{Packing: media.RTP, NoSlate: true})
		if err != nil {
			t.Fatal(err)
		}
		defer published.Close()
		pull(t, published)

		// It hangs.
		time.Sleep(600 * time.Millisecond)
		var got []*media.Packet
		for range 3 {
			time.Sleep(time.Second)
			got = append(got, pull(t, sub)...)
		}
		if len(got) != 3 || sub.Live() {
			t.Fatalf("%d packets, live: %v", len(got), sub.Live())
		}
		for i, p := range got {
			if want := 6500*time.Millisecond + time.Duration(i)*time.Second; p.Track != 1 || !p.Start || !p.End || !p.Key || p.PTS != want || p.Data[1] != byte(1+i%2) {
				t.Errorf("slate %d: %+v, want %v", i, p, want)
			}
		}
		// Who comes now sees the slate at once; who wants no slate sees nothing.
		if got := pull(t, subscribe(t, h)); len(got) != 1 || got[0].Data[1] != 1 || !got[0].Key {
			t.Errorf("who joins sees %+v", got)
		}
		if _, err := h.Subscribe("a", relay.Want{Packing: media.RTP, NoSlate: true}); !errors.Is(err, relay.ErrNoStream) {
			t.Errorf("%v", err)
		}
		if _, err := h.Subscribe("unknown", relay.Want{}); !errors.Is(err, relay.ErrNoStream) {
			t.Errorf("%v", err)
		}
		// Its pictures refer to what the slate has replaced: not before a key frame.
		pub.Write(video(8700, false))
		if asked == 0 {
			t.Error("no key frame was asked for")
		}
		pub.Write(video(8800, true))
		if got := pull(t, sub); len(got) != 1 || got[0].PTS != 8600*time.Millisecond || !sub.Live() {
			t.Fatalf("%d packets, the first %+v", len(got), got[0])
		}
		if got := pull(t, published); len(got) != 1 || len(got[0].Data) != 1 {
			t.Errorf("what was published is %+v", got)
		}
		// It leaves, and another comes before the slate.
		pub.Close()
		time.Sleep(time.Second)
		pub = publish(t, h, relay.Publisher{Tracks: tracks})
		pub.Write(video(0, true))
		for range 5 {
			for _, p := range pull(t, sub) {
				if len(p.Data) != 1 {
					t.Errorf("a slate beside a publisher: %+v", p)
				}
			}
			time.Sleep(time.Second)
			pub.Write(video(0, false))
		}
		pull(t, sub)
		// It leaves for good: the slate ends with the stream.
		pub.Close()
		n := 0
		for {
			ps, err := sub.Pull(t.Context(), nil)
			n += len(ps)
			if err != nil {
				break
			}
		}
		if n < 28 || n > 29 {
			t.Errorf("%d slates in %v", n, relay.Default().Hold)
		}
	})
}

// A codec without a slate keeps its last picture: of a stream in it alone nothing is taken away, and of one that has another codec
// besides nobody joins who might see nothing.
func TestNoSlateInThatCodec(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := relay.NewHub(relay.Default(), slog.New(slog.DiscardHandler))
		defer h.Close()
		h.SetSlate(func(t media.Track) [][]byte {
			if t.Codec == media.H264 {
				return [][]byte{{0, 0, 0, 1, 0x65, 1, 1, 1}}
			}
			return nil
		})
		av1 := media.Track{Codec: media.AV1, Packing: media.RTP, ClockRate: 90000}
		write := func(pub *relay.Publication, track uint8, ms int, key bool) {
			p := picture(ms, key)
			p.Track = track
			pub.Write(p)
		}

		alone := publish(t, h, relay.Publisher{Tracks: []media.Track{av1}})
		write(alone, 0, 0, true)
		sub := subscribe(t, h)
		pull(t, sub)
		time.Sleep(10 * time.Second) // it hangs, and goes on where it was
		if !sub.Live() || len(pull(t, subscribe(t, h))) != 1 {
			t.Error("the last picture was taken away")
		}
		write(alone, 0, 10000, false)
		if got := pull(t, sub); len(got) != 1 || got[0].Key {
			t.Errorf("%d packets after the pause", len(got))
		}
		alone.Close()
		time.Sleep(10 * time.Second)
		if _, err := h.Subscribe("a", relay.Want{Packing: media.RTP}); !errors.Is(err, relay.ErrNoStream) {
			t.Errorf("who joins: %v", err)
		}

		both := publish(t, h, relay.Publisher{Tracks: []media.Track{av1, h264}})
		write(both, 0, 0, true)
		write(both, 1, 0, true)
		sub = subscribe(t, h)
		pull(t, sub)
		both.Close()
		time.Sleep(2 * time.Second)
		if got := pull(t, sub); len(got) == 0 || got[0].Track != 1 {
			t.Errorf("%d packets of the slate", len(got))
		}
		if _, err := h.Subscribe("a", relay.Want{Packing: media.RTP}); !errors.Is(err, relay.ErrNoStream) {
			t.Errorf("who joins: %v", err)
		}
	})
}
