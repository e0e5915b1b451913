package netns

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestShaper(t *testing.T) {
	now := time.Unix(0, 0)
	ms := time.Millisecond
	s := shaper{Impairment: Impairment{Delay: 10 * ms, Rate: 8_000_000, Queue: 3 * ms}, random: rand.New(rand.NewPCG(1, 1))}
	// 1000 bytes take 1 ms on the line; what would wait longer than 3 ms is dropped.
	for i, want := range []struct {
		at   time.Duration
		fate fate
	}{{11 * ms, carried}, {12 * ms, carried}, {13 * ms, carried}, {14 * ms, carried}, {0, dropped}} {
		at, f := s.next(now, 1000)
		if f != want.fate || f == carried && at.Sub(now) != want.at {
			t.Errorf("packet %d: %v after %v, want %v", i, f, at.Sub(now), want)
		}
	}
	if at, f := s.next(now.Add(20*ms), 1000); f != carried || at.Sub(now) != 31*ms {
		t.Errorf("after a pause: %v at %v", f, at.Sub(now))
	}

	s = shaper{Impairment: Impairment{Loss: 0.1, Delay: ms, Jitter: 50 * ms}, random: rand.New(rand.NewPCG(1, 1))}
	n, previous := 0, time.Time{}
	for i := range 10000 {
		at, f := s.next(now.Add(time.Duration(i)*ms), 100)
		if f == lost {
			n++
			continue
		}
		if at.Before(previous) {
			t.Fatal("packets change places")
		}
		previous = at
	}
	if n < 900 || n > 1100 {
		t.Errorf("%d of 10000 packets lost at 10 %%", n)
	}
}

// Real packets between real sockets, and what the two sides are isolated from.
func TestPair(t *testing.T) {
	const delay = 20 * time.Millisecond
	a, b, link := Pair(t, Impairment{Delay: delay}, Impairment{Delay: delay})
	server, err := b.Listen("tcp", b.Addr.String()+":80")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "from "+r.RemoteAddr)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = web.Serve(server) }()
	defer func() { _ = web.Close(); <-done }()

	client := &http.Client{Transport: &http.Transport{DialContext: a.DialContext}}
	defer client.CloseIdleConnections()
	start := time.Now()
	res, err := client.Get("http://" + b.Addr.String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if !strings.HasPrefix(string(body), "from "+a.Addr.String()+":") {
		t.Errorf("got %q", body)
	}
	if took := time.Since(start); took < 4*delay {
		t.Errorf("connecting and asking took %v, less than two round trips of %v", took, 2*delay)
	}
	if toB, toA := link.Counters(); toB.Packets < 3 || toA.Packets < 2 || toB.Lost+toB.Dropped != 0 {
		t.Errorf("counters %+v %+v", toB, toA)
	}

	// A cut line carries nothing.
	link.Set(Impairment{Loss: 1}, Impairment{})
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if c, err := a.DialContext(ctx, "tcp", b.Addr.String()+":80"); err == nil {
		_ = c.Close()
		t.Error("connected over a line that loses everything")
	}
}

func TestCommand(t *testing.T) {
	a, _, _ := Pair(t, Impairment{}, Impairment{})
	out, err := a.Command("cat", "/proc/net/dev").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := string(out); !strings.Contains(got, "link0:") || strings.Contains(got, "eth0:") {
		t.Errorf("the command sees other interfaces than its namespace's:\n%s", got)
	}
}
