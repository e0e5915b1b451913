package whip

import (
	"bytes"
	"context"
	"encoding/base64"
	"log/slog"
	"os/exec"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp/codecs"

	"gantry/media"
	"gantry/media/h264"
	"gantry/relay"
)

// A lane is a session's path of packets without network: what is sent arrives in the order in which it is sent.
type lane struct {
	t   testing.TB
	s   *session
	sub *relay.Subscription
	v   *viewer
	seq uint16
	ts  uint32
	now time.Duration
}

func newLane(t testing.TB, c choice) *lane {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	cfg := relay.Default()
	cfg.Hold = 0
	cfg.Queue = 10 * time.Second // the test takes packets when it is done sending
	hub := relay.NewHub(cfg, log)
	t.Cleanup(func() { _ = hub.Close() })
	s := &session{server: &Server{cfg: Default(), hub: hub, log: log}, log: log, stream: "s", kick: make(chan struct{}, 1), ending: make(chan error, 1),
		path: path{feedback: media.NewMailbox()}}
	c.params.number = 96
	kind := "video"
	if c.codec.Audio() {
		kind = "audio"
	}
	s.prepare([]*section{{kind: kind, choices: []choice{c}}})
	return &lane{t: t, s: s, seq: 65530, ts: 1<<32 - 9000, now: time.Second}
}

func avc() choice {
	c := choice{codec: media.H264, nack: true}
	c.params.rate = 90000
	return c
}

// put delivers one payload.
func (l *lane) put(payload []byte, marker bool) {
	l.s.receive(l.s.tracks[0], 96, piece{seq: l.seq, ts: l.ts, marker: marker, arrival: l.now}, payload)
	l.seq++
	if l.sub == nil {
		if sub, err := l.s.server.hub.Subscribe("s", relay.Want{Packing: media.RTP}); err == nil {
			l.sub = sub
			l.t.Cleanup(func() { _ = sub.Close() })
			l.v = &viewer{tracks: sub.Tracks(), units: make([][]unitSeen, 1), open: make([]unitSeen, 1)}
		}
	}
}

// send delivers an access unit, 33 ms after the one before; drop names payloads that are lost.
func (l *lane) send(au []byte, drop ...int) {
	l.ts += 3000
	l.now += time.Second / 30
	var pay codecs.H264Payloader
	payloads := pay.Payload(1100, au)
	for i, p := range payloads {
		lost := false
		for _, d := range drop {
			lost = lost || d == i
		}
		if lost {
			l.seq++
			continue
		}
		l.put(p, i == len(payloads)-1)
	}
}

// seen returns the whole access units that a subscriber has had.
func (l *lane) seen() []unitSeen {
	l.t.Helper()
	if l.sub == nil {
		l.t.Fatal("the stream is not live")
	}
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		packets, err := l.sub.Pull(ctx, nil)
		cancel()
		if err != nil {
			return l.v.units[0]
		}
		for _, p := range packets {
			l.v.take(p)
		}
	}
}

func (l *lane) published() relay.Published { return l.s.server.hub.Streams()[0].Publishers[0] }

func types(t *testing.T, u unitSeen) (all []h264.Type) {
	for n := range h264.NALUs(u.annexB(t)) {
		all = append(all, h264.TypeOf(n))
	}
	return all
}

// bare returns an access unit without the NAL units of the given types.
func bare(au []byte, without ...h264.Type) []byte {
	var out []byte
next:
	for n := range h264.NALUs(au) {
		for _, w := range without {
			if h264.TypeOf(n) == w {
				continue next
			}
		}
		out = h264.Append(out, n)
	}
	return out
}

