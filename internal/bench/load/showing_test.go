package load

import (
	"testing"
	"time"

	"gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// Ten pictures of two packets, 33 ms apart, a key frame every five; some come late or not at all.
func TestJudge(t *testing.T) {
	zero := time.Unix(1000, 0)
	var packets []received
	for i := range 20 {
		n := i / 2
		packets = append(packets, received{seq: 100 + i, ts: uint32(n * 3000), marker: i%2 == 1, key: n%5 == 0, at: zero.Add(time.Duration(n) * time.Second / 30)})
	}
	tail := received{seq: 120, ts: 90000, marker: true, key: true, at: zero.Add(time.Second)} // all of the above is old
	for _, c := range []struct {
		what          string
		change        func(p []received) []received
		shown, broken int
	}{
		{"all came", func(p []received) []received { return p }, 10, 0},
		{"one is missing in the second picture", func(p []received) []received { return append(p[:3:3], p[4:]...) }, 6, 4},
		{"the end of a key frame", func(p []received) []received { return append(p[:1:1], p[2:]...) }, 5, 5},
		{"late, but in time, and so are those that wait for it", func(p []received) []received {
			p[3].at = p[3].at.Add(300 * time.Millisecond)
			return p
		}, 10, 0},
		{"too late; the next ones are in time", func(p []received) []received {
			p[3].at = p[3].at.Add(420 * time.Millisecond)
			return p
		}, 9, 0},
		{"twice", func(p []received) []received { return append(p, p[4:8]...) }, 10, 0},
		{"no key frame at first", func(p []received) []received { return p[2:] }, 5, 0},
	} {
		s := judge(append(c.change(append([]received(nil), packets...)), tail))
		if s.Shown != c.shown || s.Broken != c.broken {
			t.Errorf("%s: %v", c.what, s)
		}
	}
}

// What is sent again of a key frame that came before the reset does not begin another.
func TestKeptFromAReset(t *testing.T) {
	var k kept
	add := func(seq int, key bool) {
		k.add(received{seq: seq, ts: uint32(seq/2*3000) - 6000, marker: seq%2 == 1, key: key, at: time.Unix(1000, 0).Add(time.Duration(seq/2) * time.Second / 30)})
	}
	add(0, true)
	add(1, true)
	add(2, true)
	k.reset()
	add(3, true)
	add(1, true)
	for i := 4; i < 60; i++ {
		add(i, i/2%10 == 0)
	}
	if s := judge(k.packets); s.Broken != 0 || s.Shown < 5 {
		t.Errorf("%v", s)
	}
}
