package packing_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gantry/media"
	"gantry/media/packing"
)

func convert(t testing.TB, track media.Track, want media.Packing, in ...*media.Packet) (out []*media.Packet) {
	t.Helper()
	c, err := packing.New(track, want)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range in {
		out = c.Convert(out, p)
	}
	return out
}

// annexB returns an access unit of NAL units with 4-byte start codes.
func annexB(units ...[]byte) []byte {
	var b []byte
	for _, u := range units {
		b = append(append(b, 0, 0, 0, 1), u...)
	}
	return b
}

// unit returns a NAL unit with the given header and n bytes that hold no start code.
func unit(n int, header ...byte) []byte {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	for range n {
		header = append(header, byte(1+r.IntN(255)))
	}
	return header
}

func rtpTrack(c media.Codec) media.Track { return media.Track{Codec: c, Packing: media.RTP} }

func TestRoundTrip(t *testing.T) {
	for _, c := range []struct {
		codec media.Codec
		data  []byte
		least int // payloads
	}{
		{media.H264, annexB(unit(10, 0x67), unit(4, 0x68), unit(5000, 0x65)), 5},
		{media.H264, annexB(unit(100, 0x41)), 1},
		{media.H265, annexB(unit(20, 0x40, 1), unit(20, 0x42, 1), unit(8, 0x44, 1), unit(4000, 0x26, 1)), 4},
		{media.Opus, unit(200), 1},
	} {
		in := &media.Packet{PTS: time.Second, Start: true, End: true, Key: true, Data: c.data}
		pieces := convert(t, media.Track{Codec: c.codec}, media.RTP, in)
		if len(pieces) < c.least || !pieces[0].Start || !pieces[len(pieces)-1].End {
			t.Fatalf("%v: %d pieces", c.codec, len(pieces))
		}
		for _, p := range pieces {
			if len(p.Data) > packing.MaxPayload || !p.Key || p.PTS != time.Second {
				t.Fatalf("%v: piece %+v of %d bytes", c.codec, p, len(p.Data))
			}
		}
		units := convert(t, rtpTrack(c.codec), media.AccessUnits, pieces...)
		if len(units) != 1 || !bytes.Equal(units[0].Data, c.data) || !units[0].Key {
			t.Fatalf("%v: %d units came back, or other bytes", c.codec, len(units))
		}
	}
}

func TestLostPieceDropsItsUnit(t *testing.T) {
	var pieces []*media.Packet
	for i := range 3 {
		au := &media.Packet{PTS: time.Duration(i) * time.Second, Start: true, End: true, Data: annexB(unit(4000, 0x41))}
		pieces = append(pieces, convert(t, media.Track{Codec: media.H264}, media.RTP, au)...)
	}
	per := len(pieces) / 3
	after := *pieces[per+2]
	after.Lost = true
	pieces[per+2] = &after
	pieces = slices.Delete(pieces, per+1, per+2)
	units := convert(t, rtpTrack(media.H264), media.AccessUnits, pieces...)
	if len(units) != 2 || units[0].Lost || !units[1].Lost || units[1].PTS != 2*time.Second {
		t.Fatalf("%d units: %+v", len(units), units)
	}
}

func TestSamePackingPassesThrough(t *testing.T) {
	p := &media.Packet{Data: []byte{1}}
	if got := convert(t, rtpTrack(media.AAC), media.RTP, p); len(got) != 1 || got[0] != p {
		t.Fatal(got)
	}
	if _, err := packing.New(media.Track{Codec: media.AAC}, media.RTP); err == nil {
		t.Fatal("AAC packed for RTP")
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte{0x41, 1, 2, 3}, uint8(media.H264))
	f.Add([]byte{28, 0x85, 1, 2, 3}, uint8(media.H264))
	f.Add([]byte{0x78, 0, 2, 0x67, 1, 0, 2, 0x68, 1}, uint8(media.H264))
	f.Add([]byte{0x10, 0x0a, 1, 2}, uint8(media.AV1))
	f.Fuzz(func(t *testing.T, data []byte, codec uint8) {
		c, err := packing.New(rtpTrack(media.Codec(codec)), media.AccessUnits)
		if err != nil {
			return
		}
		var out []*media.Packet
		for len(data) > 1 { // the first byte gives the length and the marks of each piece
			n := min(int(data[0]&63), len(data)-1)
			out = c.Convert(out, &media.Packet{Start: data[0]&64 != 0, End: data[0]&128 != 0, Data: data[1 : 1+n]})
			data = data[1+n:]
		}
		for _, p := range out {
			if len(p.Data) == 0 {
				t.Fatal("an empty access unit")
			}
		}
	})
}
