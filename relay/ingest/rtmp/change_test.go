package rtmp_test

import (
	"net/url"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/bluenviron/gortmplib"
	"github.com/bluenviron/gortmplib/pkg/codecs"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"

	"gantry/media/h264"
	"gantry/relay"
)

// record returns a second of pictures as NAL units, parameter sets and a key frame first.
func record(t *testing.T, encoder, size, format string) (units [][][]byte) {
	t.Helper()
	params := map[string]string{"libx264": "-x264-params", "libx265": "-x265-params"}[encoder]
	stream, err := exec.Command("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=rate=25:size="+size, "-frames:v", "25", "-pix_fmt", "yuv420p", "-c:v", encoder,
		"-preset", "ultrafast", "-tune", "zerolatency", params, "aud=1:log-level=0", "-f", format, "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	delimiter := func(n []byte) bool { return n[0]&0x1f == 9 }
	if format == "hevc" {
		delimiter = func(n []byte) bool { return n[0]>>1&0x3f == 35 }
	}
	for n := range h264.NALUs(stream) {
		if delimiter(n) {
			units = append(units, nil)
			continue
		}
		units[len(units)-1] = append(units[len(units)-1], n)
	}
	return units
}

// A publisher that changes size and codec while it sends goes on, with its sound, in the same connection.
func TestTracksChange(t *testing.T) {
	hub, addr := listen(t, nil, authorize)
	u, err := url.Parse("rtmp://" + addr + "/live/demo?token=correct-token")
	if err != nil {
		t.Fatal(err)
	}
	client := &gortmplib.Client{URL: u, Publish: true}
	if err := client.Initialize(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	sound := &gortmplib.Track{Codec: &codecs.MPEG4Audio{Config: &mpeg4audio.AudioSpecificConfig{Type: mpeg4audio.ObjectTypeAACLC, SampleRate: 48000, ChannelConfig: 2, ChannelCount: 2}}}
	info := func() (p relay.Published) {
		if s := hub.Streams(); len(s) == 1 && s[0].Live && len(s[0].Publishers) > 0 {
			p = s[0].Publishers[0]
		}
		return p
	}
	at := time.Duration(0)
	id := ""
	for _, c := range []struct {
		encoder, size, format string
		codec                 string
		width                 int
		sameID                bool // one publication goes on
	}{
		{"libx264", "320x180", "h264", "H264", 320, false},
		{"libx264", "640x360", "h264", "H264", 640, true},
		{"libx265", "320x180", "hevc", "H265", 320, false},
		{"libx265", "640x360", "hevc", "H265", 640, true},
		{"libx264", "320x180", "h264", "H264", 320, false},
	} {
		units := record(t, c.encoder, c.size, c.format)
		video := &gortmplib.Track{Codec: &codecs.H264{SPS: units[0][0], PPS: units[0][1]}}
		if c.format == "hevc" {
			video.Codec = &codecs.H265{VPS: units[0][0], SPS: units[0][1], PPS: units[0][2]}
		}
		w := &gortmplib.Writer{Conn: client, Tracks: []*gortmplib.Track{video, sound}}
		if err := w.Initialize(); err != nil {
			t.Fatal(err)
		}
		begun := false
		for deadline := time.Now().Add(10 * time.Second); !begun; {
			for _, nalus := range units { // faster than their time: the relay looks at a second of media
				if c.format == "hevc" {
					nalus = slices.DeleteFunc(slices.Clone(nalus), func(n []byte) bool { kind := n[0] >> 1 & 0x3f; return kind >= 32 && kind <= 34 })
					err = w.WriteH265(video, at, at, nalus)
				} else {
					err = w.WriteH264(video, at, at, nalus)
				}
				if err == nil {
					err = w.WriteMPEG4Audio(sound, at, []byte{0x21, 0x10, 0x04, 0x60, 0x8c, 0x1c})
				}
				if err != nil {
					t.Fatalf("%s %s: %v", c.encoder, c.size, err)
				}
				at += 40 * time.Millisecond
			}
			p := info()
			begun = len(p.Tracks) == 2 && p.Tracks[0].Codec == c.codec && p.Tracks[0].Width == c.width && p.Tracks[0].KeyFrames > 0 && p.Tracks[1].Packets > 0
			if begun && id != "" {
				if (p.ID == id) != c.sameID {
					t.Errorf("%s %s: publication %s after %s", c.encoder, c.size, p.ID, id)
				}
				if !slices.ContainsFunc(p.Faults, func(f relay.Fault) bool { return f.Code == "programme" }) && c.format == "hevc" {
					t.Errorf("%s %s: faults %v", c.encoder, c.size, p.Faults)
				}
			}
			if !begun && time.Now().After(deadline) {
				t.Fatalf("%s %s: %+v", c.encoder, c.size, p)
			}
			if begun { // before it has, p may be the one before, or the next one already
				id = p.ID
			}
			time.Sleep(100 * time.Millisecond) // between looks
		}
		id = info().ID
	}
}
