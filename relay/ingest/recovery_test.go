package ingest_test

import (
	"bytes"
	"os/exec"
	"slices"
	"testing"
	"time"

	"gantry/media"
	"gantry/media/h264"
	"gantry/relay"
)

// A publisher that refreshes its pictures in parts, and whose first key frame nobody saw, goes live at a recovery point, and ffmpeg
// decodes what comes from there.
func TestRecoveryPoint(t *testing.T) {
	stream, err := exec.Command("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=rate=25:size=320x180", "-frames:v", "100", "-pix_fmt", "yuv420p", "-c:v", "libx264",
		"-preset", "veryfast", "-tune", "zerolatency", "-x264-params", "intra-refresh=1:keyint=25:aud=1:log-level=0", "-f", "h264", "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	var units [][][]byte
	for n := range h264.NALUs(stream) {
		if h264.TypeOf(n) == h264.AUD {
			units = append(units, nil)
		}
		units[len(units)-1] = append(units[len(units)-1], n)
	}
	hub, f := newFeed(t, media.Track{Codec: media.H264, ClockRate: 90000})
	f.Video(0, 0, 0, units[0][1:3]) // SPS and PPS, as RTMP and RTSP tell them
	var sub *relay.Subscription
	var out []byte
	count := 0
	for i, unit := range units {
		if i < 10 {
			continue // with the IDR picture
		}
		at := time.Duration(i) * 40 * time.Millisecond
		f.Video(0, at, at, unit)
		if sub == nil {
			sub, _ = hub.Subscribe("a", relay.Want{})
		}
		if sub == nil {
			continue
		}
		packets, err := sub.Take(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range packets {
			out = append(out, p.Data...)
			count++
		}
	}
	if sub == nil || count < 60 || !slices.Contains(faults(hub), "no-idr") {
		t.Fatalf("%d pictures, faults %v", count, faults(hub))
	}
	sub.Close()
	cmd := exec.Command("ffmpeg", "-v", "error", "-f", "h264", "-i", "-", "-f", "framemd5", "-")
	cmd.Stdin = bytes.NewReader(out)
	decoded, err := cmd.Output()
	if n := bytes.Count(decoded, []byte("\n0,")); err != nil || n < 40 {
		t.Errorf("ffmpeg decodes %d of %d: %v", n, count, err)
	}
}
