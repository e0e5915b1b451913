package whip

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtp/codecs"

	"gantry/internal/clock"
	"gantry/internal/rtc"
	"gantry/internal/testkit"
	"gantry/media"
	"gantry/media/h264"
	"gantry/relay"
	ingest "gantry/relay/ingest/whip"
	"gantry/uplink"
)

// A station is our own relay's WHIP side, reached through a path or directly.
type station struct {
	hub    *relay.Hub
	server *ingest.Server
	web    *httptest.Server
	link   *path // nil: directly
	tcp    bool  // ICE-TCP passes beside the path
}

func newStation(t *testing.T, link *path) *station {
	port, err := rtc.Listen(rtc.Config{Addr: "127.0.0.1:0"}, slog.New(slog.DiscardHandler))
	must(t, err)
	web, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	return newStationOn(t, port, web, link)
}

func newStationOn(t *testing.T, port *rtc.Port, web net.Listener, link *path) *station {
	log := slog.New(slog.DiscardHandler)
	cfg := relay.Default()
	cfg.Hold = 0
	s := &station{hub: relay.NewHub(cfg, log), link: link}
	access := ingest.Access{Authorize: func(got, stream string) error {
		if got != token {
			return errors.New("wrong token")
		}
		return nil
	}}
	var err error
	s.server, err = ingest.New(ingest.Default(), s.hub, port, access, log)
	must(t, err)
	s.web = &httptest.Server{Listener: web, Config: &http.Server{Handler: http.HandlerFunc(s.serve)}}
	s.web.Start()
	t.Cleanup(func() {
		s.web.Close()
		_ = s.server.Close()
		_ = s.hub.Close()
		_ = port.Close()
	})
	return s
}

var (
	anyCandidate = regexp.MustCompile(`a=candidate:[^\r\n]*\r?\n`)
	tcpCandidate = regexp.MustCompile(`a=candidate:\S+ \d+ tcp [^\r\n]*\r?\n`)
)