func TestParameterSetsAreInserted(t *testing.T) {
	units := record(t, "320x180", plain)
	for name, aud := range map[string]bool{"with delimiter": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			l := newLane(t, avc())
			without := []h264.Type{h264.SPS, h264.PPS}
			if !aud {
				without = append(without, h264.AUD)
			}
			l.send(units[0])
			l.send(bare(units[30], without...))
			seen := l.seen()
			if len(seen) != 2 || !seen[1].key {
				t.Fatalf("%d units", len(seen))
			}
			var sps, pps, idr bool
			for _, typ := range types(t, seen[1]) {
				sps, pps = sps || typ == h264.SPS && !idr, pps || typ == h264.PPS && !idr
				idr = idr || typ == h264.IDR
			}
			if !sps || !pps || !idr {
				t.Errorf("types %v", types(t, seen[1]))
			}
			if picture(seen[1].annexB(t)) != picture(units[30]) {
				t.Error("another picture")
			}
		})
	}
	t.Run("never any", func(t *testing.T) {
		l := newLane(t, avc())
		l.send(bare(units[0], h264.SPS, h264.PPS))
		if _, err := l.s.server.hub.Subscribe("s", relay.Want{Packing: media.RTP}); err == nil {
			t.Error("live with a picture that nobody can decode")
		}
		if !l.s.tracks[0].needKey {
			t.Error("no key frame is asked for")
		}
		l.send(units[30])
		if seen := l.seen(); len(seen) != 1 || l.s.tracks[0].needKey {
			t.Errorf("%d units", len(seen))
		}
	})
	t.Run("from the SDP", func(t *testing.T) {
		c := avc()
		for n := range h264.NALUs(units[0]) {
			if typ := h264.TypeOf(n); typ == h264.SPS || typ == h264.PPS {
				if c.sprop != "" {
					c.sprop += ","
				}
				c.sprop += base64.StdEncoding.EncodeToString(n)
			}
		}
		l := newLane(t, c)
		l.send(bare(units[0], h264.SPS, h264.PPS))
		if seen := l.seen(); len(seen) != 1 || !seen[0].key {
			t.Errorf("%d units", len(seen))
		}
	})
}

// Some senders put the marker on parameter sets as well.
func TestMarkerOnParameterSets(t *testing.T) {
	l := newLane(t, avc())
	for i, au := range record(t, "320x180", plain)[:40] {
		l.ts += 3000
		l.now += time.Second / 30
		for n := range h264.NALUs(au) {
			l.put(n, true) // one slice a picture, whole in a packet
		}
		if i == 0 {
			continue
		}
	}
	seen := l.seen()
	if len(seen) != 40 || !seen[0].key || !seen[30].key {
		t.Fatalf("%d units", len(seen))
	}
}

func TestResolutionChange(t *testing.T) {
	l := newLane(t, avc())
	l.send(record(t, "320x180", plain)[0])
	if got := l.published().Tracks[0]; got.Width != 320 || got.Height != 180 || got.Profile != "64000d" {
		t.Errorf("%+v", got)
	}
	l.send(record(t, "640x360", plain)[0])
	l.send(record(t, "640x360", plain)[1])
	if got := l.published().Tracks[0]; got.Width != 640 || got.Height != 360 {
		t.Errorf("%+v", got)
	}
	if seen := l.seen(); len(seen) != 3 || !seen[1].key {
		t.Errorf("%d units", len(seen))
	}
}

func TestBFrames(t *testing.T) {
	l := newLane(t, avc())
	for _, au := range record(t, "320x180", plain)[:90] {
		l.send(au)
	}
	if faults := l.published().Faults; len(faults) != 0 {
		t.Fatalf("faults %v without B-frames", faults)
	}
	// The times of real senders are those of display: count them out of the stream.
	t.Run("times of display", func(t *testing.T) {
		l := newLane(t, avc())
		for i, au := range record(t, "320x180", "bframes=2:b-adapt=0:b-pyramid=none")[:60] {
			if n := i % 30 % 3; n == 1 && i > 0 { // P after two B: 0 3 1 2 6 4 5
				l.ts += 2 * 3000
			} else if n == 2 && i > 0 {
				l.ts -= 3 * 3000
			}
			l.send(au)
		}
		faults := l.published().Faults
		if len(faults) != 1 || faults[0].Code != "b-frames" || faults[0].Reason == "" {
			t.Fatalf("faults %v", faults)
		}
	})
	t.Run("times of decoding", func(t *testing.T) {
		l := newLane(t, avc())
		units := record(t, "320x180", "bframes=2:b-adapt=0:b-pyramid=none")
		for _, au := range units[:60] {
			l.send(au)
		}
		if faults := l.published().Faults; len(faults) != 1 {
			t.Fatalf("faults %v", faults)
		}
		for i := range inOrderEnough + 30 {
			l.send(record(t, "320x180", plain)[i%120])
		}
		if faults := l.published().Faults; len(faults) != 0 {
			t.Errorf("faults %v after the encoder was put right", faults)
		}
	})
}

