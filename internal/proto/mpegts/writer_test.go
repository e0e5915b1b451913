package mpegts_test

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
	"time"

	"gantry/internal/proto/mpegts"
	"gantry/media"
)

// collect keeps what is written and how large the writes were.
type collect struct {
	bytes.Buffer
	largest int
}

func (c *collect) Write(b []byte) (int, error) {
	c.largest = max(c.largest, len(b))
	return c.Buffer.Write(b)
}

// TestFFmpegReadsIt has ffprobe say what it finds.
func TestFFmpegReadsIt(t *testing.T) {
	cmd := exec.Command("ffmpeg", "-hide_banner", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30", "-t", "2", "-c:v", "libx264",
		"-preset", "ultrafast", "-tune", "zerolatency", "-x264-params", "aud=1", "-f", "h264", "-")
	raw, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var out collect
	w, err := mpegts.NewWriter(&out, []media.Track{{Codec: media.H264}, {Codec: media.Opus, Channels: 2}, {Codec: media.VP8}})
	if err != nil {
		t.Fatal(err)
	}
	units := bytes.Split(raw, []byte{0, 0, 0, 1, 9}) // an access unit delimiter begins each
	for i, u := range units[1:] {
		at := 95_000*time.Second + time.Duration(i)*time.Second/30 // beyond the 33-bit clock's wrap
		if err := w.Write(&media.Packet{PTS: at, DTS: at, Start: true, End: true, Data: append([]byte{0, 0, 0, 1, 9}, u...)}); err != nil {
			t.Fatal(err)
		}
		if err := w.Write(&media.Packet{Track: 1, PTS: at, DTS: at, Data: []byte{0xfc, 0xff, 0xfe}}); err != nil {
			t.Fatal(err)
		}
		if err := w.Write(&media.Packet{Track: 2, PTS: at, DTS: at, Data: []byte{1}}); err != nil {
			t.Fatal(err)
		}
	}
	if out.largest != mpegts.Datagram || out.Len()%188 != 0 {
		t.Errorf("largest write %d, %d bytes in all", out.largest, out.Len())
	}
	probe := exec.Command("ffprobe", "-v", "error", "-count_frames", "-show_entries", "stream=codec_name,nb_read_frames", "-of", "csv=p=0", "-i", "-")
	probe.Stdin = &out.Buffer
	got, err := probe.CombinedOutput()
	if err != nil || !strings.Contains(string(got), "h264,60") || !strings.Contains(string(got), "opus,60") {
		t.Fatalf("%v: %s", err, got)
	}
}

func TestNothingUsable(t *testing.T) {
	if _, err := mpegts.NewWriter(&bytes.Buffer{}, []media.Track{{Codec: media.VP8}}); err != mpegts.ErrNothingUsable {
		t.Fatal(err)
	}
	if _, err := mpegts.NewWriter(&bytes.Buffer{}, []media.Track{{Codec: media.AAC, Profile: "zz"}}); err == nil {
		t.Fatal("a broken AAC configuration was taken")
	}
}
