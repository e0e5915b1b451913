package mpegts

import (
	"bytes"
	"io"
	"log/slog"
	"testing"
	"time"

	"gantry/media"
)

// What Writer writes, Read and Units give back bit by bit.
func TestUnits(t *testing.T) {
	var wire bytes.Buffer
	tracks := []media.Track{{Codec: media.H264, ClockRate: 90000}, {Codec: media.Opus, ClockRate: 48000, Channels: 2}}
	w, err := NewWriter(&wire, tracks)
	if err != nil {
		t.Fatal(err)
	}
	idr := []byte{0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x01, 0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80, 0, 0, 0, 1, 0x65, 0x88, 0x84, 0x11}
	slice := []byte{0, 0, 0, 1, 0x41, 0x9a, 0x02, 0x33}
	sound := []byte{0xfc, 0xff, 0xfe}
	for i := range 40 {
		at := time.Duration(i) * 40 * time.Millisecond
		p := &media.Packet{PTS: at, DTS: at, Key: i%10 == 0, Data: slice}
		if p.Key {
			p.Data = idr
		}
		if err := w.Write(p); err != nil {
			t.Fatal(err)
		}
		if err := w.Write(&media.Packet{Track: 1, PTS: at, DTS: at, Data: sound}); err != nil {
			t.Fatal(err)
		}
	}
	var got [2][]*media.Packet
	u := &Units{Begin: func([]media.Track) error { return nil }, Packet: func(p *media.Packet) { got[p.Track] = append(got[p.Track], p) }, Log: slog.New(slog.DiscardHandler)}
	if err := Read(&wire, u, u.Log); err != io.EOF {
		t.Fatal(err)
	}
	if len(got[0]) < 38 || len(got[1]) < 38 { // the last ones wait for what follows
		t.Fatalf("%d pictures, %d of sound", len(got[0]), len(got[1]))
	}
	for i, p := range got[0] {
		want := slice
		if i%10 == 0 {
			want = idr
		}
		if !bytes.Equal(p.Data, want) || p.Key != (i%10 == 0) || p.DTS-got[0][0].DTS != time.Duration(i)*40*time.Millisecond {
			t.Fatalf("picture %d: %v %v %x", i, p.Key, p.DTS, p.Data)
		}
	}
}

func FuzzUnits(f *testing.F) {
	f.Add(bytes.Repeat(append([]byte{0x47, 0x40, 0, 0x10}, make([]byte, 184)...), 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		u := &Units{Begin: func([]media.Track) error { return nil }, Log: slog.New(slog.DiscardHandler)}
		u.Packet = func(p *media.Packet) {
			if len(p.Data) == 0 || p.PTS < p.DTS {
				t.Errorf("%+v", p)
			}
		}
		if err := Read(bytes.NewReader(b), u, u.Log); err == nil {
			t.Error("no end")
		}
	})
}
