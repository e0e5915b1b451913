package soak

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"gantry/internal/bench/load"
	"gantry/internal/testkit"
	"gantry/internal/testkit/netns"
)

// Twenty viewers behind 5 % of loss and 50 ms each way see nineteen of twenty pictures in time, and more.
func TestLoss(t *testing.T) {
	way := netns.Impairment{Delay: 50 * time.Millisecond, Loss: 0.05}
	there, here, link := netns.Pair(t, way, way)
	_, file := picture(t)
	_, base := startRelay(t, there.Command, there.Addr.String())
	publisher := there.Command(os.Args[0], "-test.run=^TestPublisherProcess$")
	publisher.Env = append(os.Environ(), publisherURL+"="+base+"/whip/demo?token="+token, publisherFile+"="+file)
	testkit.StartCmd(t, publisher)

	loop, err := load.NewLoop(false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(loop.Close)
	loop.Addr, loop.Enter = here.Addr, here.Do
	options := load.Options{Client: &http.Client{Transport: &http.Transport{DialContext: here.DialContext}}, Mend: true, Keep: true}
	t.Cleanup(options.Client.CloseIdleConnections)
	testkit.Eventually(t, 20*time.Second, "the stream is live", func() bool { return liveBy(options.Client, base) })
	const n = 20
	viewers := make([]*load.Viewer, n)
	begun := time.Now()
	var joins sync.WaitGroup
	for i := range viewers {
		joins.Go(func() {
			v, err := load.Dial(t.Context(), loop, base+"/whep/demo", options)
			if err != nil {
				t.Error(err)
				return
			}
			viewers[i] = v
			t.Cleanup(v.Vanish)
		})
	}
	joins.Wait()
	if t.Failed() {
		return
	}
	t.Logf("%d viewers joined in %v", n, time.Since(begun).Round(100*time.Millisecond))
	window := 6 * time.Second
	if d := duration(t); d > 0 {
		window = d
	}
	// The median: a machine that others keep busy delays packets by itself, but not most of the time.
	var shares [3]float64
	for i := range shares {
		time.Sleep(window) // the measurement
		shares[i] = measure(t, link, viewers)
	}
	slices.Sort(shares[:])
	if shares[len(shares)/2] < 0.95 {
		t.Error("too few pictures were in time")
	}
}

// measure returns the share of pictures that viewers have been shown in time during the window that ends now.
func measure(t *testing.T, link *netns.Link, viewers []*load.Viewer) float64 {
	t.Helper()
	var all load.Showing
	var mended load.Mended
	least := 1.0
	for _, v := range viewers {
		s := v.Shows()
		all.Add(s)
		mended.Add(v.Mended())
		least = min(least, s.Share())
		v.ResetShows()
	}
	down, up := link.Counters()
	lost := func(c netns.Counters) string {
		return fmt.Sprintf("%.1f %%", 100*float64(c.Lost)/float64(c.Packets+c.Lost))
	}
	t.Logf("%d viewers behind %s down, %s up and a round trip of 100 ms: %v; the unluckiest %.1f %%", len(viewers), lost(down), lost(up), all, 100*least)
	t.Logf("since they joined %d packets were missing, asked for %d times, sent again %d times, given up %d times; %d key frames asked for; %d dropped for want of room",
		mended.Missing, mended.Asked, mended.Again, mended.GivenUp, mended.KeyFrames, down.Dropped+up.Dropped)
	if all.Pictures < len(viewers)*75 {
		t.Errorf("%d pictures are too few to tell", all.Pictures)
	}
	return all.Share()
}
