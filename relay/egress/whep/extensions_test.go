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
		codecs: func(m *webrtc.MediaEngine) error {
			if err := m.RegisterDefaultCodecs(); err != nil {
				return err
			}
			return m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"}, webrtc.RTPCodecTypeVideo)
		}})
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
	bounded, keys := 0, 0
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
		if d := q.GetExtension(playout); d != nil {
			if bounded++; !bytes.Equal(d, []byte{0, 0, 50}) { // 0 to 500 ms
				t.Errorf("playout-delay is %x", d)
			}
		}
		if startsKey(q.Payload) && (i == 0 || packets[i-1].Marker) {
			keys++
		}
	}
	if bounded != keys || keys < 2 {
		t.Errorf("%d key frames, %d bounds", keys, bounded)
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
