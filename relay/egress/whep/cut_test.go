package whep

import (
	"bytes"
	"testing"

	"github.com/pion/rtp/codecs"

	"gantry/media"
)

// nal returns an H.264 NAL unit of that size.
func nal(kind byte, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i*7 + size)
	}
	b[0] = kind
	return b
}

// packetized returns the payloads of an access unit, as pion and many others make them.
func packetized(mtu uint16, nals ...[]byte) [][]byte {
	var out [][]byte
	for _, n := range nals {
		out = append(out, (&codecs.H264Payloader{}).Payload(mtu, append([]byte{0, 0, 0, 1}, n...))...)
	}
	return out
}

// joined returns the NAL units of payloads, one after the other, in Annex B.
func joined(t testing.TB, payloads [][]byte) []byte {
	t.Helper()
	var out []byte
	d := &codecs.H264Packet{}
	for _, p := range payloads {
		b, err := d.Unmarshal(p)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b...)
	}
	return out
}

// runs returns how many messages the pieces leave in.
func runs(pieces []piece) (n int) {
	room := 0
	for _, p := range pieces {
		switch size := len(p.data); {
		case room == 0 || size > room:
			n, room = n+1, size
		case size < room:
			room = 0
		}
	}
	return n
}

func stripped(pieces []piece) (out [][]byte) {
	for _, p := range pieces {
		out = append(out, p.unpadded())
	}
	return out
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		name     string
		payloads [][]byte
		before   int // messages
		after    int
		extra    float64 // share of bytes at most
	}{
		{"one slice", packetized(1188, nal(0x65, 17000)), 1, 1, 0.001}, // with room for sound in the end
		{"four slices", packetized(1188, nal(0x65, 4100), nal(0x65, 3900), nal(0x65, 4700), nal(0x65, 3100)), 4, 1, 0.05},
		{"four slices behind a message", packetized(1188, nal(6, 50), nal(0x65, 4100), nal(0x65, 3900), nal(0x65, 4700), nal(0x65, 3100)), 5, 2, 0.05},
		{"a packetizer that makes the last ones larger", [][]byte{fu(0x80, 1000), fu(0, 1000), fu(0, 1001), fu(0x40, 1001)}, 2, 1, 0.001},
		{"a picture of one packet", packetized(1188, nal(0x41, 800)), 1, 1, 0},
		{"a picture of a browser", [][]byte{fu(0x80, 1100), fu(0, 1100), fu(0, 1101), fu(0x40, 1101)}, 2, 1, 0.001},
		{"slices that nothing fits together", packetized(1188, nal(0x65, 1000), nal(0x65, 300), nal(0x65, 900)), 2, 2, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var k cutter
			var as []piece
			before := 0
			for _, p := range c.payloads {
				as = append(as, piece{data: p})
				before += len(p)
			}
			pieces := k.cut(media.H264, c.payloads)
			after := 0
			for _, p := range pieces {
				after += len(p.data)
				if len(p.data) > 1188 {
					t.Errorf("a payload of %d bytes", len(p.data))
				}
			}
			t.Logf("%d packets, %d bytes → %d, %d", len(c.payloads), before, len(pieces), after)
			if got := runs(as); got != c.before {
				t.Errorf("%d messages as it came, want %d", got, c.before)
			}
			if got := runs(pieces); got != c.after {
				t.Errorf("%d messages, want %d", got, c.after)
			}
			if float64(after) > float64(before)*(1+c.extra) {
				t.Errorf("%d bytes became %d", before, after)
			}
			if !bytes.Equal(joined(t, stripped(pieces)), joined(t, c.payloads)) {
				t.Error("other NAL units come out")
			}
		})
	}
}

func fu(flags byte, size int) []byte {
	b := nal(0x7c, size)
	b[1] = flags | 5
	return b
}

// Parts of a picture, as a slow publisher brings them, are cut each for itself.
func TestCutParts(t *testing.T) {
	whole := packetized(1188, nal(0x65, 9000), nal(0x65, 5000))
	for at := 1; at < len(whole); at++ {
		var k cutter
		var got [][]byte
		got = append(got, stripped(k.cut(media.H264, whole[:at]))...)
		got = append(got, stripped(k.cut(media.H264, whole[at:]))...)
		if !bytes.Equal(joined(t, got), joined(t, whole)) {
			t.Errorf("cut at %d, other NAL units come out", at)
		}
	}
}

// What goes out holds the same bytes as what came in, whatever that was.
func FuzzCut(f *testing.F) {
	f.Add([]byte{0x7c, 0x85, 1, 2}, []byte{0x7c, 5, 3}, []byte{0x7c, 0x45, 4}, uint16(300), false)
	f.Add([]byte{0x62, 1, 0x93, 1}, []byte{0x62, 1, 0x13, 3}, []byte{0x62, 1, 0x53, 4}, uint16(1100), true)
	f.Add([]byte{6, 1}, []byte{0x65}, []byte{0x41, 4}, uint16(1), false)
	f.Add([]byte{0x5c, 0x30, 1, 2}, []byte{0}, []byte{0}, uint16(25), false)
	f.Fuzz(func(t *testing.T, a, b, c []byte, grow uint16, h265 bool) {
		codec := media.H264
		if h265 {
			codec = media.H265
		}
		b = append(bytes.Clone(b), make([]byte, grow%1400)...)
		var payloads [][]byte
		for _, p := range [][]byte{a, b, a, b, c} {
			if len(p) > 0 {
				payloads = append(payloads, bytes.Clone(p))
			}
		}
		var k cutter
		var want, got []byte
		largest := 0
		for _, p := range payloads {
			head, _, _ := fragment(codec, p)
			want = append(want, p[head:]...)
			largest = max(largest, len(p))
		}
		for _, p := range k.cut(codec, payloads) {
			if p.padded > 0 && int(p.data[len(p.data)-1]) != p.padded {
				t.Fatalf("padding says %d of %d bytes", p.data[len(p.data)-1], p.padded)
			}
			plain := p.unpadded()
			if len(p.data) > largest || len(plain) == 0 {
				t.Fatalf("a payload of %d bytes", len(p.data))
			}
			head, first, last := fragment(codec, plain)
			if first && last {
				t.Fatal("a fragment that is a whole unit")
			}
			got = append(got, plain[head:]...)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%x became %x", want, got)
		}
	})
}

func BenchmarkCut(b *testing.B) {
	payloads := packetized(1188, nal(6, 50), nal(0x65, 4100), nal(0x65, 3900), nal(0x65, 4700), nal(0x65, 3100))
	var k cutter
	b.ReportAllocs()
	for b.Loop() {
		k.cut(media.H264, payloads)
	}
}
