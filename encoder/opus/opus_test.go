//go:build cgo && (amd64 || arm64 || arm)

package opus

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4/pkg/media/oggwriter"

	"gantry/internal/testkit"
	"gantry/media"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// tone is dur of a sine, different left and right.
func tone(f media.AudioFormat, pts, dur time.Duration) *media.Audio {
	n := int(dur * time.Duration(f.Rate) / time.Second)
	a := &media.Audio{Format: f, PTS: pts}
	for i := range n {
		for c := range f.Channels {
			x := 2 * math.Pi * float64(440*(c+1)) * (pts.Seconds() + float64(i)/float64(f.Rate))
			a.Samples = append(a.Samples, float32(0.5*math.Sin(x)))
		}
	}
	return a
}

func encodeAll(t *testing.T, f media.AudioFormat, dur time.Duration, chunks ...int) []*media.Packet {
	t.Helper()
	e, err := New(Default())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	whole := tone(f, 0, dur).Samples
	var packets []*media.Packet
	for i, at := 0, 0; at < len(whole); i++ {
		n := min(chunks[i%len(chunks)]*f.Channels, len(whole)-at)
		pts := time.Minute + time.Duration(at/f.Channels)*time.Second/time.Duration(f.Rate)
		got, err := e.Encode(&media.Audio{Format: f, PTS: pts, Samples: whole[at : at+n]})
		if err != nil {
			t.Fatal(err)
		}
		packets = append(packets, got...)
		at += n
	}
	return packets
}

// Whatever the chunks, the packets are the same and 20 ms apart.
func TestChunks(t *testing.T) {
	f := media.AudioFormat{Rate: 48000, Channels: 2}
	want := encodeAll(t, f, time.Second, 960)
	if len(want) != 50 {
		t.Fatalf("%d packets a second", len(want))
	}
	for i, p := range want {
		if p.PTS != time.Minute+time.Duration(i)*20*time.Millisecond || p.DTS != p.PTS || !p.Start || !p.End || !p.Key {
			t.Errorf("packet %d: %+v", i, p)
		}
	}
	for _, chunks := range [][]int{{1}, {441}, {4800}, {48000}, {7, 1024, 333, 1}} {
		got := encodeAll(t, f, time.Second, chunks...)
		if len(got) != len(want) {
			t.Fatalf("chunks of %v: %d packets", chunks, len(got))
		}
		for i := range got {
			if !bytes.Equal(got[i].Data, want[i].Data) || got[i].PTS != want[i].PTS {
				t.Fatalf("chunks of %v: packet %d differs", chunks, i)
			}
		}
	}
}

