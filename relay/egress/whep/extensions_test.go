package whep_test

import (
	"bytes"
	"encoding/binary"
	"regexp"
	"strconv"
	"testing"

	"github.com/pion/webrtc/v4"
)

// Each packet of video has a transport-wide sequence number, and each key frame the bounds of the player's delay, where the
// client wants them; a client that does not gets neither.
func TestExtensions(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	p := publish(t, b.hub, "demo", nil)
	var answer string
	c := b.play(t, "demo", clientOptions{interceptor: true, answer: func(s string) string { answer = s; return s },
		codecs: withPlayoutDelay})
	packets := c.pictures(70, p)
	id := func(name string) uint8 {
		t.Helper()
		m := regexp.MustCompile(`a=extmap:(\d+) \S*` + name).FindStringSubmatch(answer)
		if m == nil {
			t.Fatalf("the answer has no %s:\n%s", name, answer)
		}
		n, _ := strconv.Atoi(m[1])
		return uint8(n)
	}
	transport, playout := id("transport-wide-cc"), id("playout-delay")
	keys, told := 0, 0
	least := uint16(0)
	for i, q := range packets {
		seq := q.GetExtension(transport)
		if len(seq) != 2 {
			t.Fatalf("packet %d has no transport-wide sequence number: %v", i, q.Header)
		}
		if i > 0 {
			if before := packets[i-1].GetExtension(transport); binary.BigEndian.Uint16(seq) != binary.BigEndian.Uint16(before)+1 {
				t.Fatalf("packet %d: %x after %x", i, seq, before)
			}
		}
		key := startsKey(q.Payload) && (i == 0 || packets[i-1].Marker)
		if key {
			keys++
		}
		d := q.GetExtension(playout)
		if d == nil {
			if key {
				t.Errorf("key frame %d has no playout-delay", keys)
			}
			continue
		}
		// Pictures wait for their sound longer and longer, in steps that nobody sees.
		now, most := uint16(d[0])<<4|uint16(d[1])>>4, uint16(d[1]&15)<<8|uint16(d[2])
		if now > least+1 || now < least || now == least && !key || i == 0 && now != 0 || most != 50 { // 10 ms each
			t.Errorf("playout-delay is %x after %d", d, least)
		}
		least = now
		told++
	}
	if least != 6 || keys < 2 || told > keys+6 {
		t.Errorf("playout-delay of %d key frames in all is told %d times, %d in the end", keys, told, least)
	}
	silent := b.play(t, "demo", clientOptions{interceptor: true, videoOnly: true, codecs: withPlayoutDelay})
	for _, q := range silent.pictures(10, p) {
		if d := q.GetExtension(playout); d != nil && !bytes.Equal(d, []byte{0, 0, 50}) {
			t.Errorf("without sound, playout-delay is %x", d)
		}
	}
	plain := b.play(t, "demo", clientOptions{})
	for _, q := range plain.pictures(5, p) {
		for _, id := range q.GetExtensionIDs() {
			if len(q.GetExtension(id)) != 8 { // abs-capture-time
				t.Fatalf("an extension that was not offered: %v", q.Header)
			}
		}
	}
}

func withPlayoutDelay(m *webrtc.MediaEngine) error {
	if err := m.RegisterDefaultCodecs(); err != nil {
		return err
	}
	return m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"}, webrtc.RTPCodecTypeVideo)
}
