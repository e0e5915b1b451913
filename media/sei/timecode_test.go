package sei

import (
	"testing"
	"time"

	"gantry/media"
)

func rate(num, den int) media.Rational { return media.Rational{Num: num, Den: den} }

// Labels at 29.97 and 59.94 leave out two or four at each minute but the tenth, so that an hour of labels takes an hour.
func TestLabels(t *testing.T) {
	for _, c := range []struct {
		rate media.Rational
		n    int64
		want string
	}{
		{rate(25, 1), 0, "00:00:00:00"}, {rate(25, 1), 25*3600 + 26, "01:00:01:01"}, {rate(50, 1), 49, "00:00:00:49"},
		{rate(30, 1), 1800, "00:01:00:00"}, {rate(24000, 1001), 24 * 60, "00:01:00:00"},
		{rate(30000, 1001), 1799, "00:00:59;29"}, {rate(30000, 1001), 1800, "00:01:00;02"}, {rate(30000, 1001), 3597, "00:01:59;29"},
		{rate(30000, 1001), 3598, "00:02:00;02"}, {rate(30000, 1001), 17981, "00:09:59;29"}, {rate(30000, 1001), 17982, "00:10:00;00"},
		{rate(30000, 1001), 107892, "01:00:00;00"}, {rate(60000, 1001), 3600, "00:01:00;04"}, {rate(60000, 1001), 215784, "01:00:00;00"},
	} {
		if got := label(c.n, c.rate).String(); got != c.want {
			t.Errorf("picture %d at %v: %s, want %s", c.n, c.rate, got, c.want)
		}
	}
	seen := map[string]bool{}
	for n := range int64(20000) {
		if s := label(n, rate(30000, 1001)).String(); seen[s] {
			t.Fatalf("%s twice", s)
		} else {
			seen[s] = true
		}
	}
}

// Timecodes count one by one though capture wavers, jump where pictures are missing, and say so.
func TestCounter(t *testing.T) {
	c := counter{rate: rate(25, 1)}
	start := time.Date(2026, 3, 1, 10, 59, 59, 0, time.UTC)
	for n := range 100 {
		at := start.Add(time.Duration(n)*40*time.Millisecond + time.Duration(n*n%13-6)*time.Millisecond)
		got := c.timecode(at)
		if want := label(int64((10*3600+59*60+59)*25+n), c.rate); got.String() != want.String() || got.Jump != (n == 0) {
			t.Errorf("picture %d: %v, want %v, jump %v", n, got, want, got.Jump)
		}
	}
	if got := c.timecode(start.Add(10 * time.Second)); got.String() != "11:00:09:00" || !got.Jump {
		t.Errorf("after a gap: %v", got)
	}
	if got := c.timecode(time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)); got.String() != "00:00:00:00" || !got.Jump {
		t.Errorf("at midnight: %v", got)
	}
}

// Where the parameter sets cannot announce timecodes, and in codecs without them, nothing is broken.
func TestStamperWithoutSets(t *testing.T) {
	at := time.Unix(1_790_000_000, 0)
	s := NewStamper(media.H264, rate(30, 1))
	au := s.Stamp(units[media.H264], true, SMPTE, at) // its SPS is none
	if got, ok := UTCOf(media.H264, au); !ok || !got.Equal(at) {
		t.Errorf("instead: %v, %v", got, ok)
	}
	if got := s.Stamp(units[media.H264], true, None, at); &got[0] != &units[media.H264][0] {
		t.Error("changed")
	}
	av1 := []byte{0x12, 0}
	if got := NewStamper(media.AV1, media.Rational{}).Stamp(av1, true, SMPTE, at); &got[0] != &av1[0] {
		t.Error("AV1 changed")
	}
}
