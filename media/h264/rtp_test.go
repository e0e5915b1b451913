package h264

import (
	"bytes"
	"slices"
	"testing"
)

func TestRTPUnits(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     []RTPUnit
	}{
		{"empty", "", nil},
		{"one byte", "\x65", nil},
		{"type 0", "\x00\x01", nil},
		{"single", "\x65\x88x", []RTPUnit{{0x65, []byte("\x88x"), true}}},
		{"STAP-A", "\x78\x00\x02\x67a\x00\x03\x68bc", []RTPUnit{{0x67, []byte("a"), true}, {0x68, []byte("bc"), true}}},
		{"STAP-A, second too long", "\x78\x00\x02\x67a\x00\x04\x68bc", []RTPUnit{{0x67, []byte("a"), true}}},
		{"STAP-A, empty unit", "\x78\x00\x00\x00\x02\x67a", nil},
		{"FU-A, first", "\x7c\x85\x88x", []RTPUnit{{0x65, []byte("\x88x"), false}}},
		{"FU-A, middle", "\x7c\x05\x88x", nil},
		{"FU-A, header only", "\x7c\x85", nil},
		{"FU-A, first and last", "\x7c\xc5\x88", []RTPUnit{{0x65, []byte("\x88"), true}}},
		{"STAP-B", "\x79\x00\x00\x00\x02\x67a", nil},
	} {
		got := slices.Collect(RTPUnits([]byte(c.in)))
		if !slices.EqualFunc(got, c.want, func(a, b RTPUnit) bool {
			return a.Header == b.Header && a.Whole == b.Whole && bytes.Equal(a.Body, b.Body)
		}) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestParameterSetsAsRTP(t *testing.T) {
	var sets ParameterSets
	if sets.RTPPayloads(1200) != nil {
		t.Error("payloads without parameter sets")
	}
	sets.Learn(accessUnits(t, "baseline.h264")[0])
	one := sets.RTPPayloads(1200)
	if len(one) != 1 || TypeOf(one[0]) != stapA {
		t.Fatalf("got %x, want one STAP-A", one)
	}
	var again ParameterSets
	for u := range RTPUnits(one[0]) {
		if !again.LearnUnit(u) {
			t.Errorf("unit of type %d is nothing new", u.Type())
		}
	}
	if !bytes.Equal(again.SPS(), sets.SPS()) || !bytes.Equal(again.PPS(), sets.PPS()) {
		t.Error("changed on the way")
	}
	if apart := sets.RTPPayloads(10); len(apart) != 2 || !bytes.Equal(apart[0], sets.SPS()) || !bytes.Equal(apart[1], sets.PPS()) {
		t.Errorf("got %x, want each alone", apart)
	}
}

func TestRTPUnitsDoNotAllocate(t *testing.T) {
	payload := []byte("\x7c\x85\x88x")
	if n := testing.AllocsPerRun(100, func() {
		for u := range RTPUnits(payload) {
			if !u.BeginsPicture() {
				t.Fatal("not a first slice")
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzRTPUnits(f *testing.F) {
	f.Add([]byte("\x78\x00\x02\x67a\x00\x03\x68bc"))
	f.Add([]byte("\x7c\x85\x88x"))
	f.Add([]byte("\x65\x88x"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		var sets ParameterSets
		var o Order
		for u := range RTPUnits(payload) {
			if len(u.Body) >= len(payload) {
				t.Fatalf("%d bytes out of %d", len(u.Body), len(payload))
			}
			sets.LearnUnit(u)
			o.Observe(u.AppendTo(nil, headLen+8))
		}
		for _, p := range sets.RTPPayloads(1200) {
			var n int
			for range RTPUnits(p) {
				n++
			}
			if n == 0 {
				t.Fatalf("%x holds nothing", p)
			}
		}
	})
}
