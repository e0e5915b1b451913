package record

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gantry/internal/testkit"
	"gantry/media"
	"gantry/uplink"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var tracks = testkit.ProgrammeTracks(media.Opus)

var began = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// feed pushes seconds of the programme from a moment of its timeline on.
func feed(q *media.Queue, p *testkit.Programme, from time.Duration, seconds int) {
	for i := range seconds * 30 {
		p.Push(q, from, i)
	}
}

// record runs a Sender over what is fed, to its end.
func record(t *testing.T, c Config, feed func(q *media.Queue)) *Sender {
	t.Helper()
	s := New(c, slog.New(slog.NewTextHandler(t.Output(), nil)))
	q := media.NewQueue(time.Hour, tracks)
	feed(q)
	over := errors.New("over")
	q.Close(over)
	err := s.Run(t.Context(), uplink.Program{Tracks: tracks, Packets: q, Feedback: func(media.Feedback) {},
		Wall: func(pts time.Duration) time.Time { return began.Add(pts) }})
	if !errors.Is(err, over) {
		t.Fatal(err)
	}
	return s
}

// A content is what ffprobe finds in a file.
type content struct {
	codecs   string
	pictures int
	seconds  float64
}

func probe(t *testing.T, file string) content {
	t.Helper()
	out, err := exec.Command("ffprobe", "-v", "error", "-count_frames", "-show_entries", "stream=codec_name,nb_read_frames:format=duration", "-of", "json", file).CombinedOutput()
	var said struct {
		Streams []struct {
			Codec  string `json:"codec_name"`
			Frames string `json:"nb_read_frames"`
		}
		Format struct{ Duration string }
	}
	if start := strings.IndexByte(string(out), '{'); err != nil || start < 0 || json.Unmarshal(out[start:], &said) != nil || len(said.Streams) != 2 {
		t.Fatalf("%s: %v %s", file, err, out)
	}
	c := content{codecs: said.Streams[0].Codec + " " + said.Streams[1].Codec}
	c.pictures, _ = strconv.Atoi(said.Streams[0].Frames)
	c.seconds, _ = strconv.ParseFloat(said.Format.Duration, 64)
	return c
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*.mp4"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestSplitByTime(t *testing.T) {
	c := Default()
	c.Dir, c.Every = filepath.Join(t.TempDir(), "made"), 2*time.Second
	units := testkit.NewProgramme(t, media.Opus)
	s := record(t, c, func(q *media.Queue) {
		feed(q, units, time.Second, 5)
		feed(q, units, time.Minute, 1) // the timeline jumps
	})
	list := files(t, c.Dir)
	var names []string
	pictures := 0
	for _, f := range list {
		names = append(names, filepath.Base(f))
		got := probe(t, f)
		pictures += got.pictures
		if got.codecs != "h264 opus" || got.seconds < 0.95 || got.seconds > 2.1 {
			t.Errorf("%s: %+v", f, got)
		}
	}
	if got := strings.Join(names, " "); got != "20261122T120001.000Z.mp4 20261122T120003.000Z.mp4 20261122T120005.000Z.mp4 20261122T120100.000Z.mp4" {
		t.Errorf("%s", got)
	}
	if pictures != 6*30 {
		t.Errorf("%d pictures of %d", pictures, 6*30)
	}
	if st := s.Stats(); st.Bytes < 200_000 || st.Warning != "" {
		t.Errorf("%+v", st)
	}
}

