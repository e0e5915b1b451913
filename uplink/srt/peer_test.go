package srt

import (
	"io"
	"testing"
	"time"

	gosrt "github.com/datarhei/gosrt"

	"gantry/media"
	"gantry/uplink"
)

// A crowded conn has a full queue now and then, and is alive until it is closed.
type crowded struct {
	gosrt.Conn
	full    bool
	written int
	closed  chan struct{}
}

func (c *crowded) Write(b []byte) (int, error) {
	if c.full {
		return 0, io.EOF // as gosrt says it
	}
	c.written += len(b)
	return len(b), nil
}

func (c *crowded) Read([]byte) (int, error) { <-c.closed; return 0, io.EOF }
func (c *crowded) Close() error             { close(c.closed); return nil }

// A full queue costs pictures up to the next key frame, and not the connection.
func TestFullQueueIsNoLostConnection(t *testing.T) {
	conn := &crowded{closed: make(chan struct{})}
	p, err := newPeer(conn, uplink.Program{Tracks: []media.Track{{Codec: media.H264, ClockRate: 90000}, {Codec: media.Opus, ClockRate: 48000, Channels: 2}}}, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	n := 0
	picture := func(key bool) (wantKey bool, sent int) {
		n++
		before, at := conn.written, time.Duration(n)*time.Second/30
		au := []byte{0, 0, 0, 1, 0x41, 0x9a, 1, 2, 3}
		if key {
			au = []byte{0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x0d, 0xd9, 1, 0x41, 0x9f, 0, 0, 0, 1, 0x68, 0xcb, 0x83, 0xcb, 0, 0, 0, 1, 0x65, 0x88, 1, 2, 3}
		}
		wantKey = p.write(&media.Packet{PTS: at, DTS: at, Start: true, End: true, Key: key, Data: au})
		return wantKey, conn.written - before
	}
	if want, sent := picture(true); want || sent == 0 {
		t.Fatalf("the first key frame: %v, %d bytes", want, sent)
	}
	conn.full = true
	if want, _ := picture(false); !want || p.ended() || p.full == 0 {
		t.Fatalf("a full queue: key frame wanted %v, ended %v, %d dropped", want, p.ended(), p.full)
	}
	conn.full = false
	if want, sent := picture(false); !want || sent != 0 {
		t.Errorf("a picture that cannot be decoded: %v, %d bytes", want, sent)
	}
	sound := time.Second
	p.write(&media.Packet{Track: 1, PTS: sound, DTS: sound, Start: true, End: true, Key: true, Data: []byte{0xfc, 0xff, 0xfe}})
	if want, sent := picture(true); want || sent == 0 {
		t.Errorf("the next key frame: %v, %d bytes", want, sent)
	}
}
