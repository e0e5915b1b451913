package whip

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gantry/media"
	"gantry/relay"
)

// A bonded is a bond of two paths whose sessions are no more than a mailbox, and what comes out of it.
type bonded struct {
	*Server
	paths []*member
	sub   *relay.Subscription
	keys  map[int]bool // access units that are key frames, beside every thirtieth
}

var bondTracks = []media.Track{{Codec: media.H264, Packing: media.RTP, ClockRate: 90000}, {Codec: media.Opus, Packing: media.RTP, ClockRate: 48000, Channels: 2}}

func newBonded(t *testing.T) *bonded {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	cfg := relay.Default()
	cfg.Queue = 10 * time.Second
	b := &bonded{Server: &Server{hub: relay.NewHub(cfg, log), bonds: bonds{all: map[bondKey]*bond{}}}}
	for i := range 2 {
		s := &session{server: b.Server, stream: "a", bond: bonding{id: "abcdefgh", path: i, paths: 2}, ending: make(chan error, 1), log: log,
			path: path{feedback: media.NewMailbox()}}
		m, err := b.bonds.join(s, bondTracks)
		if err != nil {
			t.Fatal(err)
		}
		for track := range bondTracks {
			m.Sync(uint8(track), time.Duration(i)*time.Second, time.Unix(1_000_000, 0)) // the paths' times differ by a second
		}
		b.paths = append(b.paths, m)
	}
	t.Cleanup(func() { _ = b.hub.Close() })
	return b
}

// unit gives a path the access unit i, of two packets each.
func (b *bonded) unit(on, i int) {
	ts := uint32(i * 3000)
	for part := range 2 {
		p := &media.Packet{PTS: time.Duration(i)*time.Second/30 + time.Duration(on)*time.Second, Start: part == 0, End: part == 1, Key: i%30 == 0 || b.keys[i], Data: fmt.Appendf(nil, "%d", 2*i+part)}
		b.paths[on].write(uint16(65000+2*i), uint16(65000+2*i+part), ts, p)
	}
}

// out returns the numbers of the packets that have come out; each must be a thirtieth of a second after the one before it.
func (b *bonded) out(t *testing.T) (numbers []string, lost int) {
	t.Helper()
	if b.sub == nil {
		return nil, 0
	}
	packets, err := b.sub.Take(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packets {
		numbers = append(numbers, string(p.Data))
		var n int
		_, _ = fmt.Sscan(string(p.Data), &n)
		if want := packets[0].PTS; n >= 0 {
			var first int
			_, _ = fmt.Sscan(string(packets[0].Data), &first)
			want += time.Duration(n/2-first/2) * time.Second / 30
			if (p.PTS - want).Abs() > time.Microsecond {
				t.Errorf("packet %d at %v, want %v", n, p.PTS, want)
			}
		}
		if p.Lost {
			lost++
		}
	}
	return numbers, lost
}

func (b *bonded) subscribe(t *testing.T) {
	t.Helper()
	sub, err := b.hub.Subscribe("a", relay.Want{Packing: media.RTP})
	if err != nil {
		t.Fatal(err)
	}
	b.sub = sub
}

func sequence(from, to int) string {
	var list []string
	for i := 2 * from; i < 2*to; i++ {
		list = append(list, fmt.Sprint(i))
	}
	return strings.Join(list, " ")
}

// Whatever order two lossy paths deliver in, each access unit comes out once and in order, as long as one path has it.
func TestBondMerges(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		b := newBonded(t)
		b.unit(0, 0)
		b.subscribe(t)
		next := [2]int{1, 0}
		const n = 280             // what a Subscription holds
		missed := make([]bool, n) // by the path that came by first
		for next[0] < n || next[1] < n {
			on := random.IntN(2)
			if ahead := next[on] - next[1-on]; next[on] == n || ahead > 15 {
				on = 1 - on
			}
			i := next[on]
			next[on]++
			if i > 0 && !missed[i] && random.IntN(10) == 0 {
				missed[i] = true
				continue
			}
			missed[i] = missed[i] || false
			b.unit(on, i)
			if random.IntN(20) == 0 {
				missed[i] = true // the other may not lose it then: it has come anyhow
			}
		}
		got, lost := b.out(t)
		if strings.Join(got, " ") != sequence(0, n) || lost != 0 {
			t.Fatalf("seed %d: %d packets of %d, %d losses", seed, len(got), 2*n, lost)
		}
		_ = b.sub.Close()
	}
}

// A path brings the access units at their time, and late, but for those that are lost on it.
type late struct {
	by   time.Duration
	lost func(i int) bool
	dead func(i int) bool // from the ith on: nothing comes
}

// run lets two paths bring n access units, and tells when each came out. The publisher makes a key frame a tenth of a second
// after it is asked for one.
func (b *bonded) run(t *testing.T, n int, paths [2]late) (out map[int]time.Duration, lost int) {
	const picture = time.Second / 30
	begun := time.Now()
	out, b.keys = map[int]time.Duration{}, map[int]bool{}
	b.unit(0, 0)
	b.subscribe(t)
	next := [2]int{1, 0}
	var ordered time.Duration
	for now := time.Duration(0); next[0] < n || next[1] < n; now += time.Millisecond {
		time.Sleep(time.Until(begun.Add(now)))
		for on, p := range paths {
			for i := next[on]; i < n && time.Duration(i)*picture+p.by <= now; i = next[on] {
				next[on]++
				if (p.lost == nil || !p.lost(i)) && (p.dead == nil || !p.dead(i)) {
					b.unit(on, i)
				}
			}
			if b.paths[on].session.feedback.Take().KeyFrame && ordered == 0 {
				ordered = now + 100*time.Millisecond
			}
		}
		if ordered != 0 && now >= ordered {
			ordered = 0
			b.keys[next[0]] = true
		}
		numbers, l := b.out(t)
		lost += l
		for _, number := range numbers {
			var packet int
			_, _ = fmt.Sscan(number, &packet)
			out[packet/2] = now
		}
	}
	return out, lost
}

