package h264_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"testing"

	"gantry/media/h264"
)

// FFmpeg decodes exactly the picture that was drawn, whatever its size and wherever something is on it.
func TestStill(t *testing.T) {
	for _, size := range [][2]int{{64, 48}, {320, 180}, {1280, 720}, {640, 362}, {1920, 1080}, {16, 16}} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			s := h264.Still{Width: size[0], Height: size[1], Paper: 40}
			w, h := (s.Width+15)/16*16, (s.Height+15)/16*16
			s.Luma = bytes.Repeat([]byte{s.Paper}, w*h)
			for y := range h { // blocks with an edge on each side, and zeros, which must be escaped
				for x := range w {
					if (x/8+y/8*3)%11 == 0 && y > h/3 && y < h/2 {
						s.Luma[y*w+x] = byte(x % 3 * 100)
					}
				}
			}
			var stream []byte
			for i := range 3 {
				au, err := s.Encode(i%2 == 1)
				if err != nil {
					t.Fatal(err)
				}
				stream = append(stream, au...)
			}
			if info, err := h264.ParseSPS(firstOf(stream, h264.SPS)); err != nil || info.Width != s.Width || info.Height != s.Height {
				t.Errorf("%+v, %v", info, err)
			}
			cmd := exec.Command("ffmpeg", "-v", "warning", "-xerror", "-err_detect", "explode", "-f", "h264", "-i", "-", "-pix_fmt", "yuv420p", "-f", "rawvideo", "-")
			cmd.Stdin = bytes.NewReader(stream)
			var errs bytes.Buffer
			cmd.Stderr = &errs
			out, err := cmd.Output()
			if err != nil || errs.Len() > 0 {
				t.Fatalf("%v: %s", err, errs.String())
			}
			frame := s.Width * s.Height * 3 / 2
			if len(out) != 3*frame {
				t.Fatalf("%d bytes, want %d", len(out), 3*frame)
			}
			for n := range 3 {
				picture := out[n*frame : (n+1)*frame]
				for y := range s.Height {
					if !bytes.Equal(picture[y*s.Width:(y+1)*s.Width], s.Luma[y*w:y*w+s.Width]) {
						t.Fatalf("line %d of picture %d differs", y, n)
					}
				}
				if chroma := picture[s.Width*s.Height:]; bytes.Count(chroma, []byte{128}) != len(chroma) {
					t.Fatal("the chroma is not grey")
				}
			}
			t.Logf("%d bytes", len(stream)/3)
		})
	}
}

func firstOf(au []byte, want h264.Type) []byte {
	for nalu := range h264.NALUs(au) {
		if h264.TypeOf(nalu) == want {
			return nalu
		}
	}
	return nil
}

func TestStillRefuses(t *testing.T) {
	for _, s := range []h264.Still{{Width: 15, Height: 16}, {Width: 16, Height: 8}, {Width: 17, Height: 16}, {Width: 16384, Height: 16384}, {Width: 16, Height: 16}} {
		if _, err := s.Encode(false); err == nil {
			t.Errorf("%dx%d was encoded", s.Width, s.Height)
		}
	}
}
