//go:build cgo && !nolibav

package libav_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"os/exec"
	"testing"
	"time"

	"gantry/encoder/libav"
	"gantry/media"
)

// FFmpeg's decoder gets back the tone that was coded, and the packets' times follow the sound's, over a jump too.
func TestAAC(t *testing.T) {
	for _, channels := range []int{1, 2} {
		format := media.AudioFormat{Rate: libav.AACRate, Channels: channels}
		enc, err := libav.NewAAC(libav.DefaultAAC(), format)
		if err != nil {
			t.Fatal(err)
		}
		var adts bytes.Buffer
		var last time.Duration
		begin := 7 * time.Second
		for i := range 200 { // 2 s in chunks of 10 ms; after the first second, a jump of one
			pts := begin + time.Duration(i)*10*time.Millisecond
			if i >= 100 {
				pts += time.Second
			}
			samples := make([]float32, 480*channels)
			for n := range samples {
				samples[n] = float32(0.5 * math.Sin(2*math.Pi*440*float64(i*480+n/channels)/48000))
			}
			packets, err := enc.Encode(&media.Audio{Format: format, PTS: pts, Samples: samples})
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range packets {
				if d := p.PTS - last; last != 0 && (d < 20*time.Millisecond || d > 23*time.Millisecond) && (d < 900*time.Millisecond || d > 1100*time.Millisecond) {
					t.Errorf("%d channels: a packet %v after the one before", channels, d)
				}
				if off := p.PTS - pts; off > 0 || off < -80*time.Millisecond {
					t.Errorf("%d channels: packet at %v of sound at %v", channels, p.PTS, pts)
				}
				last = p.PTS
				n := len(p.Data) + 7 // ADTS, ISO/IEC 13818-7 §6.2: AAC-LC, 48 kHz, stereo
				adts.Write([]byte{0xff, 0xf1, 0x4c, 0x80 | byte(n>>11), byte(n >> 3), byte(n<<5) | 0x1f, 0xfc})
				adts.Write(p.Data)
			}
		}
		if err := enc.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := enc.Encode(&media.Audio{Format: format}); err == nil {
			t.Error("a closed encoder encodes")
		}
		cmd := exec.Command("ffmpeg", "-loglevel", "error", "-f", "aac", "-i", "-", "-f", "f32le", "-")
		cmd.Stdin = &adts
		raw, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		pcm := make([]float32, len(raw)/4)
		if err := binary.Read(bytes.NewReader(raw), binary.LittleEndian, pcm); err != nil {
			t.Fatal(err)
		}
		if seconds := float64(len(pcm)) / 2 / 48000; seconds < 1.9 || seconds > 2.1 {
			t.Errorf("%d channels: %.2f s came out", channels, seconds)
		}
		middle, crossings, power := pcm[24000:72000], 0, 0.0 // half a second of stereo
		for i := 2; i < len(middle); i += 2 {
			if middle[i-2] < 0 && middle[i] >= 0 {
				crossings++
			}
			power += float64(middle[i] * middle[i])
		}
		rms := math.Sqrt(power / float64(len(middle)/2))
		if crossings < 215 || crossings > 225 || rms < 0.33 || rms > 0.37 {
			t.Errorf("%d channels: %d Hz, %.3f RMS", channels, crossings*2, rms)
		}
	}
}

func TestAACRefuses(t *testing.T) {
	if _, err := libav.NewAAC(libav.DefaultAAC(), media.AudioFormat{Rate: 44100, Channels: 2}); err == nil {
		t.Error("44.1 kHz is taken")
	}
	if _, err := libav.NewAAC(libav.AACConfig{}, media.AudioFormat{Rate: 48000, Channels: 2}); err == nil {
		t.Error("no bitrate is taken")
	}
}