// A path that is 300 ms slower is waited for; what neither brings is given up when the slower one has passed it, and the picture
// is back at the next key frame, for which the publisher is asked at once.
func TestBondWaitsForTheSlowerPath(t *testing.T) {
	const n, gap = 90, 40
	seventh := func(i int) bool { return i > 0 && i%7 == 0 }
	at := func(i int) bool { return i == gap }
	for name, c := range map[string]struct {
		paths [2]late
		lost  int
		stall time.Duration // at most, from the gap until a key frame comes out
	}{
		"the slower path fills gaps":     {[2]late{{lost: seventh}, {by: 300 * time.Millisecond}}, 0, 0},
		"the faster path fills gaps":     {[2]late{{}, {by: 300 * time.Millisecond, lost: seventh}}, 0, 0},
		"a gap in both":                  {[2]late{{lost: at}, {lost: at}}, 1, 250 * time.Millisecond},
		"a gap in both, one is slower":   {[2]late{{lost: at}, {by: 300 * time.Millisecond, lost: at}}, 1, 550 * time.Millisecond},
		"a gap in one, the other is off": {[2]late{{lost: at}, {dead: func(i int) bool { return i >= gap }}}, 1, 1050 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBonded(t)
				out, lost := b.run(t, n, c.paths)
				if lost != c.lost {
					t.Errorf("%d losses, want %d", lost, c.lost)
				}
				if c.stall == 0 {
					if len(out) != n {
						t.Errorf("%d access units of %d", len(out), n)
					}
				} else {
					back := time.Hour
					for i, at := range out {
						if i > gap && (i%30 == 0 || b.keys[i]) {
							back = min(back, at-gap*time.Second/30)
						}
					}
					t.Logf("a key frame came out %v after the gap", back)
					if back > c.stall {
						t.Errorf("a key frame came out %v after the gap, want %v", back, c.stall)
					}
				}
				_ = b.sub.Close()
				_ = b.hub.Close() // within the bubble
			})
		})
	}
}

// When it gives up, it goes on at the newest key frame that has come.
func TestBondGoesOnAtAKeyFrame(t *testing.T) {
	b := newBonded(t)
	b.keys = map[int]bool{14: true, 17: true}
	b.unit(0, 0)
	b.subscribe(t)
	for i := 1; i < 20; i++ {
		if i != 10 {
			b.unit(0, i)
		}
	}
	for i := range 12 { // only now it is sure that 10 is lost
		if i != 10 {
			b.unit(1, i)
		}
	}
	if got, lost := b.out(t); strings.Join(got, " ") != sequence(0, 10)+" "+sequence(17, 20) || lost != 1 {
		t.Errorf("%v, %d losses", got, lost)
	}
	if f := b.paths[0].session.feedback.Take(); f.KeyFrame {
		t.Error("a key frame was asked for though there is one")
	}
	_ = b.sub.Close()
}

// What neither path has is given up, and told; a path that is gone is not waited for.
func TestBondGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBonded(t)
		b.unit(0, 0)
		b.subscribe(t)
		for i := 1; i < 10; i++ {
			b.unit(0, i) // path 1 is silent
		}
		if got, lost := b.out(t); strings.Join(got, " ") != sequence(0, 10) || lost != 0 {
			t.Errorf("%v", got)
		}
		for i := 11; i < 140; i++ { // 10 is lost on both
			time.Sleep(time.Second / 30)
			b.unit(0, i)
			b.unit(1, i)
		}
		if got, lost := b.out(t); strings.Join(got, " ") != sequence(11, 140) || lost != 1 {
			t.Errorf("%v, %d losses", got, lost)
		}
		if f := b.paths[0].session.feedback.Take().Merge(b.paths[1].session.feedback.Take()); !f.KeyFrame {
			t.Error("no key frame was asked for")
		}
		time.Sleep(3 * time.Second)
		b.unit(1, 140)
		if faults := b.hub.Streams()[0].Publishers[0].Faults; len(faults) != 1 || faults[0].Code != "path" {
			t.Errorf("%+v", faults)
		}
		for _, m := range b.paths {
			_ = m.Close()
		}
		if len(b.bonds.all) != 0 || b.paths[0].Err() == nil {
			t.Error("the bond outlives its paths")
		}
		_ = b.sub.Close()
		_ = b.hub.Close() // within the bubble
	})
}

func FuzzBonding(f *testing.F) {
	f.Add("bond=abcdefgh&path=0&paths=2")
	f.Add("bond=x&path=-1&paths=9")
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		if b, err := parseBonding(q); err == nil && b.id != "" && (b.path < 0 || b.path >= b.paths || b.paths > maxPaths) {
			t.Errorf("%+v", b)
		}
	})
}
