package rtmp_test

import (
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/bluenviron/gortmplib"
	"github.com/bluenviron/gortmplib/pkg/codecs"

	"gantry/internal/testkit"
	"gantry/relay"
)

// Times that jump, repeat or run back, and the wrap of RTMP's 32 bits of milliseconds: the same publication and its viewers go on, with
// decoding times that rise without a hole, and the fault is named.
func TestClockFaults(t *testing.T) {
	const ms = time.Millisecond
	units := record(t, "libx264", "320x180", "h264")
	for _, c := range []struct {
		name  string
		from  time.Duration
		at    func(i int, at time.Duration) time.Duration
		fault bool
	}{
		{"steady", time.Hour, func(_ int, at time.Duration) time.Duration { return at }, false},
		{"jump ahead", time.Minute, func(i int, at time.Duration) time.Duration { return at + time.Duration(i/60)*time.Hour }, true},
		{"jump back", time.Hour, func(i int, at time.Duration) time.Duration { return at - time.Duration(i/60)*30*time.Minute }, true},
		{"steps back", time.Minute, func(i int, at time.Duration) time.Duration { return at - time.Duration(i%7/6)*90*ms }, true},
		{"repeated", time.Minute, func(i int, at time.Duration) time.Duration { return at - at%(80*ms) }, true},
		{"wrap", (1<<32)*ms - time.Second, func(_ int, at time.Duration) time.Duration { return at }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			hub, addr := listen(t, nil, authorize)
			u, err := url.Parse("rtmp://" + addr + "/live/demo?token=correct-token")
			if err != nil {
				t.Fatal(err)
			}
			client := &gortmplib.Client{URL: u, Publish: true}
			if err := client.Initialize(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			track := &gortmplib.Track{Codec: &codecs.H264{SPS: units[0][0], PPS: units[0][1]}}
			w := &gortmplib.Writer{Conn: client, Tracks: []*gortmplib.Track{track}}
			if err := w.Initialize(); err != nil {
				t.Fatal(err)
			}
			const all = 125
			var sub *relay.Subscription
			pictures, last := 0, time.Duration(0)
			pull := func() {
				packets, err := sub.Take(nil)
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range packets {
					if d := p.DTS - last; pictures > 0 && (d <= 0 || d > 500*ms) {
						t.Errorf("picture %d comes %v after the one before", pictures, d)
					}
					last = p.DTS
					pictures++
				}
			}
			for i := range all {
				at := c.at(i, c.from+time.Duration(i)*40*ms)
				if err := w.WriteH264(track, at, at, units[i%len(units)]); err != nil {
					t.Fatal(err)
				}
				if i < 55 { // so much is looked at before the stream is live
					continue
				}
				testkit.Eventually(t, 10*time.Second, "the pictures come", func() bool {
					s := hub.Streams()
					return len(s) == 1 && s[0].Live && s[0].Publishers[0].Tracks[0].Frames >= uint64(i)
				})
				if sub == nil {
					if sub, err = hub.Subscribe("demo", relay.Want{}); err != nil {
						t.Fatal(err)
					}
					defer sub.Close()
				}
				pull()
			}
			if pictures < all-56 {
				t.Errorf("%d pictures of %d", pictures, all)
			}
			p := hub.Streams()[0].Publishers
			if len(p) != 1 {
				t.Fatalf("%d publishers", len(p))
			}
			if got := slices.ContainsFunc(p[0].Faults, func(f relay.Fault) bool { return f.Code == "timestamps" }); got != c.fault {
				t.Errorf("faults %v", p[0].Faults)
			}
		})
	}
}