func TestHoles(t *testing.T) {
	units := record(t, "640x360", plain)
	var pay codecs.H264Payloader
	if n := len(pay.Payload(1100, units[0])); n < 4 {
		t.Fatalf("a key frame of %d packets", n)
	}
	t.Run("filled in time", func(t *testing.T) {
		l := newLane(t, avc())
		l.send(units[0], 1)
		again := l.seq
		l.seq -= uint16(len(pay.Payload(1100, units[0]))) - 1
		l.put(new(codecs.H264Payloader).Payload(1100, units[0])[1], false)
		l.seq = again
		l.send(units[1])
		if seen := l.seen(); len(seen) != 2 || l.v.lost != 0 || picture(seen[0].annexB(t)) != picture(units[0]) {
			t.Errorf("%d units, %d gaps", len(seen), l.v.lost)
		}
	})
	t.Run("given up", func(t *testing.T) {
		l := newLane(t, avc())
		l.send(units[0])
		l.send(units[1])
		l.send(units[30], 2) // in the middle of a key frame
		for _, au := range units[31:45] {
			l.send(au)
		}
		seen := l.seen()
		if len(seen) != 16 || l.v.lost != 1 {
			t.Fatalf("%d units, %d gaps; want 16 and 1", len(seen), l.v.lost)
		}
		if picture(seen[2].annexB(t)) != picture(units[31]) {
			t.Error("what follows the broken picture is not the next one")
		}
		if !l.s.tracks[0].needKey {
			t.Error("no key frame is asked for")
		}
		l.send(units[60])
		if l.s.tracks[0].needKey {
			t.Error("a whole key frame came and another is asked for")
		}
	})
	t.Run("end of one and beginning of the next", func(t *testing.T) {
		l := newLane(t, avc())
		n := len(pay.Payload(1100, units[30]))
		l.send(units[0])
		l.send(units[30], n-1)
		l.send(units[60], 0, 1, 2)
		for _, au := range units[61:75] {
			l.send(au)
		}
		seen := l.seen()
		if len(seen) != 15 || picture(seen[1].annexB(t)) != picture(units[61]) {
			t.Errorf("%d units", len(seen))
		}
	})
}

func TestJumps(t *testing.T) {
	units := record(t, "320x180", plain)
	steps := func(t *testing.T, l *lane, want int) {
		t.Helper()
		seen := l.seen()
		if len(seen) != want {
			t.Fatalf("%d units, want %d", len(seen), want)
		}
		for i := 1; i < len(seen); i++ {
			if d := seen[i].pts - seen[i-1].pts; d <= 0 || d > 200*time.Millisecond {
				t.Errorf("unit %d comes %v after the one before", i, d)
			}
		}
	}
	for name, jump := range map[string]func(l *lane){
		"time forward":  func(l *lane) { l.ts += 90000 * 3600 },
		"time back":     func(l *lane) { l.ts -= 90000 * 3600 },
		"count forward": func(l *lane) { l.seq += 20000 },
		"count back":    func(l *lane) { l.seq -= 20000 },
		"both":          func(l *lane) { l.seq += 30000; l.ts += 1 << 31 },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLane(t, avc())
			for _, au := range units[:10] {
				l.send(au)
			}
			jump(l)
			for _, au := range units[30:40] {
				l.send(au)
			}
			for _, au := range units[60:70] {
				l.send(au)
			}
			// The first packet of another count only announces it: it held the parameter sets, which are known.
			steps(t, l, 30)
			if l.s.server.counters.Repairs.Load() == 0 {
				t.Error("the repair is not counted")
			}
		})
	}
}

