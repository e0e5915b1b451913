package load

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"gantry/media/h264"
)

// A Picture is a prepared H.264 stream: access units in Annex B that go round.
type Picture struct {
	Units [][]byte
	Rate  int // frames a second
}

// NewPicture makes a 1280x720 picture of that bit rate and number of slices with ffmpeg and libx264: baseline, a key frame every
// two seconds, eight seconds long. A file of that name holds it for the next time; empty is none.
func NewPicture(ctx context.Context, bitrate, slices int, file string) (*Picture, error) {
	const rate = 30
	data, err := os.ReadFile(file)
	if file == "" || err != nil {
		kbit := bitrate / 1000
		data, err = exec.CommandContext(ctx, "ffmpeg", "-v", "error", "-f", "lavfi", "-i", fmt.Sprintf("testsrc2=size=1280x720:rate=%d:duration=8", rate),
			"-vf", "noise=alls=12:allf=t", "-c:v", "libx264", "-preset", "veryfast", "-profile:v", "baseline", "-tune", "zerolatency",
			"-g", "60", "-keyint_min", "60", "-pix_fmt", "yuv420p",
			"-b:v", fmt.Sprintf("%dk", kbit), "-maxrate", fmt.Sprintf("%dk", kbit), "-bufsize", fmt.Sprintf("%dk", kbit/2),
			"-x264-params", fmt.Sprintf("aud=1:slices=%d:sliced-threads=0:scenecut=0:nal-hrd=none", slices), "-f", "h264", "-").Output()
		if err != nil {
			return nil, fmt.Errorf("make picture with ffmpeg: %w", err)
		}
		if file != "" {
			if err := os.WriteFile(file, data, 0o644); err != nil {
				return nil, err
			}
		}
	}
	p := &Picture{Rate: rate}
	for nalu := range h264.NALUs(data) {
		if h264.TypeOf(nalu) == 9 { // access unit delimiter
			p.Units = append(p.Units, nil)
		} else if n := len(p.Units); n > 0 {
			p.Units[n-1] = h264.Append(p.Units[n-1], nalu)
		}
	}
	if len(p.Units) == 0 || !h264.HasIDR(p.Units[0]) {
		return nil, fmt.Errorf("ffmpeg made no picture that begins with a key frame")
	}
	return p, nil
}

// Stamped returns an access unit with its time of sending in front, as an SEI message.
func Stamped(unit []byte, at time.Time) []byte {
	out := make([]byte, 0, len(unit)+40)
	written := false
	for nalu := range h264.NALUs(unit) {
		if t := h264.TypeOf(nalu); !written && t != 7 && t != 8 {
			stamp := escape(uint64(at.UnixNano()))
			sei := append([]byte{6, 5, 24}, stampID[:]...)
			out = h264.Append(out, append(append(sei, stamp[:]...), 0x80))
			written = true
		}
		out = h264.Append(out, nalu)
	}
	return out
}
