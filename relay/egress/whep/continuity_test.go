package whep_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"gantry/internal/bench/load"
	"gantry/internal/metrics"
	"gantry/internal/rtc"
	"gantry/internal/testkit"
	ingest "gantry/relay/ingest/whip"
	"gantry/relay/web"
)

const publisherURL = "GANTRY_TEST_PUBLISHER_URL"

// TestPublisherProcess is no test but the program that tests of continuity kill: a WHIP publisher without an end.
func TestPublisherProcess(t *testing.T) {
	url := os.Getenv(publisherURL)
	if url == "" {
		return
	}
	units, err := video()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := load.Publish(context.Background(), &load.Picture{Units: units, Rate: 30}, url, true); err != nil {
		t.Fatal(err)
	}
	select {}
}

// An audience is twenty lean viewers and one that keeps all it receives, of one stream.
type audience struct {
	*bench
	t       *testing.T
	ingest  *ingest.Server
	whip    string
	picture *load.Picture
	client  *client
	viewers []*load.Viewer
}

// newAudience starts a relay with WHIP and WHEP. enter lets the viewers in.
func newAudience(t *testing.T) *audience { return newAudienceAt(t, nil) }

func newAudienceAt(t *testing.T, configure func(*rtc.Config)) *audience {
	t.Helper()
	units, err := video()
	if err != nil {
		t.Fatal("ffmpeg: ", err)
	}
	a := &audience{bench: newBench(t, configure), t: t, picture: &load.Picture{Units: units, Rate: 30}}
	if a.ingest, err = ingest.New(ingest.Default(), a.hub, a.port, ingest.Access{}, quiet); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(a.ingest)
	a.whip = web.URL + "/whip/demo"
	t.Cleanup(func() {
		web.Close()
		if err := a.ingest.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func (a *audience) publish(query string) *load.Publisher {
	a.t.Helper()
	p, err := load.Publish(a.t.Context(), a.picture, a.whip+query, true)
	if err != nil {
		a.t.Fatal(err)
	}
	return p
}

func (a *audience) enter() {
	a.t.Helper()
	testkit.Eventually(a.t, 10*time.Second, "the stream is live", func() bool { _, err := a.hub.Live("demo"); return err == nil })
	a.client = a.play(a.t, "demo", clientOptions{interceptor: true})
	loop, err := load.NewLoop(false)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(loop.Close)
	for range 20 {
		v, err := load.Dial(a.t.Context(), loop, a.url+"/whep/demo", load.Options{})
		if err != nil {
			a.t.Fatal(err)
		}
		a.t.Cleanup(func() { v.Close(context.Background(), load.Options{}) })
		a.viewers = append(a.viewers, v)
	}
	a.sees("the first pictures")
}

// sees waits until every viewer has got a picture anew.
func (a *audience) sees(what string) {
	a.t.Helper()
	before := make([]int, len(a.viewers))
	for i, v := range a.viewers {
		before[i] = len(v.Measure().Latency)
	}
	count := len(a.client.packets())
	testkit.Eventually(a.t, 10*time.Second, what, func() bool {
		for i, v := range a.viewers {
			if len(v.Measure().Latency) == before[i] {
				return false
			}
		}
		return len(a.client.packets()) > count
	})
}

// check looks at what all viewers have received since they came: nobody left, no gap, one timeline.
func (a *audience) check() {
	a.t.Helper()
	testkit.Eventually(a.t, 3*time.Second, "all viewers are counted", func() bool { return a.server.Stats().Viewers == len(a.viewers)+1 })
	for i, v := range a.viewers {
		if lost := v.Measure().Lost; lost != 0 {
			a.t.Errorf("viewer %d misses %d packets", i, lost)
		}
	}
	a.client.mu.Lock()
	state, arrived := a.client.state, a.client.arrived
	a.client.mu.Unlock()
	if state != webrtc.PeerConnectionStateConnected {
		a.t.Errorf("the viewer's connection is %v", state)
	}
	packets := a.client.packets()
	for i, q := range packets {
		if i == 0 || i == len(arrived) {
			continue
		}
		before := packets[i-1]
		if q.SequenceNumber != before.SequenceNumber+1 || q.SSRC != before.SSRC {
			a.t.Fatalf("packet %d: sequence number %d of %x after %d of %x", i, q.SequenceNumber, q.SSRC, before.SequenceNumber, before.SSRC)
		}
		media := time.Duration(int32(q.Timestamp-before.Timestamp)) * time.Second / 90000
		wait := arrived[i].Sub(arrived[i-1])
		if media < 0 || wait > 300*time.Millisecond && (media-wait).Abs() > 300*time.Millisecond {
			a.t.Fatalf("packet %d: RTP time goes by %v after %v", i, media, wait)
		}
		if wait > 200*time.Millisecond && !startsKey(q.Payload) {
			a.t.Errorf("packet %d: after %v the picture goes on with no key frame", i, wait)
		}
	}
}

// Viewers outlive their publisher, however it goes, and have a picture soon after it comes back.
func TestContinuity(t *testing.T) {
	t.Parallel()
	a := newAudience(t)
	first := a.publish("")
	a.enter()

	back := func(what string, begun time.Time, within time.Duration) {
		t.Helper()
		a.sees(what)
		d := time.Since(begun)
		t.Logf("%s: seen by all after %v", what, d.Round(time.Millisecond))
		if d > within {
			t.Errorf("%s took %v", what, d)
		}
	}

	first.Close()
	a.gap()
	begun := time.Now()
	second := a.publish("")
	back("the picture after a restart", begun, time.Second)

	// Another address: all its sockets are new, the session is the same.
	begun = time.Now()
	if err := second.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	back("the picture after an ICE restart", begun, time.Second)
	if n := a.ingest.Counters().Sessions.Load(); n != 1 {
		t.Errorf("%d publishing sessions", n)
	}
	second.Close()
	a.gap()

	// Killed: no goodbye of any kind. The next one is a new session, before the relay has given up the old.
	cmd := exec.Command(os.Args[0], "-test.run=^TestPublisherProcess$")
	cmd.Env = append(os.Environ(), publisherURL+"="+a.whip)
	process := testkit.StartCmd(t, cmd)
	a.sees("the picture of the process")
	process.Kill()
	a.gap()
	begun = time.Now()
	third := a.publish("")
	back("the picture after a crash", begun, time.Second)
	a.check()
	third.Close()
}

// gap waits until the viewers have got nothing for longer than a player takes for jitter.
func (a *audience) gap() {
	a.t.Helper()
	last, since := -1, time.Now()
	testkit.Eventually(a.t, 10*time.Second, "the picture stands", func() bool {
		if n := a.viewers[0].Measure().Packets; n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > 400*time.Millisecond
	})
}

// Two publishers of one stream: the better one is seen, whoever of them goes, comes, or is chosen, and all viewers stay.
func TestBackup(t *testing.T) {
	t.Parallel()
	a := newAudience(t)
	site := httptest.NewServer(web.New(web.Options{Hub: a.hub, Metrics: metrics.New(), Log: quiet}))
	t.Cleanup(site.Close)
	main := a.publish("?priority=2")
	a.enter()
	backup := a.publish("?priority=1")
	defer func() { backup.Close() }()

	// seen waits until the publisher of that priority is on the air and everybody has a picture of it.
	seen := func(what string, priority int) {
		t.Helper()
		begun := time.Now()
		testkit.Eventually(t, 5*time.Second, what, func() bool {
			for _, p := range a.hub.Streams()[0].Publishers {
				if p.Active {
					return p.Priority == priority
				}
			}
			return false
		})
		a.sees(what)
		t.Logf("%s: after %v", what, time.Since(begun).Round(time.Millisecond))
	}
	rule := func(priority int, body string) {
		t.Helper()
		for _, p := range a.hub.Streams()[0].Publishers {
			if p.Priority == priority {
				status, _, text := a.do(t, http.MethodPost, site.URL+"/api/v1/streams/demo/publishers/"+p.ID, "application/json", body, nil)
				if status != http.StatusNoContent {
					t.Fatalf("%d %s", status, text)
				}
				return
			}
		}
		t.Fatalf("no publisher of priority %d", priority)
	}
	testkit.Eventually(t, 5*time.Second, "both publish", func() bool { return len(a.hub.Streams()[0].Publishers) == 2 })
	seen("the main publisher", 2)
	rule(1, `{"priority": 3}`)
	seen("the backup, with a higher priority", 3)
	rule(2, `{"active": true}`)
	seen("the main publisher, chosen", 2)
	main.Close()
	seen("the backup, as the main one has left", 3)
	main = a.publish("?priority=4")
	seen("the main publisher again", 4)
	main.Pause()
	seen("the backup, as the main one is silent", 3)
	main.Close()
	a.check()
}

// A relay that is ICE-lite takes publishers and viewers in.
func TestLiteFromPublisherToViewers(t *testing.T) {
	t.Parallel()
	a := newAudienceAt(t, func(c *rtc.Config) { c.Lite = true })
	p := a.publish("")
	defer p.Close()
	a.enter()
	a.check()
}
