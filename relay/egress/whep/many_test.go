package whep_test

import (
	"context"
	"net/http"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"gantry/internal/bench/load"
	"gantry/internal/testkit"
)

func newLoop(t testing.TB) *load.Loop {
	t.Helper()
	loop, err := load.NewLoop(false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(loop.Close)
	return loop
}

// churn lets n viewers join and leave, some at a time.
func churn(t *testing.T, b *bench, loop *load.Loop, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4)
	for range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			v, err := load.Dial(ctx, loop, b.url+"/whep/demo", load.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			v.Close(ctx, load.Options{})
		})
	}
	wg.Wait()
}

// held returns what the process holds once all is quiet: bytes of heap, goroutines and descriptors.
func held(t *testing.T, b *bench) (heap uint64, goroutines, fds int) {
	t.Helper()
	testkit.Eventually(t, 5*time.Second, "all viewers have left", func() bool { return b.server.Stats().Viewers == 0 })
	http.DefaultClient.CloseIdleConnections()
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return m.HeapAlloc, runtime.NumGoroutine(), len(entries)
}

// Joining and leaving leaves nothing behind. The bench command and the soak do it by the ten thousand.
func TestJoinAndLeave(t *testing.T) {
	b := newBench(t, nil)
	publish(t, b.hub, "demo", nil)
	loop := newLoop(t)
	churn(t, b, loop, 30)
	heap, goroutines, fds := held(t, b)
	const n = 100
	churn(t, b, loop, n)
	var heap2 uint64
	testkit.Eventually(t, 10*time.Second, "goroutines and descriptors are back", func() bool {
		var g, f int
		heap2, g, f = held(t, b)
		return g <= goroutines+2 && f <= fds+2
	})
	if heap2 > heap+n*10<<10 { // a leak of 10 KiB a viewer would show; the histories fill meanwhile
		t.Errorf("heap grew from %d to %d KiB", heap>>10, heap2>>10)
	}
}

// No session stays in memory when it has ended, whoever else watches, however it ended.
func TestEndedSessionsAreForgotten(t *testing.T) {
	b := newBench(t, nil)
	publish(t, b.hub, "demo", nil)
	loop := newLoop(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dial := func(n int) []*load.Viewer {
		var viewers []*load.Viewer
		for range n {
			v, err := load.Dial(ctx, loop, b.url+"/whep/demo", load.Options{})
			if err != nil {
				t.Fatal(err)
			}
			viewers = append(viewers, v)
		}
		return viewers
	}
	joined := func(n int) {
		testkit.Eventually(t, 5*time.Second, "all have joined", func() bool { return b.server.Stats().Viewers == n })
	}
	leaving := dial(20)
	joined(20)
	status, _, body := b.do(t, http.MethodPost, b.url+"/whep/demo", "application/sdp", newClient(t, clientOptions{}).offer(nil), nil)
	if status != http.StatusCreated { // and never connects
		t.Fatalf("%d %s", status, body)
	}
	alive := b.server.Track()
	for _, v := range leaving {
		v.Close(ctx, load.Options{})
	}
	stays := dial(1)
	defer stays[0].Close(ctx, load.Options{})
	joined(1)
	testkit.Eventually(t, 10*time.Second, "only who has not connected is in memory", func() bool { return alive() == 1 })
}

// A viewer that leaves before the loop has come to its join does not stay in the fan.
func TestLeaveBeforeJoin(t *testing.T) {
	b := newBench(t, nil)
	publish(t, b.hub, "demo", nil)
	loop := newLoop(t)
	churn(t, b, loop, 1)
	waiting, release := b.server.Hold("demo")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	v, err := load.Dial(ctx, loop, b.url+"/whep/demo", load.Options{})
	if err != nil {
		release()
		t.Fatal(err)
	}
	testkit.Eventually(t, 5*time.Second, "the POST and the join wait for the loop", func() bool { return waiting() >= 2 })
	v.Close(ctx, load.Options{})
	if n := release(); n != 0 {
		t.Errorf("%d viewers have stayed", n)
	}
}

// Viewers that do not take what they are sent, or that have vanished without a word, harm nobody.
func TestSlowAndDeadViewersHarmNobody(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	p := publish(t, b.hub, "demo", nil)
	good := b.play(t, "demo", clientOptions{})
	// Over TCP, and not reading: the connection fills, and the relay drops for this viewer alone.
	wide := publish(t, b.hub, "wide", func(p *publisher) { p.Repeat = 20 })
	stuck := newStuckTCP(t, b.port.Addr().String())
	slow := b.play(t, "wide", clientOptions{answer: stuck.rewrite, setting: func(e *webrtc.SettingEngine) {
		e.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeTCP4})
	}})
	testkit.Eventually(t, 5*time.Second, "the slow viewer has a picture", func() bool { return len(slow.packets()) > 10 })
	asked := wide.Asked.Load()
	stuck.stop()
	testkit.Eventually(t, 20*time.Second, "the slow viewer is set back", func() bool { return b.server.Stats().Dropped > 0 })
	// Over UDP, and gone.
	loop := newLoop(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	dead, err := load.Dial(ctx, loop, b.url+"/whep/demo", load.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dead.Vanish()
	n := len(good.packets()) / 4
	good.pictures(n+60, p)
	before := len(slow.packets())
	stuck.release()
	testkit.Eventually(t, 10*time.Second, "the slow viewer goes on", func() bool { return len(slow.packets()) > before+1000 })
	if wide.Asked.Load() == asked {
		t.Error("no key frame was asked for the slow viewer")
	}
}

// What comes while a round is served goes to those who are served after, and in the next round to those before: nobody misses it.
func TestWhatComesMeanwhile(t *testing.T) {
	b := newBench(t, nil)
	publish(t, b.hub, "demo", func(p *publisher) { p.Repeat = 10 })
	loop := newLoop(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	viewers := make([]*load.Viewer, 24)
	for i := range viewers {
		var err error
		if viewers[i], err = load.Dial(ctx, loop, b.url+"/whep/demo", load.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	total := make([]int, len(viewers))
	count := func() {
		for i, v := range viewers {
			m := v.Measure()
			total[i] = m.Packets
			if m.Lost > 0 {
				t.Errorf("viewer %d misses %d packets", i, m.Lost)
			}
		}
	}
	testkit.Eventually(t, 10*time.Second, "all have caught up", func() bool {
		count()
		return slices.Min(total) > 0
	})
	for _, v := range viewers {
		v.Reset()
	}
	testkit.Eventually(t, 10*time.Second, "some of the stream", func() bool {
		count()
		return slices.Min(total) > 500
	})
	if least, most := slices.Min(total), slices.Max(total); most-least > most/10 {
		t.Errorf("%d to %d packets", least, most)
	}
	for _, v := range viewers {
		v.Close(ctx, load.Options{})
	}
}
