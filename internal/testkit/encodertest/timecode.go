package encodertest

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"gantry/encoder"
	"gantry/media"
	"gantry/media/h264"
	"gantry/media/sei"
)

// timecodes: ffmpeg reads in each picture the SMPTE timecode that was asked for, and the pictures as before.
func (s Suite) timecodes(t *testing.T) {
	if s.Backend.Codec != media.H264 && s.Backend.Codec != media.H265 {
		t.Skip("its codec has no such message")
	}
	for _, c := range []struct {
		rate media.Rational
		from time.Time
		want []string
	}{
		{media.Rational{Num: 25, Den: 1}, time.Date(2026, 5, 4, 23, 59, 59, 920_000_000, time.UTC), []string{"23:59:59:23", "23:59:59:24", "00:00:00:00", "00:00:00:01"}},
		{media.Rational{Num: 30000, Den: 1001}, time.Date(2026, 5, 4, 0, 0, 59, 993_266_667, time.UTC), []string{"00:00:59:28", "00:00:59:29", "00:01:00:02", "00:01:00:03"}},
	} {
		in := Format(320, 240, media.YU12)
		in.Rate = c.rate
		e := s.Open(t, in, encoder.Params{Bitrate: 1_000_000})
		packets := append(Encode(t, e, in, 0, 4, 0, nil), Drain(t, e)...)
		stamper := sei.NewStamper(s.Backend.Codec, c.rate)
		for n, p := range packets {
			stamped := *p
			stamped.Data = stamper.Stamp(p.Data, p.Key, sei.SMPTE, c.from.Add(time.Duration(n)*c.rate.Interval()))
			packets[n] = &stamped
			if s.Backend.Codec == media.H264 && p.Key {
				var sets h264.ParameterSets
				sets.Learn(stamped.Data)
				if info, err := h264.ParseSPS(sets.SPS()); err != nil || info.Width != 320 || info.Matrix != in.Matrix || info.MaxReorder != 0 {
					t.Errorf("the SPS now says %+v, %v", info, err)
				}
			}
		}
		if n := len(Decode(t, s.Backend.Codec, packets, 320, 240, in.Range)); n != len(packets) {
			t.Errorf("%d pictures decoded", n)
		}
		demuxer, file := save(t, s.Backend.Codec, packets)
		out, err := exec.Command("ffprobe", "-v", "error", "-f", demuxer, "-of", "json", "-show_frames", file).Output()
		if err != nil {
			t.Fatalf("ffprobe: %v", err)
		}
		var said struct {
			Frames []struct {
				Side []struct {
					Type  string                   `json:"side_data_type"`
					Codes []struct{ Value string } `json:"timecodes"`
				} `json:"side_data_list"`
			}
		}
		if err := json.Unmarshal(out, &said); err != nil {
			t.Fatalf("ffprobe: %v: %s", err, out)
		}
		var got []string
		for _, f := range said.Frames {
			for _, d := range f.Side {
				if d.Type == "SMPTE 12-1 timecode" && len(d.Codes) == 1 {
					got = append(got, strings.ReplaceAll(d.Codes[0].Value, ";", ":")) // the semicolon is its own reading of a flag
				}
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("ffprobe reads %v, want %v: %+v", got, c.want, said)
		}
	}
}
