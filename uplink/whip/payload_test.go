package whip

import (
	"bytes"
	"testing"

	"github.com/pion/rtp/codecs"

	"gantry/media/h264"
)

// unpack puts payloads together again with pion's depacketizer, as a sequence of NAL units.
func unpack(t testing.TB, payloads [][]byte) [][]byte {
	var d codecs.H264Packet
	var all []byte
	for _, p := range payloads {
		b, err := d.Unmarshal(p)
		if err != nil {
			t.Fatalf("payload % x: %v", p[:min(len(p), 8)], err)
		}
		all = append(all, b...)
	}
	return units(all)
}

func units(au []byte) [][]byte {
	var all [][]byte
	for n := range h264.NALUs(au) {
		if h264.TypeOf(n) != h264.AUD {
			all = append(all, n)
		}
	}
	return all
}

func TestPackH264(t *testing.T) {
	for name, tt := range map[string]struct {
		au    []byte
		count int
		first byte // type of the first payload
	}{
		"empty":             {nil, 0, 0},
		"only a delimiter":  {[]byte{0, 0, 1, 9, 0xf0}, 0, 0},
		"one small unit":    {unit(100, false), 1, 1},
		"key frame":         {unit(5000, true), 6, stapA},
		"fits exactly":      {unit(maxPayload-1, false), 1, 1},
		"one byte too long": {unit(maxPayload, false), 2, fuA},
		"two slices":        {append(unit(300, false), 0, 0, 1, 0x41, 1, 2, 3), 1, stapA},
	} {
		t.Run(name, func(t *testing.T) {
			payloads := packH264(tt.au, maxPayload)
			if len(payloads) != tt.count {
				t.Fatalf("%d payloads, want %d", len(payloads), tt.count)
			}
			if tt.count > 0 && payloads[0][0]&0x1f != tt.first {
				t.Errorf("first payload has type %d", payloads[0][0]&0x1f)
			}
			same(t, units(tt.au), unpack(t, payloads))
		})
	}
}

func same(t testing.TB, want, got [][]byte) {
	t.Helper()
	if len(want) != len(got) {
		t.Fatalf("%d units, want %d", len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(want[i], got[i]) {
			t.Errorf("unit %d differs: %d and %d bytes", i, len(want[i]), len(got[i]))
		}
	}
}

func FuzzPackH264(f *testing.F) {
	f.Add(unit(3000, true), uint16(maxPayload))
	f.Add([]byte{0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2, 0, 0, 1, 0x65, 3}, uint16(100))
	f.Fuzz(func(t *testing.T, au []byte, limit uint16) {
		most := 64 + int(limit)%2000
		payloads := packH264(au, most)
		for _, p := range payloads {
			if len(p) == 0 || len(p) > most {
				t.Fatalf("payload of %d bytes, limit %d", len(p), most)
			}
		}
		for _, n := range units(au) {
			if n[0]&0x1f == 0 || n[0]&0x1f > 23 || n[0]&0x80 != 0 {
				return // a depacketizer may refuse or misread what no encoder makes
			}
		}
		same(t, units(au), unpack(t, payloads))
	})
}
