package pipeline

import (
	"bytes"
	"os/exec"
	"testing"
	"time"

	"gantry/media"
)

// What stands in for AAC is what a decoder takes without complaint, and hears nothing in.
func TestSilentFrame(t *testing.T) {
	for channels, profile := range map[int]string{1: "1188", 2: "1190"} {
		frame, long := silentFrame(media.Track{Codec: media.AAC, ClockRate: 48000, Channels: channels, Profile: profile})
		if long != 1024*time.Second/48000 {
			t.Fatalf("%v", long)
		}
		var adts []byte
		size := len(frame) + 7
		for range 10 {
			adts = append(adts, 0xff, 0xf1, 0x4c, byte(channels<<6), byte(size>>3), byte(size<<5)|0x1f, 0xfc)
			adts = append(adts, frame...)
		}
		c := exec.Command("ffmpeg", "-v", "error", "-xerror", "-err_detect", "explode", "-f", "aac", "-i", "-", "-f", "s16le", "-")
		c.Stdin = bytes.NewReader(adts)
		var said bytes.Buffer
		c.Stderr = &said
		pcm, err := c.Output()
		if err != nil || said.Len() > 0 {
			t.Errorf("%d channels: %v %s", channels, err, &said)
		}
		if want := 10 * 1024 * 2 * channels; len(pcm) != want || bytes.ContainsFunc(pcm, func(r rune) bool { return r != 0 }) {
			t.Errorf("%d channels: %d bytes of %d, or not silent", channels, len(pcm), want)
		}
	}
	for _, profile := range []string{"", "2b920800", "zz"} { // HE-AAC, and what is no configuration
		if frame, _ := silentFrame(media.Track{Codec: media.AAC, ClockRate: 48000, Channels: 2, Profile: profile}); frame != nil {
			t.Errorf("%q", profile)
		}
	}
}

// While the slate stands in, sound goes on without a hole, and what comes for a time that silence has filled is left out.
func TestSilence(t *testing.T) {
	own := media.Track{Codec: media.AAC, ClockRate: 48000, Channels: 2, Profile: "1190"}
	p := &passing{fanout: newFanout(newFeedback()), sounds: []media.Track{own, {Codec: media.Opus}}, quiet: map[media.Codec]quiet{}}
	queue := p.fanout.add("disk", []media.Track{{Codec: media.H264}, own})
	long := 1024 * time.Second / 48000
	p.silence(time.Second) // before there was any
	first := &media.Packet{PTS: 2 * time.Second, DTS: 2 * time.Second}
	p.sing(first, media.AAC)
	for pts := 2 * time.Second; pts <= 2700*time.Millisecond; pts += 40 * time.Millisecond {
		p.silence(pts)
	}
	p.sing(&media.Packet{PTS: 2300 * time.Millisecond}, media.AAC)
	p.sing(&media.Packet{PTS: 2500 * time.Millisecond, Data: []byte("new")}, media.AAC)
	last, n := first.PTS-long, 0
	for {
		pkt, err := queue.Pull(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if string(pkt.Data) == "new" {
			break
		}
		if n++; pkt.PTS-last != long || pkt.Track != 1 {
			t.Errorf("%d: %v after %v", n, pkt.PTS, last)
		}
		last = pkt.PTS
	}
	if gap := 2500*time.Millisecond - last - long; n < 20 || gap < 0 || gap > 2*long {
		t.Errorf("%d packets, the last %v before the source's", n, gap)
	}
}
