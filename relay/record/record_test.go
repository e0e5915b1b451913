package record

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gantry/internal/testkit"
	"gantry/media"
	"gantry/relay"
	"gantry/relay/slate"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var tracks = []media.Track{{Codec: media.H264, ClockRate: 90000}, {Codec: media.Opus, ClockRate: 48000, Channels: 2}}

// programme returns access units of a moving picture, 30 a second, with a key frame each half second.
var programme = sync.OnceValues(func() (units [][]byte, err error) {
	raw, err := exec.Command("ffmpeg", "-hide_banner", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30", "-t", "3", "-c:v", "libx264",
		"-preset", "ultrafast", "-tune", "zerolatency", "-g", "15", "-x264-params", "aud=1", "-f", "h264", "-").Output()
	for i, u := range strings.Split(string(raw), "\x00\x00\x00\x01\x09") {
		if i > 0 {
			units = append(units, []byte("\x00\x00\x00\x01\x09"+u))
		}
	}
	return units, err
})

const token = "publish-token"

func authorize(got, _ string) error {
	if got != token {
		return errors.New("a token is needed")
	}
	return nil
}

// A station is a Server at work with a stream that is published, in wall time since began.
type station struct {
	*Server
	hub   *relay.Hub
	began time.Time
	stop  func()
}

func start(t *testing.T, c Config) *station {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	limits := relay.Default()
	limits.Queue = 10 * time.Second // the test is faster than life
	hub := relay.NewHub(limits, log)
	s := &station{Server: New(c, hub, authorize, log), hub: hub, began: time.Now().UTC()}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = hub.Close()
	})
	t.Cleanup(s.stop)
	return s
}

func config(t *testing.T) Config {
	c := Default()
	c.Dir, c.Spare = t.TempDir(), 0
	return c
}