// The oldest recordings go when the budget is used up; what others put there stays; a person is warned before.
func TestBudget(t *testing.T) {
	c := Default()
	c.Dir, c.Size, c.Budget, c.Spare = t.TempDir(), 100_000, 600_000, 0
	other := filepath.Join(c.Dir, "holiday.mp4")
	if err := os.WriteFile(other, make([]byte, 1_000_000), 0o600); err != nil {
		t.Fatal(err)
	}
	units := testkit.NewProgramme(t, media.Opus)
	var warned string
	s := New(c, slog.New(slog.DiscardHandler))
	q := media.NewQueue(time.Hour, tracks)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- s.Run(ctx, uplink.Program{Tracks: tracks, Packets: q, Feedback: func(media.Feedback) {}, Wall: func(pts time.Duration) time.Time { return began.Add(pts) }})
	}()
	for i := 0; i < 60 && !strings.Contains(warned, "are deleted"); i++ {
		before := s.Stats().Bytes
		feed(q, units, time.Duration(i)*time.Second, 1)
		testkit.Eventually(t, 5*time.Second, "a second is written", func() bool { return s.Stats().Bytes > before })
		if w := s.Stats().Warning; w != "" && w != warned {
			if warned == "" && !strings.Contains(w, "soon the oldest") {
				t.Errorf("the first warning: %s", w)
			}
			warned = w
		}
		var sum int64
		for _, f := range files(t, c.Dir) {
			if info, err := os.Stat(f); err == nil && f != other {
				sum += info.Size()
			}
		}
		if sum > int64(c.Budget)+50_000 { // the newest file's last seconds
			t.Fatalf("%d bytes of %d", sum, c.Budget)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !strings.Contains(warned, "the oldest are deleted") {
		t.Errorf("warned: %q", warned)
	}
	list := files(t, c.Dir)
	if _, err := os.Stat(other); err != nil || filepath.Base(list[0]) == "20261122T120000.000Z.mp4" {
		t.Errorf("%v %v", err, list)
	}
	for _, f := range list[:len(list)-1] {
		if f != other {
			probe(t, f)
		}
	}
}

// A disk without room is an error that says so, and nothing is deleted that is not ours.
func TestNoRoom(t *testing.T) {
	c := Default()
	c.Dir, c.Spare = t.TempDir(), 1e15
	s := New(c, slog.New(slog.DiscardHandler))
	q := media.NewQueue(time.Hour, tracks)
	feed(q, testkit.NewProgramme(t, media.Opus), 0, 1)
	err := s.Run(t.Context(), uplink.Program{Tracks: tracks, Packets: q, Feedback: func(media.Feedback) {}, Wall: func(time.Duration) time.Time { return began }})
	if err == nil || !strings.Contains(err.Error(), "the disk has") {
		t.Error(err)
	}
}

const killDir = "GANTRY_TEST_RECORD_DIR"

// TestRecorder is what TestKilledRecorder kills.
func TestRecorder(t *testing.T) {
	dir := os.Getenv(killDir)
	if dir == "" {
		t.Skip("part of TestKilledRecorder")
	}
	c := Default()
	c.Dir = dir
	units := testkit.NewProgramme(t, media.Opus)
	q := media.NewQueue(time.Hour, tracks)
	go func() {
		for i := 0; ; i++ {
			feed(q, units, time.Duration(i)*time.Second, 1)
			time.Sleep(100 * time.Millisecond) // ten times as fast as life
		}
	}()
	_ = New(c, slog.New(slog.DiscardHandler)).Run(t.Context(), uplink.Program{Tracks: tracks, Packets: q, Feedback: func(media.Feedback) {},
		Wall: func(pts time.Duration) time.Time { return began.Add(pts) }})
}

// What was recorded before the recorder is killed in the middle of it can be played, up to the last second.
func TestKilledRecorder(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestRecorder$")
	cmd.Env = append(os.Environ(), killDir+"="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	testkit.Eventually(t, 20*time.Second, "some seconds are recorded", func() bool {
		list := files(t, dir)
		if len(list) == 0 {
			return false
		}
		info, err := os.Stat(list[0])
		return err == nil && info.Size() > 600_000
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	list := files(t, dir)
	whole := probe(t, list[0])
	if whole.codecs != "h264 opus" || whole.pictures < 150 || whole.seconds < 5 {
		t.Errorf("%+v", whole)
	}
	// A power cut may leave the last fragment torn: the rest plays all the same.
	info, err := os.Stat(list[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(list[0], info.Size()-5000); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ffprobe", "-v", "quiet", "-count_frames", "-select_streams", "v", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0", list[0]).Output(); err != nil {
		t.Error(err)
	} else if n, _ := strconv.Atoi(strings.TrimSpace(string(out))); n < whole.pictures-45 {
		t.Errorf("%d pictures of %d after a torn end", n, whole.pictures)
	}
}

func TestConfig(t *testing.T) {
	good := Default()
	good.Dir = "/var/lib/x"
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"dir: want the absolute path": func(c *Config) { c.Dir = "x" },
		"every: want 1s to 24h":       func(c *Config) { c.Every = 0 },
		"size: want 1M or more":       func(c *Config) { c.Size = 1 },
		"budget: want room for two":   func(c *Config) { c.Budget = c.Size },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