// A day has more nanoseconds × 90000 than an int64 holds.
func TestLongTimes(t *testing.T) {
	line := timeline{rate: 90000}
	var ts uint32
	arrival := time.Duration(0)
	for range 24 * 365 {
		ts += 90000 * 3600
		arrival += time.Hour
		if pts, jumped := line.at(ts, arrival); jumped || pts != arrival {
			t.Fatalf("%v at %v, jumped %v", pts, arrival, jumped)
		}
	}
	if got := line.of(ts - 45000); got != arrival-500*time.Millisecond {
		t.Errorf("of half a second ago: %v", arrival-got)
	}
}

func TestSync(t *testing.T) {
	units := record(t, "320x180", plain)
	l := newLane(t, avc())
	l.send(units[0])
	now := time.Now()
	ntp := func(at time.Time) uint64 {
		return uint64(at.Unix()-ntpEpoch)<<32 | uint64(at.Nanosecond())<<32/1e9
	}
	l.s.senderReport(l.s.tracks[0], &rtcp.SenderReport{NTPTime: ntp(now), RTPTime: l.ts + 4500})
	first := l.seen()[0].pts
	wall, ok := l.sub.Wall(0, first)
	if d := wall.Sub(now.Add(-50 * time.Millisecond)); !ok || d.Abs() > time.Microsecond {
		t.Errorf("captured at %v, %v off", wall, d)
	}
	// A clock that tells no wall time is not believed; abs-capture-time is, and more than reports.
	l.s.senderReport(l.s.tracks[0], &rtcp.SenderReport{NTPTime: 5 << 32, RTPTime: l.ts})
	if again, _ := l.sub.Wall(0, first); !again.Equal(wall) {
		t.Errorf("a report from 1900 moved the capture to %v", again)
	}
	l.s.receive(l.s.tracks[0], 96, piece{seq: l.seq, ts: l.ts + 3000, marker: true, arrival: l.now, capture: ntp(now.Add(time.Minute))}, []byte{0x41, 0x9a})
	l.s.senderReport(l.s.tracks[0], &rtcp.SenderReport{NTPTime: ntp(now), RTPTime: l.ts})
	if got, _ := l.sub.Wall(0, first+time.Second/30); got.Sub(now.Add(time.Minute)).Abs() > time.Microsecond {
		t.Errorf("captured at %v, want %v", got, now.Add(time.Minute))
	}
}

// Sound arrived 120 ms before the video that was captured with it: once reports have told, they share one timeline.
func TestAlign(t *testing.T) {
	l := newLane(t, avc())
	opus := choice{codec: media.Opus}
	opus.params.rate, opus.params.number = 48000, 97
	l.s.prepare([]*section{{kind: "audio", choices: []choice{opus}}})
	video, sound := l.s.tracks[0], l.s.tracks[1]
	units := record(t, "320x180", plain)
	l.s.receive(sound, 97, piece{seq: 1, ts: 1000, arrival: l.now}, []byte{0xfc, 1})
	l.now += 120*time.Millisecond - time.Second/30
	l.send(units[0])
	firstVideo := l.ts
	now := time.Now()
	ntp := func(at time.Time) uint64 {
		return uint64(at.Unix()-ntpEpoch)<<32 | uint64(at.Nanosecond())<<32/1e9
	}
	apart := func() time.Duration { return video.timeline.of(firstVideo) - sound.timeline.of(1000) }
	if d := apart(); d != 120*time.Millisecond {
		t.Fatalf("%v apart at first", d)
	}
	l.s.senderReport(sound, &rtcp.SenderReport{NTPTime: ntp(now), RTPTime: 1000})
	l.s.senderReport(video, &rtcp.SenderReport{NTPTime: ntp(now), RTPTime: firstVideo})
	wall := func() time.Time {
		at := video.timeline.of(l.ts)
		return video.wall.zero.Add(at)
	}
	before := video.timeline.of(l.ts)
	for i := range 200 {
		l.send(units[i%120])
		at := video.timeline.of(l.ts)
		if step := at - before; step < 30*time.Millisecond || step > 36*time.Millisecond {
			t.Fatalf("picture %d comes %v after the one before", i, step)
		}
		before = at
		if d := wall().Sub(now.Add(time.Duration(l.ts-firstVideo) * time.Second / 90000)); d.Abs() > time.Microsecond {
			t.Fatalf("picture %d is said to be captured %v off", i, d)
		}
	}
	if d := apart(); d.Abs() > alignStep {
		t.Errorf("%v apart in the end", d)
	}
}