// publish sends pictures from first to last as fast as they are recorded.
func (s *station) publish(t *testing.T, stream string, first, last int) {
	t.Helper()
	units, err := programme()
	if err != nil {
		t.Fatal(err)
	}
	pub, err := s.hub.Publish(stream, relay.Publisher{Tracks: tracks, Protocol: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer pub.Close()
	pub.Sync(0, 0, s.began)
	pub.Sync(1, 0, s.began)
	before := s.Stats().Bytes
	for i := first; i < last; i++ {
		at := time.Duration(i) * time.Second / 30
		pub.Write(&media.Packet{PTS: at, DTS: at, Start: true, End: true, Key: i%15 == 0, Data: units[i%len(units)]})
		pub.Write(&media.Packet{Track: 1, PTS: at, DTS: at, Start: true, End: true, Key: true, Data: []byte{0xfc, 0xff, 0xfe}})
		if i == first { // the recorder comes by
			testkit.Eventually(t, 5*time.Second, "it is recorded", func() bool { return s.Stats().Recording > 0 && s.Stats().Bytes > before })
		}
	}
}

func (s *station) get(t *testing.T, method, path string, body []byte, status int) []byte {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(string(body)))
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code != status {
		t.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	return w.Body.Bytes()
}

func pictures(t *testing.T, file string) int {
	t.Helper()
	out, err := exec.Command("ffprobe", "-v", "error", "-count_frames", "-select_streams", "v", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0", file).CombinedOutput()
	n, err2 := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil || err2 != nil {
		t.Errorf("%s: %v %s", file, err, out)
	}
	return n
}

// Streams are recorded into folders of their own, and those who may publish list and fetch what there is.
func TestRecordAndFetch(t *testing.T) {
	s := start(t, config(t))
	s.publish(t, "studio/cam", 0, 60)
	s.stop()
	var all struct{ Streams []Recorded }
	if err := json.Unmarshal(s.get(t, "GET", Prefix, nil, 200), &all); err != nil || len(all.Streams) != 1 || all.Streams[0].Name != "studio/cam" || all.Streams[0].Bytes < 10_000 {
		t.Fatalf("%+v %v", all, err)
	}
	var list Recordings
	if err := json.Unmarshal(s.get(t, "GET", Prefix+"/studio/cam", nil, 200), &list); err != nil || len(list.Files) != 1 || len(list.Gaps) != 0 {
		t.Fatalf("%+v %v", list, err)
	}
	if d := list.Files[0].From.Sub(s.began); d.Abs() > 2*time.Millisecond {
		t.Errorf("begins %v after its first picture", d)
	}
	file := filepath.Join(t.TempDir(), "got.mp4")
	if err := os.WriteFile(file, s.get(t, "GET", Prefix+"/studio/cam/"+list.Files[0].Name, nil, 200), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := pictures(t, file); n != 60 {
		t.Errorf("%d pictures", n)
	}
	if page := string(s.get(t, "GET", Page, nil, 200)); !strings.Contains(page, "studio/cam") || !strings.Contains(page, list.Files[0].Name) {
		t.Errorf("%s", page)
	}
	s.get(t, "GET", Prefix+"/studio/cam/20200101T000000.000Z.mp4", nil, 404)
	s.get(t, "GET", Prefix+"/../etc", nil, 404)
	s.get(t, "GET", Prefix+"/%2e%2e/etc", nil, 404)
	s.get(t, "POST", Prefix+"/studio/cam", nil, 405)
	s.get(t, "PUT", Prefix+"/studio/cam", []byte("rubbish"), 400)
	s.get(t, "PUT", Prefix+"/studio/cam", make([]byte, maxClip+1), 413)
	for _, path := range []string{Prefix, Prefix + "/studio/cam", Prefix + "/studio/cam/" + list.Files[0].Name, Page} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if body, _ := io.ReadAll(w.Body); w.Code != http.StatusUnauthorized || strings.Contains(string(body), "2026") {
			t.Errorf("%s without a token: %d %s", path, w.Code, body)
		}
	}
}

// What viewers see while nobody publishes is not recorded: there is a gap, as without it.
func TestNoSlateIsRecorded(t *testing.T) {
	t.Parallel()
	s := start(t, config(t))
	s.hub.SetSlate(func(track media.Track) [][]byte {
		track.Width, track.Height = 320, 180
		return slate.New("back soon")(track)
	})
	s.publish(t, "a", 0, 45)
	testkit.Eventually(t, 10*time.Second, "the slate is shown, twice", func() bool {
		sub, err := s.hub.Subscribe("a", relay.Want{})
		if err != nil {
			return false
		}
		defer sub.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, _ = sub.Pull(ctx, nil) // what is cached
		next, err := sub.Pull(ctx, nil)
		return err == nil && len(next) > 0
	})
	s.began = s.began.Add(4 * time.Second)
	s.publish(t, "a", 0, 45)
	s.stop()
	var list Recordings
	if err := json.Unmarshal(s.get(t, "GET", Prefix+"/a", nil, 200), &list); err != nil || len(list.Files) != 2 || len(list.Gaps) != 1 {
		t.Fatalf("%+v %v", list, err)
	}
	if g := list.Gaps[0]; g.To.Sub(g.From).Round(10*time.Millisecond) != 2530*time.Millisecond {
		t.Errorf("%+v", g)
	}
	for _, f := range list.Files {
		if n := pictures(t, filepath.Join(s.dir("a"), f.Name)); n != 45 {
			t.Errorf("%s: %d pictures", f.Name, n)
		}
	}
}

// A publisher that leaves and returns makes a gap, which is listed; streams that are not named are not recorded.
func TestGap(t *testing.T) {
	c := config(t)
	c.Streams = []string{"a"}
	s := start(t, c)
	s.publish(t, "a", 0, 45)
	testkit.Eventually(t, 5*time.Second, "what came is written", func() bool { n, _ := s.folder("a").Newest(); return n.Sub(s.began) >= 900*time.Millisecond })
	s.began = s.began.Add(2 * time.Second)
	pub, err := s.hub.Publish("b", relay.Publisher{Tracks: tracks, Protocol: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer pub.Close()
	s.publish(t, "a", 0, 45)
	s.stop()
	var list Recordings
	if err := json.Unmarshal(s.get(t, "GET", Prefix+"/a", nil, 200), &list); err != nil || len(list.Files) != 2 || len(list.Gaps) != 1 {
		t.Fatalf("%+v %v", list, err)
	}
	if g := list.Gaps[0]; g.To.Sub(g.From).Round(10*time.Millisecond) != 530*time.Millisecond { // from the last picture to the next
		t.Errorf("%+v", g)
	}
	if _, err := os.Stat(s.dir("b")); err == nil {
		t.Error("b is recorded")
	}
}
