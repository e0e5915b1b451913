package file

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"gantry/device"
	"gantry/internal/clock"
	"gantry/internal/testkit"
	"gantry/media"
	"gantry/media/h264"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

// clip makes a file of 1.2 s: 30 pictures of 160x90 at 25 a second, and sound.
func clip(t testing.TB, name string, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	all := append([]string{"-v", "error", "-f", "lavfi", "-i", "testsrc=size=160x90:rate=25", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000",
		"-t", "1.2", "-g", "10", "-pix_fmt", "yuv420p"}, args...)
	if out, err := exec.Command("ffmpeg", append(all, path)...).CombinedOutput(); err != nil {
		t.Fatalf("ffmpeg: %v\n%s", err, out)
	}
	return path
}

func open(t *testing.T, path string) (*Source, []media.Track) {
	t.Helper()
	c := Default()
	c.Path = path
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	s := New(c, quiet)
	t.Cleanup(func() { _ = s.Close() })
	tracks, err := s.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s, tracks
}

// Each container and codec, played through twice and a bit: the timeline rises over the loop at the file's own pace, and the access
// units are those of the file.
func TestLoops(t *testing.T) {
	x264 := []string{"-c:v", "libx264", "-c:a", "aac"}
	for _, c := range []struct {
		name         string
		args         []string
		video, audio media.Codec
		reordered    bool
	}{
		{"plain.mp4", append(x264, "-bf", "0"), media.H264, media.AAC, false},
		{"b.mp4", append(x264, "-bf", "2"), media.H264, media.AAC, true},
		{"fragmented.mp4", append(x264, "-bf", "0", "-movflags", "frag_keyframe+empty_moov+default_base_moof"), media.H264, media.AAC, false},
		{"h265.mp4", []string{"-c:v", "libx265", "-x265-params", "log-level=error:bframes=0", "-c:a", "libopus"}, media.H265, media.Opus, false},
		{"plain.ts", append(x264, "-bf", "0"), media.H264, media.AAC, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := clip(t, c.name, c.args...)
			s, tracks := open(t, path)
			if len(tracks) != 2 || tracks[0].Codec != c.video || tracks[1].Codec != c.audio {
				t.Fatalf("%+v", tracks)
			}
			var last [2]time.Duration
			var units [][]byte
			var first time.Duration
			keys, reordered, frames := 0, false, 0
			for frames < 70 {
				p, err := s.Read(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if off := clock.Now() - p.DTS; off < -100*time.Millisecond || off > 2*time.Second {
					t.Fatalf("a packet of track %d is %v from now", p.Track, off)
				}
				if gap := p.DTS - last[p.Track]; last[p.Track] != 0 && (gap <= 0 || gap > 250*time.Millisecond) {
					t.Errorf("track %d: %v after the packet before", p.Track, gap)
				}
				last[p.Track] = p.DTS
				if p.Track != 0 {
					continue
				}
				if frames == 0 {
					if first = p.DTS; !p.Key {
						t.Error("the first picture is no key frame")
					}
				}
				frames++
				if p.Key {
					keys++
				}
				reordered = reordered || p.PTS != p.DTS
				units = append(units, p.Data)
			}
			if keys != 7 || reordered != c.reordered {
				t.Errorf("%d key frames, reordered %v", keys, reordered)
			}
			if long := last[0] - first; long < 2600*time.Millisecond || long > 3200*time.Millisecond {
				t.Errorf("70 pictures in %v", long)
			}
			for i := range 30 {
				if !bytes.Equal(units[i], units[i+30]) {
					t.Errorf("picture %d differs the second time", i)
				}
			}
			if want := elementary(t, path, c.video); !sameUnits(units[:30], want) {
				t.Error("the access units are not those of the file")
			}
		})
	}
}

// elementary is a file's video as ffmpeg sees it.
func elementary(t *testing.T, path string, c media.Codec) []byte {
	t.Helper()
	name, filter := "h264", "h264_mp4toannexb"
	if c == media.H265 {
		name, filter = "hevc", "hevc_mp4toannexb"
	}
	if filepath.Ext(path) == ".ts" {
		filter = "null"
	}
	out, err := exec.Command("ffmpeg", "-v", "error", "-i", path, "-map", "0:v", "-c", "copy", "-bsf:v", filter, "-f", name, "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sameUnits compares the slices, without parameter sets and delimiters, which may be repeated.
func sameUnits(units [][]byte, stream []byte) bool {
	slices := func(b []byte) (all [][]byte) {
		for n := range h264.NALUs(b) {
			if len(n) > 40 { // no parameter set of these clips is as long, but for SEI
				all = append(all, n)
			}
		}
		return all
	}
	have := slices(bytes.Join(units, nil))
	want := slices(stream)
	find := 0
	for _, n := range want {
		for i := find; i < len(have); i++ {
			if bytes.Equal(have[i], n) {
				find = i + 1
				break
			}
		}
	}
	return len(want) > 10 && find > 0 && find >= len(have)-2
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.mp4")
	if err := os.WriteFile(text, []byte("this is no media file at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{filepath.Join(dir, "none.mp4"): device.ErrNotFound, text: device.ErrUnsupported} {
		s := New(Config{Path: path}, quiet)
		if _, err := s.Start(t.Context()); !errors.Is(err, want) {
			t.Errorf("%s: %v", path, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	s, _ := open(t, clip(t, "a.mp4", "-c:v", "libx264", "-an"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for {
		if _, err := s.Read(ctx); err != nil {
			break
		}
	}
	if err := (Config{Path: "clip.mp4"}).Validate(); err == nil {
		t.Error("a relative path is allowed")
	}
}

func FuzzMP4(f *testing.F) {
	for _, flags := range []string{"faststart", "frag_keyframe+empty_moov"} {
		data, err := os.ReadFile(clip(f, "a.mp4", "-c:v", "libx264", "-c:a", "aac", "-movflags", flags))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data[:min(len(data), 4096)])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		lanes, err := readMP4(r)
		if err != nil {
			return
		}
		for _, l := range lanes {
			for _, s := range l.samples[:min(len(l.samples), 100)] {
				_, _ = l.unit(r, s)
			}
		}
	})
}
