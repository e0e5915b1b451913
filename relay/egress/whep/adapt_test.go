package whep

import (
	"slices"
	"strings"
	"testing"
	"time"

	"gantry/media"
)

// path is what an adapter hears of: one report a second.
type path struct {
	a     adapter
	now   time.Time
	rates []int
}

func newPath(rates ...int) *path { return &path{now: time.Unix(1000, 0), rates: rates} }

func (p *path) run(seconds int, lost float64, rtt time.Duration) (level int) {
	for range seconds {
		p.now = p.now.Add(time.Second)
		p.a.hear(p.now, lost, rtt)
		level = p.a.next(p.now, p.rates)
	}
	return level
}

func TestAdapter(t *testing.T) {
	const ms = time.Millisecond
	p := newPath(200_000, 800_000, 2_500_000, 6_000_000)
	if l := p.a.next(p.now, p.rates); l != 2 {
		t.Errorf("begins at %d: want what fits %d", l, firstBitrate)
	}
	if l := p.run(4, 0, 20*ms); l != 3 {
		t.Errorf("a clear path is at %d", l)
	}
	if l := p.run(30, 0.05, 100*ms); l != 3 {
		t.Errorf("5 %% of loss, which retransmission mends, sends it down to %d", l)
	}
	if l := p.run(1, 0.3, 100*ms); l != 2 {
		t.Errorf("heavy loss leaves it at %d", l)
	}
	if l := p.run(8, 0.3, 100*ms); l != 0 {
		t.Errorf("lasting loss leaves it at %d", l)
	}
	if l := p.run(60, 0, 100*ms); l != 3 {
		t.Errorf("it does not come back up: %d", l)
	}
	if l := p.run(2, 0, 800*ms); l != 2 {
		t.Errorf("a queue of 0.8 s leaves it at %d", l)
	}

	// A report that a busy machine held up is no queue, nor are many where the path is estimated.
	p = newPath(200_000, 800_000, 2_500_000)
	p.run(10, 0, 20*ms)
	for range 20 {
		if l := p.run(1, 0, 900*ms); l != 2 {
			t.Fatalf("one late report sends it down to %d", l)
		}
		p.run(1, 0, 20*ms)
	}
	p.a.carries = 20_000_000
	if l := p.run(10, 0, 900*ms); l != 2 {
		t.Errorf("late reports send it down to %d, where the path is known", l)
	}

	// A path that carries 1 Mbit/s: each ascent fails, so they become rare.
	p = newPath(200_000, 800_000, 2_500_000)
	p.a.next(p.now, p.rates)
	ascents, high := 0, 0
	level := 1
	for range 300 {
		lost := 0.0
		if p.rates[level] > 1_000_000 {
			lost = 0.4
			high++
		}
		next := p.run(1, lost, 50*ms)
		if next > level {
			ascents++
		}
		level = next
	}
	if ascents > 14 || high > 40 {
		t.Errorf("%d ascents in five minutes, %d s above what the path carries", ascents, high)
	}

	// With an estimate no trial is needed.
	p = newPath(200_000, 800_000, 2_500_000)
	p.a.carries, p.a.limit = 1_000_000, 1_000_000
	if l := p.run(30, 0, 50*ms); l != 1 {
		t.Errorf("level %d where the path carries 1 Mbit/s", l)
	}
	p.a.carries, p.a.limit = 3_000_000, 3_000_000
	if l := p.run(5, 0, 50*ms); l != 2 {
		t.Errorf("level %d where the path carries 3 Mbit/s", l)
	}
	p.a.carries, p.a.limit = 100_000, 100_000
	if l := p.run(5, 0, 50*ms); l != 0 {
		t.Errorf("level %d where the path carries 0.1 Mbit/s", l)
	}
	// A layer goes: the level follows.
	p.rates = p.rates[:1]
	if l := p.run(1, 0, 50*ms); l != 0 {
		t.Errorf("level %d of one", l)
	}
}

// Of one stream's codecs a viewer gets the best that it offers, in all layers of it.
func TestRenditions(t *testing.T) {
	tracks := []media.Track{
		{Codec: media.H264, Packing: media.RTP, ClockRate: 90000, Profile: "42e01f"},
		{Codec: media.H265, Packing: media.RTP, ClockRate: 90000, RID: "h"},
		{Codec: media.Opus, Packing: media.RTP, ClockRate: 48000, Channels: 2},
		{Codec: media.H265, Packing: media.RTP, ClockRate: 90000, RID: "l"},
		{Codec: media.AV1, Packing: media.RTP, ClockRate: 90000},
	}
	formats := map[string]string{
		"102": "a=rtpmap:102 H264/90000\r\na=fmtp:102 packetization-mode=1;profile-level-id=42e01f\r\n",
		"103": "a=rtpmap:103 H265/90000\r\n",
		"104": "a=rtpmap:104 AV1/90000\r\n",
		"105": "a=rtpmap:105 VP8/90000\r\n",
	}
	for _, c := range []struct {
		offered []string
		track   int
		layers  []int
	}{
		{[]string{"102"}, 0, []int{0}},
		{[]string{"105", "102", "103"}, 1, []int{1, 3}},
		{[]string{"102", "103", "104"}, 4, []int{4}},
	} {
		offer := "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\nm=video 9 UDP/TLS/RTP/SAVPF " + strings.Join(c.offered, " ") +
			"\r\na=mid:0\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\na=rtcp-mux\r\na=recvonly\r\n" +
			"a=fingerprint:sha-256 " + strings.TrimSuffix(strings.Repeat("AB:", 32), ":") + "\r\n"
		for _, f := range c.offered {
			offer += formats[f]
		}
		p, _, err := answerPlan(offer, tracks)
		if err != nil {
			t.Errorf("%v: %v", c.offered, err)
			continue
		}
		if s := p.sections[0]; s.track != c.track || !slices.Equal(s.layers, c.layers) {
			t.Errorf("%v: track %d, layers %v; want %d, %v", c.offered, s.track, s.layers, c.track, c.layers)
		}
	}
}
