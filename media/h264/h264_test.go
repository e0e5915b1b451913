package h264

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"gantry/media"
)

// accessUnits splits a recorded stream; each of its access units begins with parameter sets, SEI or a first slice.
func accessUnits(t testing.TB, name string) [][]byte {
	t.Helper()
	stream, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var units [][]byte
	var unit []byte
	picture := false
	for nalu := range NALUs(stream) {
		typ := TypeOf(nalu)
		firstSlice := typ.slice() && nalu[1]&0x80 != 0 // first_mb_in_slice 0
		if picture && (!typ.slice() || firstSlice) {
			units, unit, picture = append(units, unit), nil, false
		}
		picture = picture || typ.slice()
		unit = Append(unit, nalu)
	}
	return append(units, unit)
}

func TestNALUs(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     []string
	}{
		{"empty", "", nil},
		{"no start code", "\x65\x88", nil},
		{"only a start code", "\x00\x00\x01", nil},
		{"short and long codes", "\x00\x00\x01\x67a\x00\x00\x00\x01\x68b\x00\x00\x01\x65c", []string{"\x67a", "\x68b", "\x65c"}},
		{"trailing zeros", "\x00\x00\x01\x67a\x00\x00\x00\x00\x00\x01\x68b\x00\x00", []string{"\x67a", "\x68b"}},
		{"leading bytes and empty units", "xy\x00\x00\x01\x00\x00\x01\x65c", []string{"\x65c"}},
	} {
		var got []string
		for n := range NALUs([]byte(c.in)) {
			got = append(got, string(n))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestNALUsDoNotAllocate(t *testing.T) {
	au := accessUnits(t, "baseline.h264")[0]
	if n := testing.AllocsPerRun(100, func() {
		if !HasIDR(au) || Slices(au) != 1 {
			t.Fatal("not one IDR slice")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestParseSPS(t *testing.T) {
	for name, want := range map[string]Info{
		"baseline.h264": {Width: 192, Height: 106, ProfileLevelID: "42c00b", FPS: 30, Matrix: media.MatrixBT709,
			Range: media.RangeLimited, MaxReorder: 0},
		"bframes.h264": {Width: 96, Height: 64, ProfileLevelID: "64000a", FPS: 30, MaxReorder: 2},
		"interlaced.h264": {Width: 96, Height: 64, ProfileLevelID: "4d4015", FPS: 30, Matrix: media.MatrixBT601,
			Range: media.RangeFull, Interlaced: true, MaxReorder: 0},
	} {
		var sets ParameterSets
		sets.Learn(accessUnits(t, name)[0])
		got, err := ParseSPS(sets.SPS())
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", name, got, err, want)
		}
	}
	for _, bad := range [][]byte{nil, {0x67}, {0x68, 1, 2, 3, 4}, {0x67, 0x42, 0xc0, 0x1f}} {
		if _, err := ParseSPS(bad); err == nil {
			t.Errorf("%x: no error", bad)
		}
	}
}

func TestParameterSetsGoBeforeEachIDR(t *testing.T) {
	units := accessUnits(t, "baseline.h264")
	var sets ParameterSets
	if !sets.Learn(units[0]) || !sets.Complete() {
		t.Fatal("nothing learnt from the first access unit")
	}
	if sets.Learn(units[0]) {
		t.Error("the same parameter sets are not a change")
	}
	if got := sets.Ensure(units[0]); &got[0] != &units[0][0] {
		t.Error("a complete access unit was copied")
	}
	if got := sets.Ensure(units[1]); &got[0] != &units[1][0] {
		t.Error("a picture that is no key frame was copied")
	}
	idr := units[8]
	if !HasIDR(idr) {
		t.Fatal("no IDR picture where one was made")
	}
	bare := Append(nil, []byte{byte(AUD), 0x10})
	for n := range NALUs(idr) {
		if t := TypeOf(n); t != SPS && t != PPS {
			bare = Append(bare, n)
		}
	}
	var types []Type
	for n := range NALUs(sets.Ensure(bare)) {
		types = append(types, TypeOf(n))
	}
	if !slices.Equal(types, []Type{AUD, SPS, PPS, IDR}) {
		t.Errorf("order %v", types)
	}
	if got := new(ParameterSets).Ensure(bare); !bytes.Equal(got, bare) {
		t.Error("changed without anything to insert")
	}
	other := bytes.Clone(sets.SPS())
	other[3]++ // another level
	if !sets.Learn(Append(nil, other)) || !bytes.Equal(sets.SPS(), other) {
		t.Error("a changed SPS with the same id was not taken")
	}
}

func TestOrder(t *testing.T) {
	for name, want := range map[string]bool{"baseline.h264": false, "interlaced.h264": false, "bframes.h264": true} {
		var o Order
		var b, reordered bool
		for _, au := range accessUnits(t, name) {
			p := o.Observe(au)
			b, reordered = b || p.B, reordered || p.Reordered
		}
		if b != want || reordered != want {
			t.Errorf("%s: B %v, reordered %v, want both %v", name, b, reordered, want)
		}
	}
}

func TestSetColour(t *testing.T) {
	for _, name := range []string{"baseline.h264", "bframes.h264", "interlaced.h264"} {
		var sets ParameterSets
		sets.Learn(accessUnits(t, name)[0])
		want, err := ParseSPS(sets.SPS())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range []media.ColourMatrix{media.MatrixUnspecified, media.MatrixBT601, media.MatrixBT709, media.MatrixBT2020} {
			for _, r := range []media.ColourRange{media.RangeLimited, media.RangeFull} {
				transfer := media.TransferSDR
				if m == media.MatrixBT2020 {
					transfer = media.TransferPQ + media.ColourTransfer(r-media.RangeLimited) // the one, then the other
				}
				sps, err := SetColour(sets.SPS(), m, r, transfer)
				if err != nil {
					t.Fatal(err)
				}
				want.Matrix, want.Range, want.Transfer = m, r, transfer
				if got, err := ParseSPS(sps); err != nil || got != want {
					t.Errorf("%s: got %+v, %v; want %+v", name, got, err, want)
				}
				back, err := SetColour(sps, want.Matrix, want.Range, want.Transfer)
				if err != nil || !bytes.Equal(back, sps) {
					t.Errorf("%s: the same colour again changes the set: %v", name, err)
				}
			}
		}
	}
	// Without VUI, as some hardware writes it: 1280x720, constrained baseline.
	bare := []byte{0x67, 0x42, 0xc0, 0x1f, 0x8c, 0x8d, 0x40, 0x28, 0x02, 0xdc, 0x80}
	sps, err := SetColour(bare, media.MatrixBT709, media.RangeLimited, media.TransferSDR)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseSPS(sps); err != nil || got.Width != 1280 || got.Height != 720 || got.Matrix != media.MatrixBT709 ||
		got.Range != media.RangeLimited || got.MaxReorder != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range [][]byte{nil, {0x67}, {0x68, 1, 2, 3, 4}, {0x67, 0x42, 0xc0, 0x1f}} {
		if _, err := SetColour(bad, media.MatrixBT709, media.RangeLimited, media.TransferSDR); err == nil {
			t.Errorf("%x: no error", bad)
		}
	}
}

func FuzzAccessUnit(f *testing.F) {
	for _, name := range []string{"baseline.h264", "bframes.h264", "interlaced.h264"} {
		for _, au := range accessUnits(f, name)[:3] {
			f.Add(au)
		}
	}
	f.Fuzz(func(t *testing.T, au []byte) {
		var sets ParameterSets
		var o Order
		sets.Learn(au)
		o.Observe(au)
		o.Observe(au)
		_, _ = ParseSPS(sets.SPS())
		var copied []byte
		for n := range NALUs(au) {
			copied = Append(copied, n)
		}
		var a, b [][]byte
		for n := range NALUs(au) {
			a = append(a, n)
		}
		for n := range NALUs(copied) {
			b = append(b, n)
		}
		if !slices.EqualFunc(a, b, bytes.Equal) {
			t.Fatalf("units change when written again: %x, %x", a, b)
		}
		whole := sets.Ensure(au)
		if HasIDR(whole) != HasIDR(au) || Slices(whole) != Slices(au) {
			t.Fatal("inserting parameter sets changed the picture")
		}
		if again := sets.Ensure(whole); !bytes.Equal(again, whole) {
			t.Fatal("inserted twice")
		}
	})
}

func FuzzParseSPS(f *testing.F) {
	for _, name := range []string{"baseline.h264", "bframes.h264", "interlaced.h264"} {
		var sets ParameterSets
		sets.Learn(accessUnits(f, name)[0])
		f.Add(sets.SPS())
	}
	f.Fuzz(func(t *testing.T, nalu []byte) {
		info, err := ParseSPS(nalu)
		if err == nil && (info.Width < 1 || info.Height < 1) {
			t.Fatalf("%+v", info)
		}
		if timed, timingErr := SetTiming(nalu); err == nil && timingErr == nil {
			again, err := ParseSPS(timed)
			if want := info; again.MaxReorder != want.MaxReorder && want.MaxReorder >= 0 || err != nil || again.Width != want.Width || again.Matrix != want.Matrix {
				t.Fatalf("with timing: %+v, %v; want %+v", again, err, want)
			}
			if _, err := SetTiming(timed); err == nil {
				t.Fatal("timing twice")
			}
		}
		sps, colourErr := SetColour(nalu, media.MatrixBT709, media.RangeFull, media.TransferSDR)
		if err != nil || colourErr != nil {
			return
		}
		again, err := ParseSPS(sps)
		info.Matrix, info.Range, info.Transfer = media.MatrixBT709, media.RangeFull, media.TransferSDR
		if info.MaxReorder < 0 {
			info.MaxReorder = again.MaxReorder // a new VUI promises something
		}
		if err != nil || again != info {
			t.Fatalf("with colour: %+v, %v; want %+v", again, err, info)
		}
	})
}

func BenchmarkOrder(b *testing.B) {
	au := accessUnits(b, "bframes.h264")[1]
	var o Order
	o.Observe(accessUnits(b, "bframes.h264")[0])
	b.ReportAllocs()
	for b.Loop() {
		o.Observe(au)
	}
}

func TestLevel(t *testing.T) {
	for _, c := range []struct {
		w, h    int
		fps     float64
		bitrate int
		want    uint8
	}{
		{320, 180, 30, 300_000, 31}, {1280, 720, 30, 2_500_000, 31}, {1280, 720, 60, 2_500_000, 32},
		{1280, 720, 30, 18_000_000, 32}, {1920, 1080, 30, 6_000_000, 40}, {1920, 1080, 60, 6_000_000, 42},
		{3840, 2160, 30, 20_000_000, 51}, {3840, 2160, 60, 20_000_000, 52}, {8192, 8192, 300, 1, 62},
	} {
		if got := Level(c.w, c.h, c.fps, c.bitrate); got != c.want {
			t.Errorf("%+v: level %d", c, got)
		}
	}
	if a, b, c := MaxBitrate(66, 31), MaxBitrate(100, 31), MaxBitrate(66, 3); a != 14_000_000 || b != 17_500_000 || c != 0 {
		t.Error(a, b, c)
	}
}
