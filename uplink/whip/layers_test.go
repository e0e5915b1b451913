package whip

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"gantry/internal/testkit"
	"gantry/media"
	"gantry/media/h264"
	"gantry/relay"
)

// record returns the access units of two seconds of a picture of this size, a key frame each second.
func record(t *testing.T, codec media.Codec, size string) (units [][]byte) {
	t.Helper()
	encoder, params, format, delimiter := "libx264", "-x264-params", "h264", byte(h264.AUD)
	if codec == media.H265 {
		encoder, params, format, delimiter = "libx265", "-x265-params", "hevc", 35 // AUD_NUT
	}
	cmd := exec.Command("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=rate=30:size="+size, "-frames:v", "60", "-pix_fmt", "yuv420p", "-c:v", encoder,
		"-preset", "ultrafast", "-threads", "1", "-tune", "zerolatency", params, "aud=1:keyint=30:scenecut=0:repeat-headers=1:log-level=error", "-f", format, "-")
	stream, err := cmd.Output()
	must(t, err)
	for n := range h264.NALUs(stream) {
		kind := n[0] & 0x1f
		if codec == media.H265 {
			kind = n[0] >> 1 & 0x3f
		}
		if kind == delimiter {
			units = append(units, nil)
		}
		units[len(units)-1] = h264.Append(units[len(units)-1], n)
	}
	if len(units) != 60 {
		t.Fatalf("%d pictures of %v", len(units), codec)
	}
	return units
}

// layered is a programme of three layers in two codecs, and sound, which goes on until ctx ends.
func layered(ctx context.Context, t *testing.T) *programme {
	p := newProgramme(1_000_000)
	p.Tracks = []media.Track{
		{Codec: media.H265, ClockRate: 90000, RID: "main", Bitrate: 1_000_000},
		{Codec: media.H264, ClockRate: 90000, RID: "mid", Profile: "64001e", Bitrate: 600_000},
		{Codec: media.H264, ClockRate: 90000, RID: "low", Profile: "42c00d", Bitrate: 200_000},
		p.Tracks[1],
	}
	p.Packets = media.NewQueue(time.Second, p.Tracks)
	layers := [][][]byte{record(t, media.H265, "640x360"), record(t, media.H264, "640x360"), record(t, media.H264, "320x180")}
	var work sync.WaitGroup
	t.Cleanup(work.Wait)
	work.Go(func() {
		p.tick(ctx, func(i int, now time.Duration) {
			for track, units := range layers {
				p.Packets.Push(&media.Packet{Track: uint8(track), PTS: now, DTS: now, Start: true, End: true, Key: i%30 == 0, Data: units[i%60]})
			}
		})
	})
	return p
}

// A programme of several layers, in two codecs, goes to the relay as simulcast: each layer is what it was sent as, is repaired when
// packets are lost, and is asked for key frames alone.
func TestLayers(t *testing.T) {
	t.Parallel()
	s := newStation(t, newPath(t))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := layered(ctx, t)
	c := config(s.web.URL + "/whip/layers")
	c.Token = token
	sender, err := New(c, testLog(t))
	must(t, err)
	ended := make(chan error, 1)
	go func() { ended <- sender.Run(ctx, p.Program) }()
	connected(t, p)
	info := func() []relay.TrackInfo {
		for _, s := range s.hub.Streams() {
			if s.Live && len(s.Publishers) == 1 {
				return s.Publishers[0].Tracks
			}
		}
		return nil
	}
	testkit.Eventually(t, 10*time.Second, "all tracks", func() bool {
		all := info()
		for _, track := range all {
			if track.Frames < 10 {
				return false
			}
		}
		return len(all) == 4
	})
	var got []string
	for _, track := range info() {
		got = append(got, fmt.Sprintf("%s %s %dx%d", track.RID, track.Codec, track.Width, track.Height))
	}
	if text := strings.Join(got, ", "); text != "main H265 640x360, mid H264 640x360, low H264 320x180,  opus 0x0" {
		t.Error(text)
	}

	s.link.set(func(l *path) { l.lose = func(b []byte) bool { return isMedia(b) && rand.IntN(100) < 4 } })
	sub, err := s.hub.Subscribe("layers", relay.Want{Packing: media.AccessUnits})
	must(t, err)
	defer sub.Close()
	whole, damaged := [4]int{}, 0
	var packets []*media.Packet
	for whole[0] < 90 {
		if packets, err = sub.Pull(ctx, packets[:0]); err != nil {
			t.Fatal(err)
		}
		for _, pkt := range packets {
			whole[pkt.Track]++
			if pkt.Lost {
				damaged++
			}
		}
	}
	s.link.set(func(l *path) { l.lose = nil })
	t.Logf("whole %v, after a gap %d, recovered %d", whole, damaged, s.server.Counters().Recovered.Load())
	if damaged > 3 || whole[1] < 80 || whole[2] < 80 || s.server.Counters().Recovered.Load() < 8 {
		t.Error("loss was not repaired on every layer")
	}

	asked := func() (tracks map[uint64]int) {
		tracks = map[uint64]int{}
		for _, f := range p.feedback() {
			if f.KeyFrame {
				tracks[f.Tracks]++
			}
		}
		return tracks
	}
	testkit.Eventually(t, 5*time.Second, "a request for a key frame of the last layer alone", func() bool {
		before := asked()
		sub.Feedback(media.Feedback{KeyFrame: true, Tracks: 0b100})
		for range 20 {
			if after := asked(); after[0b100] > before[0b100] {
				return after[0b010] == before[0b010]
			}
			time.Sleep(10 * time.Millisecond)
		}
		return false
	})
	cancel()
	must(t, <-ended)
}

func TestLayersThatCannotBe(t *testing.T) {
	video := func(rid string) media.Track {
		return media.Track{Codec: media.H264, ClockRate: 90000, Profile: "42c01f", RID: rid}
	}
	for want, tracks := range map[string][]media.Track{
		`the layer "a-b" is not named`: {video("x"), video("a-b")},
		`the layer "" is not named`:    {video(""), video("x")},
		"two video tracks of one name": {video("x"), video("x")},
	} {
		if _, err := newStreams(tracks, "m"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	streams, err := newStreams([]media.Track{{Codec: media.H264, Profile: "42C01F", RID: "a"}, {Codec: media.H264, Profile: "64000d", RID: "b"}}, "m")
	must(t, err)
	if streams[0].track.Profile != "64001f" || streams[1].track.Profile != "64001f" {
		t.Errorf("%+v", streams[0].track)
	}
	const offer = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rid:h send\r\na=rid:l send\r\na=simulcast:send h;l\r\n"
	answer := strings.NewReplacer("send", "recv")
	for _, c := range []struct{ answer, want string }{
		{answer.Replace(offer), ""},
		{strings.Replace(answer.Replace(offer), "h;l", "h", 1), `the layer "l"`},
		{"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n", `the layer "h"`},
	} {
		if err := checkAnswer(c.answer, offer); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}
