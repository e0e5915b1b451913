//go:build cgo && !nolibav

package sound

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4/pkg/media/oggwriter"

	"gantry/internal/testkit"
	"gantry/media"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// onset is when the test's tone begins, after silence.
const onset = time.Second

// aac is 3 s of sound by FFmpeg's own program: silence, then 440 Hz, cut into access units with the times of their samples.
func aac(t testing.TB, hz, channels int) (media.Track, []*media.Packet) {
	t.Helper()
	tone := fmt.Sprintf("0.5*sin(2*PI*440*t)*gte(t,%v)", onset.Seconds())
	source := fmt.Sprintf("aevalsrc='%s%s':s=%d:d=3", tone, strings.Repeat("|"+tone, channels-1), hz)
	adts, err := exec.Command("ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, "-c:a", "aac", "-b:a", "128k", "-f", "adts", "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	var units mpeg4audio.ADTSPackets
	if err := units.Unmarshal(adts); err != nil {
		t.Fatal(err)
	}
	config := mpeg4audio.AudioSpecificConfig{Type: mpeg4audio.ObjectTypeAACLC, SampleRate: hz, ChannelConfig: uint8(channels), ChannelCount: channels}
	b, err := config.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var packets []*media.Packet
	for i, u := range units {
		at := time.Hour + time.Duration(i-1)*1024*time.Second/time.Duration(hz) // the first only primes
		packets = append(packets, &media.Packet{Track: 1, PTS: at, DTS: at, Start: true, End: true, Data: u.AU})
	}
	return media.Track{Codec: media.AAC, ClockRate: hz, Channels: channels, Profile: hex.EncodeToString(b)}, packets
}

func convert(t testing.TB, from media.Track, to media.Codec, packets []*media.Packet) (media.Track, []*media.Packet) {
	t.Helper()
	c, err := New(from, to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var out []*media.Packet
	for _, p := range packets {
		out = c.Convert(out, p)
	}
	return c.Track(), out
}

// decode has FFmpeg's program decode what t.Convert made and returns the left samples.
func decode(t *testing.T, track media.Track, packets []*media.Packet) []float64 {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sound")
	var args []string
	if track.Codec == media.Opus {
		w, err := oggwriter.New(file, 48000, 2)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range packets {
			if err := w.WriteRTP(&rtp.Packet{Header: rtp.Header{Timestamp: uint32(960 * (i + 1))}, Payload: p.Data}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		args = []string{"-flags2", "+skip_manual", "-i", file} // the writer's header claims more priming than there is
	} else {
		var adts mpeg4audio.ADTSPackets
		for _, p := range packets {
			adts = append(adts, &mpeg4audio.ADTSPacket{Type: mpeg4audio.ObjectTypeAACLC, SampleRate: 48000, ChannelConfig: 2, ChannelCount: 2, AU: p.Data})
		}
		b, err := adts.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		args = []string{"-i", file}
	}
	cmd := exec.Command("ffmpeg", append(append([]string{"-nostdin", "-v", "error"}, args...), "-f", "f32le", "-ac", "2", "-ar", "48000", "-")...)
	var said bytes.Buffer
	cmd.Stderr = &said
	raw, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &said)
	}
	samples := make([]float32, len(raw)/4)
	if _, err := binary.Decode(raw, binary.LittleEndian, samples); err != nil {
		t.Fatal(err)
	}
	left := make([]float64, len(samples)/2)
	for i := range left {
		left[i] = float64(samples[2*i])
	}
	return left
}

// hear checks that the tone begins when it should, at its level and alone.
func hear(t *testing.T, track media.Track, packets []*media.Packet) {
	t.Helper()
	samples := decode(t, track, packets)
	begins := -1
	for i, s := range samples {
		if math.Abs(s) > 0.1 {
			begins = i
			break
		}
	}
	at := packets[0].PTS - time.Hour + time.Duration(begins)*time.Second/rate
	if off := at - onset; begins < 0 || off < -15*time.Millisecond || off > 15*time.Millisecond {
		t.Errorf("the tone begins at %v, want %v", at, onset)
	}
	const n = 24000
	from := begins + 12000
	if len(samples) < from+n {
		t.Fatalf("%d samples, the tone begins at %d", len(samples), begins)
	}
	var re, im, power float64
	for i, s := range samples[from : from+n] {
		x := 2 * math.Pi * 440 * float64(i) / rate
		re, im, power = re+s*math.Cos(x), im+s*math.Sin(x), power+s*s
	}
	level := 2 * math.Hypot(re, im) / n
	if share := level * level / 2 / (power / n); math.Abs(level-0.5) > 0.05 || share < 0.98 {
		t.Errorf("level %.3f, %.1f %% of the power at 440 Hz", level, 100*share)
	}
}

func steady(t *testing.T, packets []*media.Packet, every time.Duration) {
	t.Helper()
	for i := 1; i < len(packets); i++ {
		if d := packets[i].PTS - packets[i-1].PTS - every; d < -time.Microsecond || d > time.Microsecond {
			t.Fatalf("packet %d comes %v after the one before", i, packets[i].PTS-packets[i-1].PTS)
		}
	}
}

func TestThereAndBack(t *testing.T) {
	for _, c := range []struct{ hz, channels int }{{48000, 2}, {44100, 2}, {48000, 1}, {22050, 1}} {
		t.Run(fmt.Sprintf("%d Hz %d ch", c.hz, c.channels), func(t *testing.T) {
			from, packets := aac(t, c.hz, c.channels)
			track, opus := convert(t, from, media.Opus, packets)
			if track.Codec != media.Opus || track.ClockRate != 48000 || track.Channels != 2 || len(opus) < 145 {
				t.Fatalf("%d packets of %+v", len(opus), track)
			}
			steady(t, opus, 20*time.Millisecond)
			hear(t, track, opus)
			back, again := convert(t, track, media.AAC, opus)
			if back.Profile == "" || again[0].Track != 1 {
				t.Errorf("track %+v", back)
			}
			steady(t, again, 1024*time.Second/48000)
			hear(t, back, again)
		})
	}
}

// A publisher's clock that runs 300 ppm fast is followed without a gap; times in whole milliseconds do not disturb.
func TestFollowsTheClock(t *testing.T) {
	from, three := aac(t, 48000, 2)
	var packets []*media.Packet
	for i := range 20 * len(three) { // a minute
		p := *three[i%len(three)]
		p.PTS = (time.Duration(float64(i) * 1024 / 48000 * 1.0003 * float64(time.Second))).Truncate(time.Millisecond)
		packets = append(packets, &p)
	}
	_, out := convert(t, from, media.Opus, packets)
	steady(t, out, 20*time.Millisecond)
	last := packets[len(packets)-1].PTS
	if off := last - out[len(out)-1].PTS; off < 0 || off > 40*time.Millisecond {
		t.Errorf("after %v of sound what comes out is %v behind", last, off)
	}
}

func TestGaps(t *testing.T) {
	from, packets := aac(t, 48000, 2)
	for i := range packets[50:] {
		packets[50+i].PTS += time.Second
	}
	packets[20].Data = []byte{0xff, 0, 1, 2} // damaged
	_, out := convert(t, from, media.Opus, packets)
	jumps := 0
	for i := 1; i < len(out); i++ {
		switch d := out[i].PTS - out[i-1].PTS; {
		case d <= 0:
			t.Fatalf("packet %d comes %v after the one before", i, d)
		case d > 900*time.Millisecond:
			jumps++
		}
	}
	if end := packets[len(packets)-1].PTS - out[len(out)-1].PTS; jumps != 1 || end > 60*time.Millisecond {
		t.Errorf("%d jumps, the end is %v early", jumps, end)
	}
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		from media.Track
		to   media.Codec
	}{
		{media.Track{Codec: media.H264}, media.Opus},
		{media.Track{Codec: media.AAC, ClockRate: 48000, Channels: 2, Profile: "x"}, media.Opus},
		{media.Track{Codec: media.Opus, ClockRate: 48000, Channels: 2}, media.H264},
	} {
		if _, err := New(c.from, c.to); err == nil {
			t.Errorf("%v to %v", c.from, c.to)
		}
	}
}

func FuzzConvert(f *testing.F) {
	from, packets := aac(f, 48000, 2)
	f.Add(packets[60].Data, true)
	f.Add([]byte{0xfc, 0xff, 0xfe}, false)
	f.Fuzz(func(t *testing.T, b []byte, fromAAC bool) {
		track, to := from, media.Opus
		if !fromAAC {
			track, to = output(media.Opus), media.AAC
		}
		c, err := New(track, to)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for i := range 3 {
			c.Convert(nil, &media.Packet{PTS: time.Duration(i) * 20 * time.Millisecond, Data: b})
		}
	})
}

func BenchmarkConvert(b *testing.B) {
	from, packets := aac(b, 48000, 2)
	c, err := New(from, media.Opus)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	b.ReportAllocs()
	var out []*media.Packet
	var at time.Duration
	for i := 0; b.Loop(); i++ {
		p := *packets[i%len(packets)]
		p.PTS = at
		at += 1024 * time.Second / 48000
		out = c.Convert(out[:0], &p)
	}
	b.ReportMetric(at.Seconds()/b.Elapsed().Seconds(), "×realtime")
}