// ffmpeg's decoder hears the tones at their pitch and level, left and right, from every rate and from one channel.
func TestDecodedByFFmpeg(t *testing.T) {
	for _, f := range []media.AudioFormat{{Rate: 48000, Channels: 2}, {Rate: 48000, Channels: 1}, {Rate: 16000, Channels: 2}, {Rate: 24000, Channels: 1}} {
		file := filepath.Join(t.TempDir(), "tone.ogg")
		w, err := oggwriter.New(file, clockRate, channels)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range encodeAll(t, f, time.Second, 500) {
			if err := w.WriteRTP(&rtp.Packet{Header: rtp.Header{Timestamp: uint32(960 * (i + 1))}, Payload: p.Data}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("ffmpeg", "-nostdin", "-v", "warning", "-i", file, "-f", "f32le", "-")
		cmd.Stderr = os.Stderr
		raw, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		samples := make([]float32, len(raw)/4)
		if _, err := binary.Decode(raw, binary.LittleEndian, samples); err != nil {
			t.Fatal(err)
		}
		const skipped = 3840 // what the file's header tells a decoder to drop at the start
		if n := len(samples) / channels; n != clockRate-skipped {
			t.Errorf("%v: %d samples of a second", f, n)
		}
		for c := range channels {
			pitch := 440.0
			if f.Channels == 2 {
				pitch *= float64(c + 1)
			}
			// The part of the power that is at that pitch, over half a second in the middle.
			var re, im, power float64
			const from, n = 12000, 24000
			for i := range n {
				s := float64(samples[(from+i)*channels+c])
				x := 2 * math.Pi * pitch * float64(i) / clockRate
				re, im, power = re+s*math.Cos(x), im+s*math.Sin(x), power+s*s
			}
			level := 2 * math.Hypot(re, im) / n
			if share := level * level / 2 / (power / n); math.Abs(level-0.5) > 0.05 || share < 0.98 {
				t.Errorf("%v channel %d: level %.3f, %.1f %% of the power at %v Hz", f, c, level, 100*share, pitch)
			}
		}
	}
}

func TestTimeline(t *testing.T) {
	f := media.AudioFormat{Rate: 48000, Channels: 2}
	e, err := New(Default())
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	stamps := func(pts, dur time.Duration) []time.Duration {
		packets, err := e.Encode(tone(f, pts, dur))
		if err != nil {
			t.Fatal(err)
		}
		var all []time.Duration
		for _, p := range packets {
			all = append(all, p.PTS)
		}
		return all
	}
	const ms = time.Millisecond
	for i, c := range []struct {
		pts, dur time.Duration
		want     []time.Duration
	}{
		{1000 * ms, 30 * ms, []time.Duration{1000 * ms}},
		{1035 * ms, 10 * ms, []time.Duration{1020 * ms}},         // 5 ms late: the samples go on
		{1025 * ms, 20 * ms, []time.Duration{1040 * ms}},         // 15 ms early
		{2000 * ms, 30 * ms, []time.Duration{2000 * ms}},         // a gap: anew
		{500 * ms, 41 * ms, []time.Duration{500 * ms, 520 * ms}}, // backwards: anew
		{541 * ms, 0, nil}, // nothing
	} {
		got := stamps(c.pts, c.dur)
		if len(got) != len(c.want) {
			t.Fatalf("step %d: %v, want %v", i, got, c.want)
		}
		for k := range got {
			if got[k] != c.want[k] {
				t.Errorf("step %d: %v, want %v", i, got, c.want)
			}
		}
	}
}

func TestBitrate(t *testing.T) {
	f := media.AudioFormat{Rate: 48000, Channels: 2}
	e, err := New(Default())
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if got, want := e.Track(), (media.Track{Codec: media.Opus, ClockRate: 48000, Channels: 2, Bitrate: 128_000}); got != want {
		t.Errorf("track %+v", got)
	}
	for _, bps := range []int{128_000, 32_000, 192_000} {
		if err := e.SetBitrate(bps); err != nil {
			t.Fatal(err)
		}
		size := 0
		// Noise, as a tone needs few bits.
		a := tone(f, 0, 2*time.Second)
		seed := uint32(1)
		for i := range a.Samples {
			seed = seed*1664525 + 1013904223
			a.Samples[i] = float32(int32(seed)) / (1 << 32)
		}
		packets, err := e.Encode(a)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range packets {
			size += 8 * len(p.Data)
		}
		if got := float64(size) / 2; math.Abs(got/float64(bps)-1) > 0.2 {
			t.Errorf("%d bit/s asked, %.0f", bps, got)
		}
	}
	for _, bps := range []int{0, 1000, 1_000_000} {
		if err := e.SetBitrate(bps); err == nil {
			t.Errorf("%d bit/s taken", bps)
		}
		if _, err := New(Config{Bitrate: bps}); err == nil {
			t.Errorf("%d bit/s taken", bps)
		}
	}
}

func TestRefuses(t *testing.T) {
	e, err := New(Default())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []media.AudioFormat{{}, {Rate: 44100, Channels: 2}, {Rate: 48000, Channels: 6}} {
		if _, err := e.Encode(&media.Audio{Format: f, Samples: make([]float32, 100)}); err == nil {
			t.Errorf("took %v", f)
		}
	}
	// A format that was refused does not end the encoder.
	if _, err := e.Encode(tone(media.AudioFormat{Rate: 48000, Channels: 2}, 0, time.Second)); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := e.Encode(tone(media.AudioFormat{Rate: 48000, Channels: 2}, 0, time.Second)); err == nil {
		t.Error("Encode after Close")
	}
	if err := e.SetBitrate(64_000); err == nil {
		t.Error("SetBitrate after Close")
	}
}

func BenchmarkEncode(b *testing.B) {
	e, err := New(Default())
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	f := media.AudioFormat{Rate: 48000, Channels: 2}
	a := tone(f, 0, 20*time.Millisecond)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Encode(a); err != nil {
			b.Fatal(err)
		}
		a.PTS += 20 * time.Millisecond
	}
	b.ReportMetric(float64(b.N)*0.02/b.Elapsed().Seconds(), "×realtime")
}
