package ingest_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/bluenviron/mediacommon/v2/pkg/formats/mpegts"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/mpegts/codecs"
)

// wrap is when the clock of MPEG-TS, 33 bits at 90 kHz, begins anew.
const wrap = (1 << 33) * time.Second / 90000

// otherSize is an SPS of 640x360.
var otherSize = []byte{0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2e, 0x48}

// composed is 40 pictures 33 ms apart, a key frame every 10, after edit has changed what it likes of each.
func composed(t *testing.T, edit func(i int, dts *int64, nalus *[][]byte)) []byte {
	t.Helper()
	var b bytes.Buffer
	track := &mpegts.Track{Codec: &codecs.H264{}}
	w := &mpegts.Writer{W: &b, Tracks: []*mpegts.Track{track}}
	if err := w.Initialize(); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		dts, nalus := int64(i)*2970, [][]byte{slice}
		if i%10 == 0 {
			nalus = [][]byte{sps, pps, idr}
		}
		edit(i, &dts, &nalus)
		if err := w.WriteH264(track, dts, dts, nalus); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// packets calls edit with each packet of ts, and with its adaptation field, if it has one with flags.
func packets(ts []byte, edit func(i int, packet, field []byte)) []byte {
	ts = bytes.Clone(ts)
	for i := range len(ts) / 188 {
		p := ts[i*188 : (i+1)*188]
		var field []byte
		if p[3]&0x20 != 0 && p[4] > 0 {
			field = p[5 : 5+int(p[4])]
		}
		edit(i, p, field)
	}
	return ts
}

// announced sets the discontinuity_indicator of each PID's first packet with room for it.
func announced(ts []byte) []byte {
	seen := map[uint16]bool{}
	return packets(ts, func(_ int, p, field []byte) {
		pid := uint16(p[1]&0x1f)<<8 | uint16(p[2])
		if field != nil && !seen[pid] {
			seen[pid] = true
			field[0] |= 0x80
		}
	})
}

// Whatever a publisher's transport stream suffers, its viewers go on in the same publication, decoding times rise without a hole, and
// the fault is named.
func TestTransportStreamFaults(t *testing.T) {
	h264 := &codecs.H264{}
	first, second := sent(t, time.Hour, 20, h264, true), sent(t, time.Hour+time.Second, 20, h264, true)
	whole := sent(t, time.Hour, 40, h264, true)
	for _, c := range []struct {
		name  string
		ts    []byte
		codes []string // what is named, and nothing else
		keys  int      // of four
	}{
		{"nothing wrong", whole, nil, 4},
		{"continuity counters begin anew", slices.Concat(first, sent(t, time.Hour+660*time.Millisecond, 20, h264, true)), []string{"mpeg-ts"}, 4},
		{"clock jumps ahead, announced", slices.Concat(first, announced(sent(t, 2*time.Hour, 20, h264, true))), []string{"timestamps"}, 4},
		{"clock jumps back, announced", slices.Concat(second, announced(sent(t, 0, 20, h264, true))), []string{"timestamps"}, 4},
		{"clock jumps ahead by half its range", slices.Concat(first, announced(sent(t, time.Hour+wrap/2, 20, h264, true))), []string{"timestamps"}, 4},
		{"clock wraps", sent(t, wrap-time.Second/2, 40, h264, true), nil, 4},
		{"clock jumps over its wrap", slices.Concat(sent(t, wrap-time.Second, 20, h264, true), announced(sent(t, time.Minute, 20, h264, true))), []string{"timestamps"}, 4},
		{"PCR alone jumps", packets(whole, func(i int, _, field []byte) {
			if field != nil && field[0]&0x10 != 0 && i > 60 {
				field[1] ^= 0x55
			}
		}), nil, 4},
		{"each packet twice", func() (b []byte) {
			for p := range slices.Chunk(whole, 188) {
				b = append(append(b, p...), p...)
			}
			return b
		}(), nil, 4},
		{"a packet marked as damaged", packets(whole, func(i int, p, field []byte) {
			if i == 61 {
				p[1] |= 0x80
			}
		}), []string{"mpeg-ts"}, 3},
		{"decoding times step back", composed(t, func(i int, dts *int64, _ *[][]byte) {
			if i%7 == 6 {
				*dts -= 2 * 2970
			}
		}), []string{"timestamps"}, 4},
		{"decoding times repeat", composed(t, func(i int, dts *int64, _ *[][]byte) { *dts -= *dts % (2 * 2970) }), []string{"timestamps"}, 4},
		{"a hole of eleven seconds", composed(t, func(i int, dts *int64, _ *[][]byte) {
			if i >= 25 {
				*dts += 11 * 90000
			}
		}), []string{"timestamps"}, 4},
		{"parameter sets only once", composed(t, func(i int, _ *int64, nalus *[][]byte) {
			if i > 0 && i%10 == 0 {
				*nalus = [][]byte{idr}
			}
		}), nil, 4},
		{"no PPS at first", composed(t, func(i int, _ *int64, nalus *[][]byte) {
			if i == 0 {
				*nalus = [][]byte{sps, idr}
			}
		}), []string{"parameter-sets"}, 3},
		{"no parameter sets at first", composed(t, func(i int, _ *int64, nalus *[][]byte) {
			if i == 0 {
				*nalus = [][]byte{idr}
			}
		}), []string{"parameter-sets"}, 3},
		{"another size", composed(t, func(i int, _ *int64, nalus *[][]byte) {
			if i >= 20 && i%10 == 0 {
				*nalus = [][]byte{otherSize, pps, idr}
			}
		}), nil, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := play(t, c.ts)
			if len(out.publications) != 1 || len(out.tracks) != 1 {
				t.Errorf("publications %v, a viewer came %d times", out.publications, len(out.tracks))
			}
			if !slices.Equal(out.codes, c.codes) {
				t.Errorf("faults %v, want %v", out.codes, c.codes)
			}
			n, keys, _ := pictures(out.packets)
			if keys < c.keys || n < c.keys*10-3 {
				t.Errorf("%d pictures, %d key frames", n, keys)
			}
			for _, p := range out.packets {
				if p.Key && !bytes.Contains(p.Data, pps) {
					t.Errorf("a key frame comes without its parameter sets: %x", p.Data)
				}
			}
			rising(t, out.packets)
		})
	}
}