// serve puts the path between both sides: the relay learns no candidate of the sender, the sender only the path's.
func (s *station) serve(w http.ResponseWriter, r *http.Request) {
	if s.link == nil {
		s.server.ServeHTTP(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body)
	body = anyCandidate.ReplaceAll(body, nil)
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	answer := httptest.NewRecorder()
	s.server.ServeHTTP(answer, r)
	for k, v := range answer.Header() {
		w.Header()[k] = v
	}
	w.Header().Del("Content-Length")
	w.WriteHeader(answer.Code)
	text := answer.Body.String()
	if !s.tcp {
		text = tcpCandidate.ReplaceAllString(text, "")
	}
	_, _ = io.WriteString(w, s.link.rewrite(text))
}

// recording returns the access units of 4 s of a moving picture, as x264 makes them, a key frame each second.
var recording = sync.OnceValues(func() ([][]byte, error) {
	cmd := exec.Command("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=rate=30:size=640x360", "-frames:v", "120", "-pix_fmt", "yuv420p",
		"-c:v", "libx264", "-preset", "veryfast", "-threads", "1", "-tune", "zerolatency", "-x264-params", "aud=1:keyint=30:scenecut=0:repeat-headers=1", "-f", "h264", "-")
	stream, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var all [][]byte
	for n := range h264.NALUs(stream) {
		if h264.TypeOf(n) == h264.AUD {
			all = append(all, nil)
		}
		all[len(all)-1] = h264.Append(all[len(all)-1], n)
	}
	return all, nil
})

// picture identifies the coded picture of an access unit.
func picture(units [][]byte) (sum [32]byte, key bool) {
	h := sha256.New()
	for _, n := range units {
		if t := h264.TypeOf(n); t == h264.IDR || t == h264.NonIDR {
			key = key || t == h264.IDR
			_, _ = h.Write(n)
		}
	}
	return [32]byte(h.Sum(nil)), key
}

// replay plays the recording into prog for ever and returns at which PTS each picture was last taken.
func (p *programme) replay(ctx context.Context, t *testing.T) func([32]byte) (time.Duration, bool) {
	all, err := recording()
	must(t, err)
	var mu sync.Mutex
	taken := map[[32]byte]time.Duration{}
	var work sync.WaitGroup
	t.Cleanup(work.Wait)
	work.Go(func() {
		p.tick(ctx, func(i int, now time.Duration) {
			au := all[i%len(all)]
			id, key := picture(units(au))
			mu.Lock()
			taken[id] = now
			mu.Unlock()
			p.Packets.Push(&media.Packet{PTS: now, DTS: now, Start: true, End: true, Key: key, Data: au})
		})
	})
	return func(id [32]byte) (time.Duration, bool) {
		mu.Lock()
		defer mu.Unlock()
		pts, ok := taken[id]
		return pts, ok
	}
}

// A seen picture is one that a subscriber of the relay put together.
type seenPicture struct {
	id      [32]byte
	wall    time.Time
	hasWall bool
	lost    bool
}

// watch gives f each whole picture of the stream until it returns false.
func (s *station) watch(t *testing.T, stream string, f func(seenPicture) bool) {
	t.Helper()
	var sub *relay.Subscription
	testkit.Eventually(t, 20*time.Second, "the stream", func() bool {
		var err error
		sub, err = s.hub.Subscribe(stream, relay.Want{Packing: media.RTP})
		return err == nil
	})
	defer sub.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	var d codecs.H264Packet
	var au []byte
	var packets []*media.Packet
	whole := false
	for {
		var err error
		if packets, err = sub.Pull(ctx, packets[:0]); err != nil {
			t.Fatalf("pull: %v", err)
		}
		for _, p := range packets {
			if p.Track != 0 {
				continue
			}
			if p.Start {
				au, whole, d = nil, true, codecs.H264Packet{}
			}
			b, err := d.Unmarshal(p.Data)
			must(t, err)
			if au = append(au, b...); !p.End || !whole {
				continue
			}
			seen := seenPicture{lost: p.Lost}
			seen.id, _ = picture(units(au))
			seen.wall, seen.hasWall = sub.Wall(p.Track, p.PTS)
			if !f(seen) {
				return
			}
		}
	}
}

// An onAir is a Sender that publishes the recording.
type onAir struct {
	*Sender
	prog  *programme
	taken func([32]byte) (time.Duration, bool)
	ended chan error   // what Run returned
	stop  func() error // ends Run and returns the same
}

func (s *station) start(t *testing.T, stream string) *onAir {
	a := &onAir{prog: newProgramme(1_000_000), ended: make(chan error, 1)}
	a.prog.Tracks[0].Profile = "64001e"
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	a.taken = a.prog.replay(ctx, t)
	c := config(s.web.URL + "/whip/" + stream)
	c.Token = token
	var err error
	a.Sender, err = New(c, testLog(t))
	must(t, err)
	go func() {
		a.ended <- a.Run(ctx, a.prog.Program)
		close(a.ended)
	}()
	a.stop = func() error {
		cancel()
		return <-a.ended
	}
	t.Cleanup(func() { _ = a.stop() })
	connected(t, a.prog)
	return a
}

// What the relay hands on is what was sent, and it knows to the millisecond when each picture was taken.
func TestRelay(t *testing.T) {
	t.Parallel()
	s := newStation(t, nil)
	a := s.start(t, "camera")
	if d := a.Detail(); d.Transport != "udp" {
		t.Errorf("media goes to %s by %s", d.Remote, d.Transport)
	}
	count, off := 0, time.Duration(0)
	s.watch(t, "camera", func(p seenPicture) bool {
		pts, ok := a.taken(p.id)
		if !ok {
			t.Fatal("a picture that was never sent so")
		}
		if count++; count > 30 { // reports have come
			if !p.hasWall {
				t.Fatal("the relay does not know when the picture was taken")
			}
			off = max(off, p.wall.Sub(clock.Wall(pts)).Abs())
		}
		return count < 90
	})
	if off > time.Millisecond {
		t.Errorf("capture times are up to %v off", off)
	}
	t.Logf("capture times are up to %v off", off)
	if n := s.server.Counters().Lost.Load(); n != 0 {
		t.Errorf("%d packets lost on loopback", n)
	}
	sub, err := s.hub.Subscribe("camera", relay.Want{Packing: media.RTP})
	must(t, err)
	defer sub.Close()
	before := a.Detail().PLIs
	testkit.Eventually(t, 3*time.Second, "the subscriber's key frame request", func() bool {
		sub.Feedback(media.Feedback{KeyFrame: true})
		return a.Detail().PLIs > before
	})
	testkit.Eventually(t, 5*time.Second, "round trip and estimate", func() bool { return a.Detail().RTT > 0 && a.Detail().Estimate > 0 })
	must(t, a.stop())
	testkit.Eventually(t, time.Second, "the session to be gone", func() bool { return s.server.Counters().Sessions.Load() == 0 })
}

func TestRelayRefuses(t *testing.T) {
	s := newStation(t, nil)
	for stream, want := range map[string]string{"camera": "401", "..%2fx": "40"} {
		c := config(s.web.URL + "/whip/" + stream)
		c.Token = "wrong"
		sender, err := New(c, testLog(t))
		must(t, err)
		err = sender.Run(context.Background(), newProgramme(1_000_000).Program)
		if !errors.Is(err, uplink.ErrRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", stream, err)
		}
	}
}

// 3 % loss: the relay asks again, and hands on all pictures.
func TestRelayLoss(t *testing.T) {
	s := newStation(t, newPath(t))
	a := s.start(t, "camera")
	testkit.Eventually(t, 5*time.Second, "the stream", func() bool { _, err := s.hub.Live("camera"); return err == nil })
	s.link.set(func(l *path) { l.lose = func(b []byte) bool { return isMedia(b) && rand.IntN(100) < 3 } })
	count, gaps := 0, 0
	s.watch(t, "camera", func(p seenPicture) bool {
		if _, ok := a.taken(p.id); !ok || p.lost {
			gaps++
		}
		count++
		return count < 150
	})
	s.link.set(func(l *path) { l.lose = nil })
	c := s.server.Counters()
	stats := a.Detail()
	t.Logf("asked for %d, sent again %d, recovered %d, lost %d; %d of %d pictures damaged",
		c.NACKs.Load(), stats.Retransmitted, c.Recovered.Load(), c.Lost.Load(), gaps, count)
	if c.Recovered.Load() < 5 || c.Lost.Load() > 2 || gaps > 2 {
		t.Error("loss was not repaired")
	}
	if stats.Retransmitted > 3*c.Recovered.Load() {
		t.Error("far more sent again than was lost")
	}
	must(t, a.stop())
}

// The path breaks and comes back: the same session goes on, in the relay too.
func TestRelayICERestart(t *testing.T) {
	t.Parallel()
	s := newStation(t, newPath(t))
	a := s.start(t, "camera")
	s.watch(t, "camera", func(seenPicture) bool { return false })
	s.link.set(func(l *path) { l.cut = true })
	testkit.Eventually(t, 10*time.Second, "the path to be given up", func() bool { return a.Detail().Restarts == 1 })
	s.link.set(func(l *path) { l.cut = false })
	testkit.Eventually(t, 10*time.Second, "the new path", func() bool { return a.Detail().Connected })
	count := 0
	s.watch(t, "camera", func(p seenPicture) bool {
		if _, ok := a.taken(p.id); !ok {
			t.Error("a damaged picture")
		}
		count++
		return count < 60
	})
	if n := s.server.Counters().Sessions.Load(); n != 1 {
		t.Errorf("%d sessions", n)
	}
	must(t, a.stop())
}

// Where UDP does not pass, media goes over ICE-TCP (RFC 6544).
func TestRelayWithoutUDP(t *testing.T) {
	t.Parallel()
	s := newStation(t, newPath(t))
	s.tcp = true
	s.link.set(func(l *path) { l.cut = true })
	a := s.start(t, "camera")
	if d := a.Detail(); d.Transport != "tcp" {
		t.Errorf("media goes to %s by %s", d.Remote, d.Transport)
	}
	count := 0
	s.watch(t, "camera", func(p seenPicture) bool {
		if _, ok := a.taken(p.id); !ok {
			t.Error("a damaged picture")
		}
		count++
		return count < 30
	})
	must(t, a.stop())
}

// A server that ends the session is not waited for.
func TestRelayEndsSession(t *testing.T) {
	t.Parallel()
	s := newStation(t, nil)
	a := s.start(t, "camera")
	s.watch(t, "camera", func(seenPicture) bool { return false })
	begin := time.Now()
	must(t, s.server.Close())
	select {
	case err := <-a.ended:
		if err == nil || !strings.Contains(err.Error(), "server ended the session") {
			t.Errorf("error %v", err)
		}
		t.Logf("noticed after %v", time.Since(begin).Round(time.Millisecond))
	case <-time.After(10 * time.Second):
		t.Error("not noticed")
	}
}
