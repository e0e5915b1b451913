package slate

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"gantry/media"
)

// FFmpeg decodes a slate of each size: dark, with some light letters in the middle.
func TestSlate(t *testing.T) {
	for _, size := range [][2]int{{0, 0}, {1920, 1080}, {320, 180}, {90, 160}, {641, 361}} {
		units := New("The stream will be back\nin a moment")(media.Track{Codec: media.H264, Width: size[0], Height: size[1]})
		if len(units) != 2 || bytes.Equal(units[0], units[1]) {
			t.Fatalf("%v: %d access units", size, len(units))
		}
		cmd := exec.Command("ffmpeg", "-v", "warning", "-xerror", "-f", "h264", "-i", "-", "-pix_fmt", "gray", "-f", "rawvideo", "-")
		cmd.Stdin = bytes.NewReader(append(append([]byte(nil), units[0]...), units[1]...))
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		light := 0
		for _, v := range out {
			if v > 120 {
				light++
			}
		}
		t.Logf("%v: %d bytes, %.1f %% are letters", size, len(units[0]), 100*float64(light)/float64(len(out)))
		if light == 0 || light > len(out)/4 {
			t.Errorf("%v: %d of %d pixels are light", size, light, len(out))
		}
	}
	for _, track := range []media.Track{{Codec: media.H265}, {Codec: media.Opus}, {Codec: media.H264, Width: 32, Height: 32}, {Codec: media.H264, Width: 9000, Height: 9000}} {
		if New("x")(track) != nil {
			t.Errorf("%v has a slate", track)
		}
	}
	if New(strings.Repeat("long ", 100))(media.Track{Codec: media.H264, Width: 320, Height: 180}) == nil {
		t.Error("words that do not fit")
	}
}
