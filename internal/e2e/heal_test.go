package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gantry/internal/testkit"
	"gantry/internal/testkit/netns"
	"gantry/media"
	"gantry/media/sei"
)

const healToken = "heal-publish-token"

// recorded returns when each picture that a folder's files hold was captured, file after file. Every file must decode without
// fault.
func recorded(t *testing.T, dir string) (times []time.Time) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.mp4"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	for _, f := range files {
		if out, err := exec.Command("ffmpeg", "-v", "error", "-i", f, "-fps_mode", "passthrough", "-f", "framecrc", "-y", os.DevNull).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v %s", f, err, out)
		}
		raw, err := exec.Command("ffmpeg", "-v", "error", "-i", f, "-map", "0:v", "-c", "copy", "-bsf:v", "h264_mp4toannexb,h264_metadata=aud=insert", "-f", "h264", "-").Output()
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		for i, au := range strings.Split(string(raw), "\x00\x00\x00\x01\x09") {
			if i == 0 {
				continue
			}
			at, ok := sei.UTCOf(media.H264, []byte("\x00\x00\x00\x01\x09"+au))
			if !ok {
				t.Fatalf("%s: a picture does not say when it was captured", f)
			}
			times = append(times, at)
		}
	}
	return times
}

// After the link was cut for ten seconds, and after the relay was killed, the relay's recording has every picture that the box
// has sent or kept, each once.
func TestRecordingHeals(t *testing.T) {
	t.Parallel() // it waits most of the time
	box, far, link := netns.Pair(t, netns.Impairment{Delay: 10 * time.Millisecond, Rate: 20_000_000}, netns.Impairment{Delay: 10 * time.Millisecond, Rate: 20_000_000})
	local, remote := t.TempDir(), t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	relayFile := write("relay.yaml", fmt.Sprintf("http: 198.18.0.2:8080\nrtc: 198.18.0.2:8189\nsrt: \"\"\nrtmp: \"\"\nrtmps: \"\"\npublish-token: [%s]\nrecording: {dir: %s, spare: 0}\n", healToken, remote))
	relay := testkit.StartCmd(t, far.Command(testkit.Bin(t, "gantry-relay"), "--config", relayFile))
	relay.WaitLine(10*time.Second, "serving")
	testkit.StartCmd(t, box.Command(testkit.Bin(t, "gantryd"), "--config", write("box.yaml", fmt.Sprintf(`http: ""
video: {testsrc: {width: 320, height: 180, rate: 25}}
audio: {source: tone}
encoder: {bitrate: 600k, gop: 1s, timecode: utc}
uplinks:
- {name: relay, whip: {url: "http://198.18.0.2:8080/whip/studio", token: %[1]s}}
- {name: disk, record: {dir: %[2]s, spare: 0, sound: opus}}
- {name: gaps, heal: {url: "http://198.18.0.2:8080/api/v1/recordings/studio", token: %[1]s, dir: %[2]s, uplink: relay, share: 80}}
`, healToken, local))))

	client := &http.Client{Transport: &http.Transport{DialContext: far.DialContext, DisableKeepAlives: true}, Timeout: 5 * time.Second}
	type list struct {
		Files []struct{ From, To time.Time }
		Gaps  []struct{ From, To time.Time }
	}
	ask := func() (l list) {
		req, _ := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://198.18.0.2:8080/api/v1/recordings/studio", nil)
		req.Header.Set("Authorization", "Bearer "+healToken)
		res, err := client.Do(req)
		if err != nil {
			return l
		}
		defer res.Body.Close()
		_ = json.NewDecoder(res.Body).Decode(&l)
		return l
	}
	newest := func() (at time.Time) {
		if files := ask().Files; len(files) > 0 {
			at = files[len(files)-1].To
		}
		return at
	}
	healed := func(what string, since time.Time) {
		t.Helper()
		gap := false
		testkit.Eventually(t, 60*time.Second, what+": the recording goes on", func() bool {
			l := ask()
			gap = gap || len(l.Gaps) > 0
			return len(l.Files) > 1 && l.Files[len(l.Files)-1].To.Sub(since) > time.Second
		})
		began := time.Now()
		testkit.Eventually(t, 60*time.Second, what+": there is no gap", func() bool {
			l := ask()
			gap = gap || len(l.Gaps) > 0
			return gap && len(l.Files) > 1 && len(l.Gaps) == 0
		})
		t.Logf("%s: healed %v after the recording went on", what, time.Since(began).Round(100*time.Millisecond))
	}
	testkit.Eventually(t, 30*time.Second, "three seconds are recorded", func() bool {
		l := ask()
		return len(l.Files) > 0 && l.Files[0].To.Sub(l.Files[0].From) > 3*time.Second
	})

	good := netns.Impairment{Delay: 10 * time.Millisecond, Rate: 20_000_000}
	link.Set(netns.Impairment{Loss: 1}, netns.Impairment{Loss: 1})
	cut := time.NewTimer(10 * time.Second)
	<-cut.C
	since := time.Now()
	link.Set(good, good)
	healed("outage", since)

	before := newest()
	relay.Signal(syscall.SIGKILL)
	relay.Exits(5 * time.Second)
	relay = testkit.StartCmd(t, far.Command(testkit.Bin(t, "gantry-relay"), "--config", relayFile))
	relay.WaitLine(10*time.Second, "serving")
	healed("restart", before.Add(time.Second))

	// What the box kept and what the relay has are the same pictures, from the relay's first to its last.
	if err := relay.Stop(); err != nil {
		t.Error(err)
	}
	got := recorded(t, filepath.Join(remote, "studio"))
	if len(got) < 15*25 {
		t.Fatalf("%d pictures", len(got))
	}
	var want []time.Time
	testkit.Eventually(t, 10*time.Second, "the box has it all on its disk", func() bool {
		want = recorded(t, local)
		return want[len(want)-1].After(got[len(got)-1])
	})
	want = slices.DeleteFunc(want, func(at time.Time) bool { return at.Before(got[0]) || at.After(got[len(got)-1]) })
	if !slices.EqualFunc(got, want, time.Time.Equal) {
		missing, double := 0, 0
		seen := map[time.Time]int{}
		for _, at := range got {
			seen[at]++
		}
		for _, at := range want {
			if seen[at] == 0 {
				missing++
			}
			if seen[at] > 1 {
				double++
			}
		}
		t.Errorf("the relay has %d pictures, the box %d: %d missing, %d double", len(got), len(want), missing, double)
	}
	t.Logf("%d pictures over %v, each once", len(got), got[len(got)-1].Sub(got[0]).Round(time.Second))
}
