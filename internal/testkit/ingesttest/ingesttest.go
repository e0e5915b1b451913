// Package ingesttest is what the tests of the relay's ingest servers share: FFmpeg as a publisher, and what a viewer must see of it. It
// knows no protocol.
package ingesttest

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"gantry/internal/testkit"
	"gantry/media"
	"gantry/relay"
)

// H264 is how a publisher encodes for WebRTC, with a key frame every 15 pictures.
var H264 = []string{"-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "15"}

// FFmpeg starts ffmpeg, which encodes 20 s (-t) of picture, 320x180 at 30, and tone in real time as the arguments say. It is killed with the
// test; what it said is shown when the test failed.
func FFmpeg(tb testing.TB, args ...string) *exec.Cmd {
	tb.Helper()
	cmd := exec.Command("ffmpeg", append([]string{"-nostdin", "-hide_banner", "-loglevel", "error", "-re", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30",
		"-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", "20"}, args...)...)
	out := &testkit.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if tb.Failed() {
			tb.Log("ffmpeg:", out)
		}
	})
	return cmd
}

// Run runs a server until the test ends, which must return nil then. Ctx ends with it.
func Run(tb testing.TB, server func(ctx context.Context) error) (ctx context.Context) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
	return ctx
}

// Subscribe waits until the stream is live. The Subscription ends with the test.
func Subscribe(tb testing.TB, hub *relay.Hub, name string, want media.Packing) *relay.Subscription {
	tb.Helper()
	var sub *relay.Subscription
	testkit.Eventually(tb, 10*time.Second, name+" is live", func() bool {
		var err error
		sub, err = hub.Subscribe(name, relay.Want{Packing: want})
		return err == nil
	})
	tb.Cleanup(func() { sub.Close() })
	return sub
}

// Steady checks that what FFmpeg sends in H264 with AAC comes to a viewer that takes RTP: tracks, a key frame first, 45 pictures at their
// pace, no fault.
func Steady(tb testing.TB, hub *relay.Hub, sub *relay.Subscription) {
	tb.Helper()
	tracks := sub.Tracks()
	if len(tracks) != 2 || tracks[0].Codec != media.H264 || tracks[0].Width != 320 || tracks[0].Height != 180 || tracks[1].Codec != media.AAC || tracks[1].ClockRate != 48000 {
		tb.Fatalf("tracks %+v", tracks)
	}
	frames, keys := 0, 0
	var last time.Duration
	lost := false
	for frames < 45 {
		packets, err := sub.Pull(tb.Context(), nil)
		if err != nil {
			tb.Fatal(err)
		}
		for _, p := range packets {
			if p.Start && frames == 0 && !p.Key {
				tb.Fatal("does not begin with a key frame")
			}
			if p.Start && p.Key {
				keys++
			}
			lost = lost || p.Lost // the test did not get the processor in time, and the Hub dropped to a key frame
			if p.End {
				frames++
				if d := p.PTS - last; frames > 1 && !lost && (d < 30*time.Millisecond || d > 37*time.Millisecond) {
					tb.Errorf("frame %d comes %v after the one before", frames, d)
				}
				last, lost = p.PTS, false
			}
		}
	}
	if keys < 3 {
		tb.Errorf("%d key frames in 45 frames with a GOP of 15", keys)
	}
	if f := hub.Streams()[0].Publishers[0].Faults; len(f) > 0 {
		tb.Errorf("faults %v", f)
	}
}

// Refused checks that a publisher ends with an error, and that there is no stream.
func Refused(tb testing.TB, hub *relay.Hub, publisher *exec.Cmd) {
	tb.Helper()
	ended := make(chan error, 1)
	go func() { ended <- publisher.Wait() }()
	select {
	case err := <-ended:
		if err == nil {
			tb.Fatal("ffmpeg was let in")
		}
	case <-time.After(15 * time.Second):
		tb.Fatal("ffmpeg was not refused")
	}
	if len(hub.Streams()) != 0 {
		tb.Fatal(hub.Streams())
	}
}
