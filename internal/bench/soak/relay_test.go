package soak

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gantry/internal/bench/load"
	"gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const (
	token          = "publish-token-1"
	publisherURL   = "GANTRY_TEST_PUBLISHER_URL"
	publisherFile  = "GANTRY_TEST_PUBLISHER_FILE"
	pictureBitrate = 1_500_000
)

// TestPublisherProcess is no test but a program for tests: a WHIP publisher without an end, in the network where it is started.
func TestPublisherProcess(t *testing.T) {
	url := os.Getenv(publisherURL)
	if url == "" {
		return
	}
	picture, err := load.NewPicture(context.Background(), pictureBitrate, 1, os.Getenv(publisherFile))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	p, err := load.Publish(ctx, picture, url, true)
	if err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	p.Close()
}

// picture returns the picture that publishers send, and the file that holds it.
func picture(t *testing.T) (*load.Picture, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "picture.h264")
	p, err := load.NewPicture(t.Context(), pictureBitrate, 1, file)
	if err != nil {
		t.Fatal(err)
	}
	return p, file
}

// startRelay starts the relay's binary by command, and returns it with its HTTP address.
func startRelay(t *testing.T, command func(name string, args ...string) *exec.Cmd, host string) (*testkit.Process, string) {
	t.Helper()
	cmd := command(testkit.Bin(t, "gantry-relay"), "--http", host+":0", "--rtc", host+":0", "--srt", "", "--rtmp", "", "--publish-token", token)
	p := testkit.StartCmd(t, cmd)
	return p, p.WaitLine(30*time.Second, `msg=serving http=(http://\S+)`)[1]
}

// held are the figures of what a relay holds.
type held struct{ goroutines, descriptors, viewers, heap, rss float64 }

func (h held) String() string {
	return fmt.Sprintf("%4.0f viewers %5.0f goroutines %4.0f descriptors %6.1f MB heap %6.1f MB resident", h.viewers, h.goroutines, h.descriptors, h.heap/1e6, h.rss/1e6)
}

// hold asks the relay for its figures.
func hold(p *testkit.Process, base string) (h held, err error) {
	resp, err := http.Get(base + "/metrics")
	if err != nil {
		return h, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return h, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		into := map[string]*float64{"gantry_process_goroutines": &h.goroutines, "gantry_process_open_descriptors": &h.descriptors,
			"gantry_process_heap_live_bytes": &h.heap, "gantry_egress_viewer_sessions": &h.viewers}[name]
		if into != nil {
			if *into, err = strconv.ParseFloat(value, 64); err != nil {
				return h, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	if err != nil {
		return h, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				return h, err
			}
			h.rss = kb * 1024
		}
	}
	return h, nil
}

func live(base string) bool { return liveBy(http.DefaultClient, base) }

// liveBy asks the relay by a client whether the stream is live.
func liveBy(client *http.Client, base string) bool {
	resp, err := client.Get(base + "/api/v1/streams")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return err == nil && strings.Contains(string(text), `"live":true`)
}
