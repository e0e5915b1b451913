package media_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"gantry/media"
)

var tracks = []media.Track{{Codec: media.H264, ClockRate: 90000}, {Codec: media.Opus, ClockRate: 48000, Channels: 2}}

func video(ms int, key bool) *media.Packet {
	return &media.Packet{PTS: time.Duration(ms) * time.Millisecond, Start: true, End: true, Key: key}
}

func audio(ms int) *media.Packet {
	return &media.Packet{Track: 1, PTS: time.Duration(ms) * time.Millisecond, Start: true, End: true}
}

func drain(t *testing.T, q *media.Queue) (out []*media.Packet) {
	t.Helper()
	q.Close(io.EOF)
	for {
		p, err := q.Pull(context.Background())
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
}

func TestQueueDropsToNewestKeyFrame(t *testing.T) {
	q := media.NewQueue(100*time.Millisecond, tracks)
	for ms := 0; ms <= 120; ms += 20 {
		dropped, need := q.Push(video(ms, ms == 0 || ms == 60))
		if want := map[int]int{120: 3}[ms]; dropped != want || need != 0 {
			t.Fatalf("push at %d ms: dropped %d, need key %b", ms, dropped, need)
		}
	}
	got := drain(t, q)
	if len(got) != 4 || got[0].PTS != 60*time.Millisecond || !got[0].Lost || got[1].Lost {
		t.Fatalf("kept %d packets, first %+v", len(got), got[0])
	}
}

func TestQueueWaitsForKeyFrame(t *testing.T) {
	q := media.NewQueue(100*time.Millisecond, tracks)
	q.Push(audio(0))
	for ms := 0; ms <= 120; ms += 20 {
		q.Push(video(ms, ms == 0))
	}
	if dropped, need := q.Push(video(140, false)); dropped != 1 || need != 1 {
		t.Fatalf("dropped %d, need key %b: want the packet dropped and a key frame wanted", dropped, need)
	}
	if dropped, need := q.Push(video(160, true)); dropped != 0 || need != 0 {
		t.Fatalf("dropped %d, need key %b after the key frame", dropped, need)
	}
	got := drain(t, q)
	if len(got) != 2 || got[0].Track != 1 || got[1].PTS != 160*time.Millisecond || !got[1].Lost {
		t.Fatalf("kept %+v", got)
	}
}

// Layers of one picture lose their packets each for itself: one that holds a key frame goes on at it, another waits for its own.
func TestQueueLayersApart(t *testing.T) {
	q := media.NewQueue(100*time.Millisecond, []media.Track{{Codec: media.H264, RID: "h"}, {Codec: media.H264, RID: "l"}})
	layer := func(track uint8, ms int, key bool) *media.Packet {
		p := video(ms, key)
		p.Track = track
		return p
	}
	for ms := 0; ms <= 120; ms += 20 {
		q.Push(layer(0, ms, ms == 0 || ms == 60))
		if _, need := q.Push(layer(1, ms, ms == 0)); (need == 0b10) != (ms == 120) || need&1 != 0 {
			t.Fatalf("push at %d ms: need key %b", ms, need)
		}
	}
	if dropped, need := q.Push(layer(0, 140, false)); dropped != 0 || need != 0b10 {
		t.Fatalf("dropped %d, need key %b: want the other layer untouched", dropped, need)
	}
	if dropped, need := q.Push(layer(1, 140, false)); dropped != 1 || need != 0b10 {
		t.Fatalf("dropped %d, need key %b: want the layer to wait for its key frame", dropped, need)
	}
	if dropped, need := q.Push(layer(1, 160, true)); dropped != 0 || need != 0 {
		t.Fatalf("dropped %d, need key %b after the key frame", dropped, need)
	}
	var high, low []time.Duration
	for _, p := range drain(t, q) {
		if p.Track == 0 {
			high = append(high, p.PTS/time.Millisecond)
		} else {
			low = append(low, p.PTS/time.Millisecond)
		}
		if first := p.PTS == 60*time.Millisecond || p.Track == 1; p.Lost != first {
			t.Errorf("%+v", p)
		}
	}
	if !slices.Equal(high, []time.Duration{60, 80, 100, 120, 140}) || !slices.Equal(low, []time.Duration{160}) {
		t.Errorf("kept %v and %v", high, low)
	}
}

func TestQueuePullEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := media.NewQueue(time.Second, tracks)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := q.Pull(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	})
}

func TestFrameOwnership(t *testing.T) {
	pool := media.NewPool(media.VideoFormat{Width: 5, Height: 3, FourCC: media.YU12}, 1)
	f := pool.Get()
	if pool.Get() != nil {
		t.Fatal("more frames than the pool holds")
	}
	if err := f.CPU(func(p [][]byte) error {
		if len(p) != 3 || len(p[0]) != 15 || len(p[1]) != 6 || len(p[2]) != 6 {
			t.Errorf("plane sizes %d %d %d", len(p[0]), len(p[1]), len(p[2]))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	f.Retain().Release()
	f.Release()
	if n := media.OutstandingFrames(); n != 0 {
		t.Fatalf("%d frames outstanding", n)
	}
	defer func() {
		if recover() == nil {
			t.Fatal("a second Release did not panic")
		}
	}()
	f.Release()
}

func TestMailboxMerges(t *testing.T) {
	m := media.NewMailbox()
	m.Put(media.Feedback{Bitrate: 1})
	m.Put(media.Feedback{KeyFrame: true})
	m.Put(media.Feedback{Bitrate: 2})
	<-m.Ready()
	if f := m.Take(); f != (media.Feedback{KeyFrame: true, Bitrate: 2}) {
		t.Fatalf("got %+v", f)
	}
}

func BenchmarkQueue(b *testing.B) {
	q := media.NewQueue(time.Second, tracks)
	p := video(0, true)
	for b.Loop() {
		q.Push(p)
		if _, err := q.Pull(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
