package serial

import (
	"bytes"
	"errors"
	"testing"
)

func must(m Message, err error) Message {
	if err != nil {
		panic(err)
	}
	return m
}

// The packets are those of Sony's command lists for its EVI and BRC cameras.
func TestPackets(t *testing.T) {
	for _, c := range []struct {
		name string
		m    Message
		want []byte
	}{
		{"power on", PowerOn, []byte{0x81, 0x01, 0x04, 0x00, 0x02, 0xff}},
		{"left and up", must(Drive(-24, 20)), []byte{0x81, 0x01, 0x06, 0x01, 0x18, 0x14, 0x01, 0x01, 0xff}},
		{"right and down", must(Drive(1, -2)), []byte{0x81, 0x01, 0x06, 0x01, 0x01, 0x02, 0x02, 0x02, 0xff}},
		{"stop", must(Drive(0, 0)), []byte{0x81, 0x01, 0x06, 0x01, 0x01, 0x01, 0x03, 0x03, 0xff}},
		{"tele", must(Zoom(8)), []byte{0x81, 0x01, 0x04, 0x07, 0x27, 0xff}},
		{"wide", must(Zoom(-1)), []byte{0x81, 0x01, 0x04, 0x07, 0x30, 0xff}},
		{"zoom stop", must(Zoom(0)), []byte{0x81, 0x01, 0x04, 0x07, 0x00, 0xff}},
		{"zoom to", must(ZoomTo(0x1234)), []byte{0x81, 0x01, 0x04, 0x47, 0x01, 0x02, 0x03, 0x04, 0xff}},
		{"recall", must(RecallPreset(5)), []byte{0x81, 0x01, 0x04, 0x3f, 0x02, 0x05, 0xff}},
		{"store", must(StorePreset(127)), []byte{0x81, 0x01, 0x04, 0x3f, 0x01, 0x7f, 0xff}},
		{"inquiry", InquirePosition, []byte{0x81, 0x09, 0x06, 0x12, 0xff}},
	} {
		if got, err := c.m.Packet(1); err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("%s: % x, %v, want % x", c.name, got, err, c.want)
		}
	}
	if got := AddressSet(); !bytes.Equal(got, []byte{0x88, 0x30, 0x01, 0xff}) {
		t.Errorf("address set: % x", got)
	}
	for i, err := range []error{second(Drive(25, 0)), second(Drive(0, -21)), second(Zoom(9)), second(ZoomTo(-1)), second(ZoomTo(0x4001)),
		second(RecallPreset(128)), second(StorePreset(-1))} {
		if err == nil {
			t.Errorf("case %d: out of range, and no error", i)
		}
	}
	for _, a := range []Address{0, 8} {
		if _, err := PowerOn.Packet(a); err == nil {
			t.Errorf("address %d: no error", a)
		}
	}
}

func second(_ Message, err error) error { return err }

func TestParseReply(t *testing.T) {
	for _, c := range []struct {
		packet []byte
		want   Reply
	}{
		{[]byte{0x90, 0x41, 0xff}, Reply{From: 1, Kind: Acknowledged, Socket: 1}},
		{[]byte{0xf0, 0x52, 0xff}, Reply{From: 7, Kind: Completed, Socket: 2}},
		{[]byte{0x90, 0x50, 0x02, 0xff}, Reply{From: 1, Kind: Completed, Data: []byte{2}}},
		{[]byte{0xa0, 0x61, 0x41, 0xff}, Reply{From: 2, Kind: Refused, Socket: 1, Code: NotExecutable}},
		{[]byte{0x88, 0x30, 0x03, 0xff}, Reply{Kind: Addressed, Data: []byte{3}}},
		{[]byte{0x90, 0x38, 0xff}, Reply{From: 1, Kind: NetworkChange}},
	} {
		got, err := ParseReply(c.packet)
		if err != nil || got.From != c.want.From || got.Kind != c.want.Kind || got.Socket != c.want.Socket || got.Code != c.want.Code || !bytes.Equal(got.Data, c.want.Data) {
			t.Errorf("% x: %+v, %v", c.packet, got, err)
		}
	}
	for _, p := range [][]byte{nil, {0xff}, {0x90, 0xff}, {0x81, 0x01, 0x04, 0x00, 0x02, 0xff}, {0x91, 0x41, 0xff}, {0x90, 0x41}, {0x90, 0x41, 0x00, 0xff},
		{0x90, 0x60, 0xff}, {0x90, 0x70, 0xff}, {0x88, 0x30, 0x09, 0xff}, {0x88, 0x30, 0x00, 0xff}, {0x90, 0xff, 0xff}, append(make([]byte, 16), 0xff)} {
		if r, err := ParseReply(p); err == nil {
			t.Errorf("% x: %+v", p, r)
		}
	}
}

func TestNextPacket(t *testing.T) {
	p, rest := nextPacket([]byte{0xff, 0x12, 0xff, 0x90, 0x41, 0xff, 0x90})
	if !bytes.Equal(p, []byte{0x90, 0x41, 0xff}) || !bytes.Equal(rest, []byte{0x90}) {
		t.Errorf("% x, % x", p, rest)
	}
	if p, rest = nextPacket(make([]byte, 16)); p != nil || len(rest) != 0 {
		t.Errorf("noise: % x, % x", p, rest)
	}
}

func TestNumbers(t *testing.T) {
	if pan, tilt, err := parsePosition([]byte{0xf, 0xf, 0xf, 0xe, 0, 0, 1, 0}); err != nil || pan != -2 || tilt != 16 {
		t.Errorf("%d, %d, %v", pan, tilt, err)
	}
	if _, err := parseZoom([]byte{0, 0, 0, 0x10}); err == nil {
		t.Error("a nibble of 16")
	}
	if _, err := parsePower([]byte{4}); err == nil {
		t.Error("power 4")
	}
	if !errors.Is(NotExecutable, Code(0x41)) || Code(0x99).Error() == "" {
		t.Error("codes")
	}
}

func FuzzParseReply(f *testing.F) {
	f.Add([]byte{0x90, 0x41, 0xff, 0x90, 0x51, 0xff})
	f.Add([]byte{0xff, 0x90, 0x50, 0, 1, 2, 3, 0xff})
	f.Add([]byte{0x88, 0x30, 0x02, 0xff})
	f.Add([]byte{0x90, 0x50, 0xf, 0xf, 0xf, 0xe, 0, 0, 1, 0, 0xff})
	f.Fuzz(func(t *testing.T, received []byte) {
		for {
			p, rest := nextPacket(received)
			if p == nil {
				if len(rest) >= maxPacket {
					t.Fatalf("%d bytes kept", len(rest))
				}
				return
			}
			if len(rest) >= len(received) {
				t.Fatal("no progress")
			}
			received = rest
			r, err := ParseReply(p)
			if err != nil {
				continue
			}
			if r.Kind == 0 || r.From > maxAddress || (r.From == 0) != (r.Kind == Addressed) {
				t.Fatalf("% x: %+v", p, r)
			}
			parsePower(r.Data)
			parseZoom(r.Data)
			parsePosition(r.Data)
		}
	})
}
