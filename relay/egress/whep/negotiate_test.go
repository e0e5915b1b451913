package whep

import (
	"errors"
	"strings"
	"testing"
	"time"

	"gantry/internal/proto/whip"
	"gantry/internal/rtc"
	"gantry/media"
)

var fuzzTracks = []media.Track{
	{Codec: media.H264, Packing: media.RTP, ClockRate: 90000, Profile: "42c01f"},
	{Codec: media.Opus, Packing: media.RTP, ClockRate: 48000, Channels: 2},
}

const goodOffer = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n" +
	"m=video 9 UDP/TLS/RTP/SAVPF 102 103\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n" +
	"a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n" +
	"a=setup:actpass\r\na=rtcp-mux\r\na=recvonly\r\na=rtpmap:102 H264/90000\r\na=fmtp:102 packetization-mode=1;profile-level-id=42e01f\r\n" +
	"a=rtcp-fb:102 nack\r\na=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\n" +
	"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=rtcp-mux\r\na=recvonly\r\na=rtpmap:111 opus/48000/2\r\n"

// Whatever a client offers: an answer that our own parser takes, a counter-offer, or a refusal with a 4xx; never a panic.
func FuzzOffer(f *testing.F) {
	f.Add(goodOffer)
	f.Add(strings.ReplaceAll(goodOffer, "H264", "VP8"))
	f.Add(strings.ReplaceAll(goodOffer, "recvonly", "sendonly"))
	f.Add(strings.ReplaceAll(goodOffer, "102", "0"))
	f.Add("v=0\r\n")
	f.Fuzz(func(t *testing.T, offer string) {
		p, remote, err := answerPlan(offer, fuzzTracks)
		if err != nil {
			var mismatch *mismatchError
			var refusal *whip.Error
			if !errors.As(err, &mismatch) && (!errors.As(err, &refusal) || refusal.Status/100 != 4) {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		if !rtc.ValidFingerprint(remote.Fingerprint) || len(remote.Ufrag) < 4 || len(remote.Pwd) < 22 {
			t.Fatalf("accepted with %+v", remote)
		}
		sending := 0
		for _, s := range p.sections {
			if s.track >= 0 {
				sending++
				if s.rtxPT == s.pt {
					t.Fatalf("RTX and media share payload type %d", s.pt)
				}
			}
		}
		if sending == 0 {
			t.Fatal("accepted, and nothing is sent")
		}
		text, err := p.sdp(rtc.Parameters{Ufrag: "ours", Pwd: "ours", Fingerprint: remote.Fingerprint}, false)
		if err != nil {
			t.Fatal(err)
		}
		d, err := parse(text)
		if err != nil {
			t.Fatalf("our own answer: %v\n%s", err, text)
		}
		if len(d.MediaDescriptions) != len(p.sections) {
			t.Fatalf("%d sections for %d", len(d.MediaDescriptions), len(p.sections))
		}
	})
}

// Whatever a client answers to our offer: taken, or refused with a 4xx.
func FuzzAnswer(f *testing.F) {
	p, err := offerPlan(fuzzTracks)
	if err != nil {
		f.Fatal(err)
	}
	offer, err := p.sdp(rtc.Parameters{Ufrag: "ours", Pwd: "ours"}, false)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(offer)
	f.Add(strings.ReplaceAll(goodOffer, "actpass", "active"))
	f.Add(strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(goodOffer, "actpass", "active"), "102", "96"), "103", "97"))
	f.Fuzz(func(t *testing.T, answer string) {
		p, _ := offerPlan(fuzzTracks)
		if _, err := p.accept(answer); err != nil {
			var refusal *whip.Error
			if !errors.As(err, &refusal) || refusal.Status/100 != 4 {
				t.Fatalf("refused with %v", err)
			}
		}
	})
}

func TestDecodes(t *testing.T) {
	for _, c := range []struct {
		stream, offered string
		want            int
	}{
		{"42c01f", "42e01f", 3},
		{"42c028", "42001f", 2}, // constrained baseline in a baseline decoder
		{"42001f", "42e01f", 2}, // no encoder uses what baseline has more
		{"4d401f", "64001f", 2},
		{"4d401f", "42e01f", 0},
		{"640028", "42e01f", 0},
		{"640c28", "64001f", 2},
		{"f4001f", "64001f", 0},
		{"f4001f", "f40032", 3},
		{"", "42e01f", 1},
	} {
		got := decodes(map[string]string{"packetization-mode": "1", "profile-level-id": c.offered}, media.Track{Codec: media.H264, Profile: c.stream})
		if got != c.want {
			t.Errorf("%s for %s: %d, want %d", c.stream, c.offered, got, c.want)
		}
	}
	if decodes(map[string]string{"profile-level-id": "42e01f"}, media.Track{Codec: media.H264}) != 0 {
		t.Error("packetization-mode 0 was taken")
	}
}

// A history keeps the newest group of pictures whole, lets go of the rest in time, and shows gaps.
func TestHistory(t *testing.T) {
	h := newHistory(fuzzTracks[0])
	now := testTime
	write := func(n int, key, lost bool) {
		pts := testPTS(n)
		for i := range 3 {
			h.add(&media.Packet{PTS: pts, Start: i == 0, End: i == 2, Key: key, Lost: lost && i == 0, Data: []byte{1}}, 0, now)
		}
	}
	for n := range 300 { // ten seconds, a key frame each second
		write(n, n%30 == 0, n == 275)
	}
	if !h.keyed || h.at(h.key) == nil || !h.at(h.key).start || !h.at(h.key).key {
		t.Fatal("the newest group of pictures is not there")
	}
	if n := h.next - h.key; n != 30*3+1 {
		t.Errorf("%d indexes since the key frame, want 91: a gap of one", n)
	}
	if h.at(h.oldest-1) != nil || h.next-h.oldest > 61*3+2 {
		t.Errorf("%d packets are kept, want two seconds", h.next-h.oldest)
	}
	for n := 300; n < 300+videoHistory; n++ {
		write(n, false, false)
	}
	if h.keyed {
		t.Error("a group of pictures longer than the history counts as whole")
	}
}

var testTime = time.Unix(1e9, 0)

func testPTS(frame int) time.Duration { return time.Duration(frame) * time.Second / 30 }
