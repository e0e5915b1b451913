package heal

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gantry/internal/recording"
	"gantry/internal/secret"
	"gantry/internal/testkit"
	"gantry/media"
	"gantry/relay"
	"gantry/relay/record"
	"gantry/uplink"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var tracks = []media.Track{{Codec: media.H264, ClockRate: 90000}, {Codec: media.Opus, ClockRate: 48000, Channels: 2}}

const token = secret.String("publish-token")

// programme returns access units of a moving picture, 30 a second, with a key frame each half second.
var programme = sync.OnceValues(func() (units [][]byte, err error) {
	raw, err := exec.Command("ffmpeg", "-hide_banner", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30", "-t", "6", "-c:v", "libx264",
		"-preset", "ultrafast", "-tune", "zerolatency", "-g", "15", "-x264-params", "aud=1", "-f", "h264", "-").Output()
	for i, u := range strings.Split(string(raw), "\x00\x00\x00\x01\x09") {
		if i > 0 {
			units = append(units, []byte("\x00\x00\x00\x01\x09"+u))
		}
	}
	return units, err
})

// fill records ranges of the programme, which began at a time, into a folder.
func fill(t *testing.T, dir, folder string, began time.Time, ranges ...[2]int) {
	t.Helper()
	units, err := programme()
	if err != nil {
		t.Fatal(err)
	}
	c := recording.Default()
	c.Dir, c.Spare = dir, 0
	w, err := recording.NewWriter(recording.NewDisk(c), folder, recording.Source{Tracks: tracks, KeyFrame: func() {},
		Wall: func(_ uint8, pts time.Duration) (time.Time, bool) { return began.Add(pts), true }}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, r := range ranges {
		for i := r[0]; i < r[1]; i++ {
			at := time.Duration(i) * time.Second / 30
			for track, data := range [][]byte{units[i], {0xfc, 0xff, byte(i)}} {
				if _, err := w.Write(&media.Packet{Track: uint8(track), PTS: at, DTS: at, Start: true, End: true, Key: i%15 == 0 || track == 1, Data: data}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// A bench has a relay's recording "studio" with a gap from 1 to 4 s, and a box with a folder.
type bench struct {
	relay   *recording.Folder
	box     string
	began   time.Time
	handler http.Handler
	server  *httptest.Server
	path    atomic.Int64
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{box: t.TempDir(), began: time.Now().Add(-time.Minute)}
	c := record.Default()
	c.Dir, c.Spare = t.TempDir(), 0
	fill(t, c.Dir, "studio", b.began, [2]int{0, 30}, [2]int{120, 180})
	b.relay = recording.NewFolder(filepath.Join(c.Dir, "studio"))
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	b.handler = record.New(c, relay.NewHub(relay.Default(), log), func(got, _ string) error {
		if got != token.Reveal() {
			return errors.New("a token is needed")
		}
		return nil
	}, log)
	b.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { b.handler.ServeHTTP(w, r) }))
	t.Cleanup(b.server.Close)
	b.path.Store(100_000_000)
	return b
}

func (b *bench) gaps(t *testing.T) int {
	t.Helper()
	gaps, err := b.relay.Gaps()
	if err != nil {
		t.Fatal(err)
	}
	return len(gaps)
}

func (b *bench) config() Config {
	c := Default()
	c.URL, c.Token, c.Dir, c.Uplink = b.server.URL+"/api/v1/recordings/studio", token, b.box, "live"
	return c
}

// run starts a Sender; stop ends it and returns its error.
func (b *bench) run(t *testing.T, c Config) (s *Sender, done chan error, stop func()) {
	t.Helper()
	s = New(c, slog.New(slog.NewTextHandler(t.Output(), nil)))
	ctx, cancel := context.WithCancel(t.Context())
	done = make(chan error, 1)
	q := media.NewQueue(time.Second, tracks)
	go func() {
		done <- s.Run(ctx, uplink.Program{Tracks: tracks, Packets: q, Path: func(name string) int {
			if name != "live" {
				t.Errorf("the path of %q", name)
			}
			return int(b.path.Load())
		}})
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return s, done, stop
}

// The relay's gap is closed from the box's folder.
func TestHeals(t *testing.T) {
	b := newBench(t)
	fill(t, b.box, "", b.began, [2]int{0, 180})
	s, _, _ := b.run(t, b.config())
	testkit.Eventually(t, 10*time.Second, "there is no gap", func() bool { return b.gaps(t) == 0 })
	if st := s.Stats(); st.Warning != "" || st.Bytes < 50_000 || st.Packets < 3 {
		t.Errorf("%+v", st)
	}
}

// No more than a share of the live path is used, nothing while it is down, and a box that starts again goes on where it was.
func TestRateAndRestart(t *testing.T) {
	b := newBench(t)
	fill(t, b.box, "", b.began, [2]int{0, 180})
	b.path.Store(0)
	s, _, stop := b.run(t, b.config())
	testkit.Eventually(t, 5*time.Second, "the relay was asked", func() bool { _, err := s.folder.Newest(); return err == nil && len(s.Stats().Remote) > 0 })
	b.path.Store(4_000_000) // of which a quarter
	from := time.Now()
	testkit.Eventually(t, 10*time.Second, "a clip has arrived", func() bool { return s.Stats().Packets >= 1 })
	if rate := float64(s.Stats().Bytes) * 8 / time.Since(from).Seconds(); rate > 1_300_000 {
		t.Errorf("%.0f bit/s", rate)
	}
	stop()
	gaps, err := b.relay.Gaps()
	if err != nil || len(gaps) != 1 || gaps[0].From.Sub(b.began) < 1200*time.Millisecond {
		t.Fatalf("%v %v", gaps, err)
	}
	before := s.Stats().Bytes
	b.path.Store(100_000_000)
	again, _, _ := b.run(t, b.config())
	testkit.Eventually(t, 10*time.Second, "there is no gap", func() bool { return b.gaps(t) == 0 })
	t.Logf("%d bytes before the restart, %d after", before, again.Stats().Bytes)
}

// What the box has not either is said.
func TestLost(t *testing.T) {
	b := newBench(t)
	fill(t, b.box, "", b.began, [2]int{60, 180})
	s, _, _ := b.run(t, b.config())
	testkit.Eventually(t, 10*time.Second, "it is said", func() bool { return s.Stats().Warning != "" })
	if w := s.Stats().Warning; !strings.Contains(w, "no recording of it here") {
		t.Error(w)
	}
	gaps, err := b.relay.Gaps()
	if err != nil || len(gaps) != 1 || gaps[0].To.Sub(b.began).Round(100*time.Millisecond) != 2*time.Second {
		t.Errorf("%v %v", gaps, err)
	}
}

// The relay's answers end the connection, or the gap.
func TestAnswers(t *testing.T) {
	b := newBench(t)
	fill(t, b.box, "", b.began, [2]int{0, 180})
	c := b.config()
	c.Token = "wrong"
	s := New(c, slog.New(slog.DiscardHandler))
	if err := s.Run(t.Context(), uplink.Program{Packets: media.NewQueue(time.Second, tracks)}); !errors.Is(err, uplink.ErrRefused) || strings.Contains(err.Error(), "wrong") {
		t.Error(err)
	}
	relay := b.handler
	var puts atomic.Int32
	b.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && puts.Add(1) == 2 { // the answer to the second clip is lost
			relay.ServeHTTP(httptest.NewRecorder(), r)
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		relay.ServeHTTP(w, r)
	})
	_, done, _ := b.run(t, b.config())
	if err := <-done; err == nil || !strings.Contains(err.Error(), "502") {
		t.Error(err)
	}
	done <- nil
	b.run(t, b.config())
	testkit.Eventually(t, 10*time.Second, "there is no gap", func() bool { return b.gaps(t) == 0 })
}

func TestConfig(t *testing.T) {
	good := Default()
	good.URL, good.Dir, good.Uplink = "https://relay.example/api/v1/recordings/studio", "/var/lib/x", "relay"
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"url: want http":              func(c *Config) { c.URL = "ftp://x" },
		"url: is not that of":         func(c *Config) { c.URL = "http://x/whip/a" },
		"url: has a user name":        func(c *Config) { c.URL = "http://a:b@x/api/v1/recordings/a" },
		"url: has a ?":                func(c *Config) { c.URL += "?token=x" },
		"token: has spaces":           func(c *Config) { c.Token = "a b" },
		"dir: want the absolute":      func(c *Config) { c.Dir = "x" },
		"uplink: is missing":          func(c *Config) { c.Uplink = "" },
		"share: want 1 to 90 percent": func(c *Config) { c.Share = 100 },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
