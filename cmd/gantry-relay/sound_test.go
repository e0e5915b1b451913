//go:build cgo && !nolibav

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
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
	"gantry/relay"
)

// decoded is what FFmpeg's program makes of a file.
func decoded(t *testing.T, file string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("ffmpeg", append(append([]string{"-nostdin", "-v", "error", "-flags2", "+skip_manual", "-i", file}, args...), "-")...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &said)
	}
	return out
}

// FFmpeg publishes a flash and a beep at the same moment of every second; what viewers get, with the sound turned into Opus,
// has them at the same moment too.
func TestSoundKeepsTimeWithThePicture(t *testing.T) {
	cfg := defaults()
	cfg.HTTP, cfg.SRT, cfg.RTMP = "127.0.0.1:0", ":0", ":0"
	log := slog.New(slog.DiscardHandler)
	hub := relay.NewHub(cfg.hub(), log)
	defer hub.Close()
	hub.SetTranscoder(transcode)
	ports, err := openPorts(cfg, nil, hub, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	ports.start()
	defer ports.Close()
	for stream, c := range map[string]struct{ format, url string }{
		"srt":  {"mpegts", fmt.Sprintf("srt://%v?streamid=srt", ports.srt.Addr())},
		"rtmp": {"flv", fmt.Sprintf("rtmp://%v/live/rtmp", ports.rtmp.Addr())},
	} {
		t.Run(stream, func(t *testing.T) {
			ffmpeg := exec.Command("ffmpeg", "-nostdin", "-v", "error", "-re",
				"-f", "lavfi", "-i", "color=black:s=64x64:r=50,drawbox=c=white:t=fill:enable='gte(mod(t,1),0.5)'",
				"-f", "lavfi", "-i", "aevalsrc='0.5*sin(2000*PI*t)*gte(mod(t,1),0.5)':s=48000", "-t", "20",
				"-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-g", "25", "-c:a", "aac", "-f", c.format, c.url)
			if err := ffmpeg.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = ffmpeg.Process.Kill(); _ = ffmpeg.Wait() }()
			var sub *relay.Subscription
			testkit.Eventually(t, 10*time.Second, "the stream is live", func() bool {
				sub, err = hub.Subscribe(stream, relay.Want{Audio: media.Opus})
				return err == nil
			})
			defer sub.Close()

			dir := t.TempDir()
			var pictures bytes.Buffer
			var shown, heard []time.Duration
			ogg, err := oggwriter.New(filepath.Join(dir, "sound.ogg"), 48000, 2)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			for len(shown) < 150 {
				packets, err := sub.Pull(ctx, nil)
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range packets {
					if p.Track == 0 {
						_, _ = pictures.Write(p.Data)
						shown = append(shown, p.PTS)
						continue
					}
					if n := len(heard); n > 0 && (p.PTS-heard[n-1]-20*time.Millisecond).Abs() > time.Microsecond {
						t.Errorf("sound comes %v after the sound before", p.PTS-heard[n-1])
					}
					heard = append(heard, p.PTS)
					if err := ogg.WriteRTP(&rtp.Packet{Header: rtp.Header{Timestamp: uint32(960 * len(heard))}, Payload: p.Data}); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := ogg.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "picture.h264"), pictures.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}

			var flashes, beeps []time.Duration
			gray := decoded(t, filepath.Join(dir, "picture.h264"), "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray")
			for i := 1; i < len(shown) && (i+1)*64*64 <= len(gray); i++ {
				if gray[i*64*64+2080] > 128 && gray[(i-1)*64*64+2080] <= 128 {
					flashes = append(flashes, shown[i])
				}
			}
			raw := decoded(t, filepath.Join(dir, "sound.ogg"), "-f", "f32le", "-ac", "1")
			samples := make([]float32, len(raw)/4)
			if _, err := binary.Decode(raw, binary.LittleEndian, samples); err != nil && err != io.EOF {
				t.Fatal(err)
			}
			quiet := 0
			for i, s := range samples {
				if math.Abs(float64(s)) < 0.1 {
					quiet++
					continue
				}
				if quiet > 12000 {
					beeps = append(beeps, heard[0]+time.Duration(i)*time.Second/48000)
				}
				quiet = 0
			}
			matched := 0
			for _, f := range flashes {
				for _, b := range beeps {
					if off := b - f; off.Abs() < 400*time.Millisecond {
						matched++
						t.Logf("the beep is %v after the flash", off)
						if off.Abs() > 20*time.Millisecond {
							t.Errorf("the beep is %v after the flash", off)
						}
					}
				}
			}
			if matched < 2 {
				t.Errorf("flashes %v, beeps %v", flashes, beeps)
			}
		})
	}
}