// An H.265 publisher that has sent its parameter sets once is joined at any key frame, and messages that take several packets are no
// pictures.
func TestH265ParameterSets(t *testing.T) {
	var nalus [][]byte
	cmd := exec.Command("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=rate=30:size=320x180", "-frames:v", "1", "-pix_fmt", "yuv420p", "-c:v", "libx265",
		"-preset", "ultrafast", "-x265-params", "log-level=error:repeat-headers=1", "-f", "hevc", "-")
	stream, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	kind := func(n []byte) byte { return n[0] >> 1 & 0x3f }
	for n := range h264.NALUs(stream) {
		nalus = append(nalus, n)
	}
	message := append([]byte{39 << 1, 1, 5, 255}, bytes.Repeat([]byte{0xaa}, 3000)...)
	send := func(l *lane, keep func([]byte) bool) {
		l.ts += 3000
		l.now += time.Second / 30
		var au []byte
		for _, n := range nalus {
			if kind(n) < 32 {
				au = h264.Append(au, message)
			}
			if keep(n) {
				au = h264.Append(au, n)
			}
		}
		payloads := (&codecs.H265Payloader{}).Payload(1000, au)
		for i, b := range payloads {
			l.put(b, i == len(payloads)-1)
		}
	}
	whole := func([]byte) bool { return true }
	picture := func(n []byte) bool { return kind(n) < 32 }
	hevc := avc()
	hevc.codec, hevc.sprop = media.H265, ""
	t.Run("sent once", func(t *testing.T) {
		l := newLane(t, hevc)
		send(l, whole)
		if track := l.published().Tracks[0]; track.Width != 320 || track.Height != 180 || track.KeyFrames != 1 {
			t.Errorf("%+v", track)
		}
		send(l, picture)
		seen := l.seen()
		if len(seen) != 2 || !seen[1].key {
			t.Fatalf("%d units", len(seen))
		}
		count := [3]int{}
		for _, payload := range seen[1].payloads {
			for n := range h265Units(payload) {
				if i := int(kind(n)) - vps; i >= 0 && i < 3 {
					count[i]++
				}
			}
		}
		if count != [3]int{1, 1, 1} {
			t.Errorf("VPS, SPS and PPS: %v", count)
		}
	})
	t.Run("never any", func(t *testing.T) {
		l := newLane(t, hevc)
		send(l, picture)
		if _, err := l.s.server.hub.Subscribe("s", relay.Want{Packing: media.RTP}); err == nil {
			t.Error("live with a picture that nobody can decode")
		}
		if !l.s.tracks[0].needKey {
			t.Error("no key frame is asked for")
		}
	})
}

// A publisher that refreshes its pictures in parts is joined at a recovery point where no key frame has been seen.
func TestRecoveryPoint(t *testing.T) {
	units := record(t, "320x180", "intra-refresh=1:keyint=25")
	c := avc()
	for n := range h264.NALUs(units[0]) {
		if typ := h264.TypeOf(n); typ == h264.SPS || typ == h264.PPS {
			c.sprop += base64.StdEncoding.EncodeToString(n) + ","
		}
	}
	l := newLane(t, c)
	for _, au := range units[10:60] {
		l.send(au)
	}
	seen := l.seen()
	if len(seen) < 20 || !seen[0].key {
		t.Fatalf("%d units", len(seen))
	}
	var sets int
	for _, typ := range types(t, seen[0]) {
		if typ == h264.SPS || typ == h264.PPS {
			sets++
		}
	}
	if sets != 2 {
		t.Errorf("types %v", types(t, seen[0]))
	}
}
