package sei

import (
	"fmt"
	"math"
	"time"

	"gantry/media"
	"gantry/media/h264"
)

// A Kind of message about when a picture was captured.
type Kind uint8

// UTC is the user data message with milliseconds; SMPTE is the timecode of the time of day, of SMPTE ST 12-1, in a picture timing
// (H.264 §D.1.3) or time code message (H.265 §D.2.27).
const (
	None Kind = iota
	UTC
	SMPTE
)

// A Timecode is a time of day in hours, minutes, seconds and pictures.
type Timecode struct {
	Hours, Minutes, Seconds, Frames int
	Drop                            bool // the counting leaves out labels so that it keeps step with the clock at 29.97 or 59.94
	Jump                            bool // it does not follow the one before
}

// String returns, for instance, "12:34:56:07", with a semicolon before the pictures where labels are left out.
func (t Timecode) String() string {
	sep := ":"
	if t.Drop {
		sep = ";"
	}
	return fmt.Sprintf("%02d:%02d:%02d%s%02d", t.Hours, t.Minutes, t.Seconds, sep, t.Frames)
}

// A counter numbers pictures of one rate since midnight, one after the other: capture times waver by more than a timecode may.
type counter struct {
	rate    media.Rational
	next    int64
	started bool
}

// slip is how far in pictures a capture time may be from the counter before the counter jumps to it.
const slip = 0.75

func (c *counter) timecode(t time.Time) Timecode {
	midnight := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, t.Location())
	at := t.Sub(midnight).Seconds() * c.rate.Float()
	jump := !c.started || math.Abs(at-float64(c.next)) > slip
	if jump {
		c.next = int64(math.Round(at))
	}
	n := c.next
	c.next++
	c.started = true
	code := label(n, c.rate)
	code.Jump = jump
	return code
}

// label is the timecode of picture n since midnight. At 30000/1001 and 60000/1001 the first two or four labels of each minute are left
// out, but for each tenth (SMPTE ST 12-1 §5.2.2).
func label(n int64, rate media.Rational) Timecode {
	nominal := int64(math.Round(rate.Float()))
	drop := rate.Den == 1001 && nominal%30 == 0
	if drop {
		left := nominal / 15
		minute, ten := 60*nominal-left, 600*nominal-9*left
		tens, rest := n/ten, n%ten
		n += 9 * left * tens
		if rest >= 60*nominal {
			n += left * (1 + (rest-60*nominal)/minute)
		}
	}
	s := n / nominal
	return Timecode{Hours: int(s / 3600 % 24), Minutes: int(s / 60 % 60), Seconds: int(s % 60), Frames: int(n % nominal), Drop: drop}
}

// A Stamper writes messages of a stream that one encoder makes. One goroutine uses it.
type Stamper struct {
	codec   media.Codec
	counter counter
	timing  bool // the stream's parameter sets announce picture timing, so that each picture must have one
}

// NewStamper returns a Stamper of access units of codec, of so many pictures a second.
func NewStamper(codec media.Codec, rate media.Rational) *Stamper {
	if f := rate.Float(); !(f >= 1 && f <= 240) {
		rate = media.Rational{Num: 30, Den: 1}
	}
	return &Stamper{codec: codec, counter: counter{rate: rate}}
}

// Stamp returns au with a message of the wanted kind that it was captured at t; au itself is not changed, and returned when there is
// nothing to write. Timecodes are in t's zone. In H.264 they begin, and end, at a key frame, whose parameter sets announce them; a
// stream whose sets have buffering parameters or picture timing of their own gets UTC instead.
func (s *Stamper) Stamp(au []byte, key bool, want Kind, t time.Time) []byte {
	if s.codec == media.H264 && key {
		s.timing = false
		if want == SMPTE {
			au, s.timing = announce(au)
		}
	}
	switch {
	case s.codec == media.H264 && s.timing:
		return insert(s.codec, au, picTiming, h264Timing(s.counter.timecode(t)))
	case s.codec == media.H265 && want == SMPTE:
		return insert(s.codec, au, timeCode, h265Timing(s.counter.timecode(t)))
	case want == None:
		return au
	}
	return StampUTC(s.codec, au, t)
}

// announce returns an access unit whose sequence parameter sets say that picture timing follows; au itself when they cannot.
func announce(au []byte) ([]byte, bool) {
	out := make([]byte, 0, len(au)+64)
	found := false
	for nalu := range h264.NALUs(au) {
		if h264.TypeOf(nalu) == h264.SPS {
			sps, err := h264.SetTiming(nalu)
			if err != nil {
				return au, false
			}
			nalu, found = sps, true
		}
		out = h264.Append(out, nalu)
	}
	if !found {
		return au, false
	}
	return out, true
}

// payload types
const (
	picTiming = 1   // H.264 §D.1.1
	timeCode  = 136 // H.265 §D.2.1
)

// countingType is 4 where labels are left out, else 0 (H.264 table D-3).
func (t Timecode) countingType() uint32 {
	if t.Drop {
		return 4
	}
	return 0
}

// dropped tells whether this label follows some that were left out.
func (t Timecode) dropped() bool {
	return t.Drop && t.Seconds == 0 && t.Minutes%10 != 0 && (t.Frames == 2 || t.Frames == 4)
}

// h264Timing is pic_timing of a progressive picture, for sets without buffering parameters (H.264 §D.1.3).
func h264Timing(t Timecode) []byte {
	var w h264.BitWriter
	w.U(4, 0) // pic_struct: a frame
	w.U(1, 1) // clock_timestamp_flag
	w.U(2, 0) // ct_type: progressive
	t.write(&w, 8)
	w.U(24, 0) // time_offset: 24 bits where no buffering parameters say otherwise (§E.2.2)
	return w.Aligned()
}

// h265Timing is time_code (H.265 §D.2.27).
func h265Timing(t Timecode) []byte {
	var w h264.BitWriter
	w.U(2, 1) // num_clock_ts
	w.U(1, 1) // clock_timestamp_flag
	t.write(&w, 9)
	w.U(5, 0) // time_offset_length
	return w.Aligned()
}

// write writes the part of a clock timestamp that both codecs have, n_frames in so many bits.
func (t Timecode) write(w *h264.BitWriter, frameBits int) {
	w.U(1, 0) // H.264 nuit_field_based_flag, H.265 units_field_based_flag
	w.U(5, t.countingType())
	w.U(1, 1) // full_timestamp_flag
	w.U(1, flag(t.Jump))
	w.U(1, flag(t.dropped()))
	w.U(frameBits, uint32(t.Frames))
	w.U(6, uint32(t.Seconds))
	w.U(6, uint32(t.Minutes))
	w.U(5, uint32(t.Hours))
}

func flag(v bool) uint32 {
	if v {
		return 1
	}
	return 0
}
