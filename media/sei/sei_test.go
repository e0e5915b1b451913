package sei

import (
	"bytes"
	"testing"
	"time"

	"gantry/media"
)

var units = map[media.Codec][]byte{
	media.H264: {0, 0, 0, 1, 9, 0xf0, 0, 0, 0, 1, 0x67, 1, 2, 0, 0, 0, 1, 0x68, 3, 0, 0, 1, 6, 1, 1, 0xaa, 0x80, 0, 0, 0, 1, 0x65, 9, 9, 0, 0, 1, 0x65, 8, 8},
	media.H265: {0, 0, 0, 1, 0x40, 1, 5, 0, 0, 0, 1, 0x42, 1, 6, 0, 0, 0, 1, 0x26, 1, 7, 7},
}

func TestStampUTC(t *testing.T) {
	for codec, au := range units {
		before := bytes.Clone(au)
		// The second and third times have runs of zeros and the bytes that must be escaped.
		for _, ms := range []int64{1_790_000_000_123, 1 << 40, 0x0000_0300_0000_0001, 0, 1<<63 - 1} {
			at := time.UnixMilli(ms)
			got := StampUTC(codec, au, at)
			if read, ok := UTCOf(codec, got); !ok || !read.Equal(at) {
				t.Errorf("%v %d: read %v, %v", codec, ms, read, ok)
			}
			if i := firstSlice(codec, got); !bytes.HasSuffix(got, au[firstSlice(codec, au):]) || !bytes.HasPrefix(got, au[:firstSlice(codec, au)]) || i <= firstSlice(codec, au) {
				t.Errorf("%v: not between parameter sets and slices: %x", codec, got)
			}
			if n := bytes.Count(got, []byte{0, 0, 1}) - bytes.Count(au, []byte{0, 0, 1}); n != 1 {
				t.Errorf("%v %d: %d start codes more", codec, ms, n)
			}
		}
		if !bytes.Equal(au, before) {
			t.Errorf("%v: written to", codec)
		}
		if _, ok := UTCOf(codec, au); ok {
			t.Errorf("%v: a time where none is", codec)
		}
	}
	au := []byte{0x12, 0}
	if got := StampUTC(media.AV1, au, time.Now()); &got[0] != &au[0] {
		t.Error("AV1 changed")
	}
	if got := StampUTC(media.H264, []byte{0, 0, 1, 9}, time.Now()); len(got) != 4 {
		t.Error("no slice, but a message")
	}
}

// FuzzUTC: what is read from any bytes is what was written, and nothing crashes.
func FuzzUTC(f *testing.F) {
	for codec, au := range units {
		f.Add(codec == media.H265, au, int64(1_790_000_000_123))
		f.Add(codec == media.H265, StampUTC(codec, au, time.UnixMilli(5)), int64(1))
	}
	f.Fuzz(func(t *testing.T, h265 bool, au []byte, ms int64) {
		codec := media.H264
		if h265 {
			codec = media.H265
		}
		if _, ok := UTCOf(codec, au); ok {
			return // it has one of its own
		}
		got := StampUTC(codec, au, time.UnixMilli(ms))
		if firstSlice(codec, au) < 0 {
			if !bytes.Equal(got, au) {
				t.Fatalf("changed without a slice")
			}
			return
		}
		if at, ok := UTCOf(codec, got); !ok || at.UnixMilli() != ms {
			t.Fatalf("%d read as %d, %v", ms, at.UnixMilli(), ok)
		}
	})
}
