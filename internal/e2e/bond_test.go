package e2e

import (
	"fmt"
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

// captured returns when each picture of an H.264 byte stream was captured.
func captured(t *testing.T, file string) (times []time.Time) {
	t.Helper()
	raw, err := exec.Command("ffmpeg", "-v", "error", "-f", "h264", "-i", file, "-c", "copy", "-bsf:v", "h264_metadata=aud=insert", "-f", "h264", "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	for i, au := range strings.Split(string(raw), "\x00\x00\x00\x01\x09") {
		if at, ok := sei.UTCOf(media.H264, []byte("\x00\x00\x00\x01\x09"+au)); ok {
			times = append(times, at)
		} else if i > 0 {
			t.Errorf("picture %d does not say when it was captured", i)
		}
	}
	return times
}

// One programme goes out over two networks that lose and delay differently. Either is pulled for five seconds in turn: a viewer
// sees every picture that the box has sent, once.
func TestBond(t *testing.T) {
	t.Parallel() // it waits most of the time
	first := netns.Impairment{Delay: 10 * time.Millisecond, Loss: 0.01, Rate: 10_000_000}
	second := netns.Impairment{Delay: 60 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.02, Rate: 10_000_000}
	box, far, _ := netns.Pair(t, first, first)
	netns.Another(t, box, far, second, second)
	local, dir := t.TempDir(), t.TempDir()
	relayFile, boxFile := filepath.Join(dir, "relay.yaml"), filepath.Join(dir, "box.yaml")
	for file, text := range map[string]string{
		relayFile: fmt.Sprintf("http: 198.18.0.2:8080\nrtc: \":8189\"\nsrt: \"\"\nrtmp: \"\"\nrtmps: \"\"\npublish-token: [%s]\n", healToken),
		boxFile: fmt.Sprintf(`http: ""
video: {testsrc: {width: 320, height: 180, rate: 25}}
audio: {source: tone}
encoder: {bitrate: 600k, min_bitrate: 300k, gop: 1s, timecode: utc}
uplinks:
- {name: relay, whip: {url: "http://198.18.0.2:8080/whip/studio", token: %s, interfaces: link0 link1}}
- {name: disk, record: {dir: %s, spare: 0, sound: opus}}
`, healToken, local),
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	relay := testkit.StartCmd(t, far.Command(testkit.Bin(t, "gantry-relay"), "--config", relayFile))
	relay.WaitLine(10*time.Second, "serving")
	sender := testkit.StartCmd(t, box.Command(testkit.Bin(t, "gantryd"), "--config", boxFile))
	sender.WaitLine(20*time.Second, "msg=publishing.* device=link0")
	sender.WaitLine(20*time.Second, "msg=publishing.* device=link1")
	both := time.Now().Add(1500 * time.Millisecond) // from here on what is lost on one path comes by the other
	seen := filepath.Join(dir, "seen.h264")
	viewer := testkit.StartCmd(t, far.Command(testkit.Bin(t, "gantry-relay"), "watch", "--out", seen, "--timeout", "2m", "http://198.18.0.2:8080/whep/studio"))
	size := func() int64 {
		info, err := os.Stat(seen)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	testkit.Eventually(t, 20*time.Second, "the viewer sees pictures", func() bool { return size() > 100_000 })

	// pull takes an interface of the box down, as a cable does that is pulled, and plugs it in again.
	pull := func(device string) {
		t.Helper()
		set := func(state string) {
			if out, err := box.Command("ip", "link", "set", device, state).CombinedOutput(); err != nil {
				t.Fatalf("%v %s", err, out)
			}
		}
		set("down")
		wait := time.NewTimer(5 * time.Second)
		<-wait.C
		set("up")
		metric := map[string]string{"link0": "100", "link1": "101"}[device]
		if out, err := box.Command("ip", "route", "add", "default", "dev", device, "metric", metric).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}
	published := func(device string) int { return strings.Count(sender.Log(), "device="+device) }
	for _, device := range []string{"link0", "link1"} {
		before := published(device)
		pull(device)
		testkit.Eventually(t, 30*time.Second, device+" is used again", func() bool {
			log := sender.Log()
			return published(device) > before && strings.Contains(log[strings.LastIndex(log, "path lost"):], "device="+device) &&
				(strings.Contains(log[strings.LastIndex(log, "path lost"):], "msg=\"path restored\"") || strings.Contains(log[strings.LastIndex(log, "path lost"):], "msg=publishing"))
		})
	}
	last := size()
	testkit.Eventually(t, 10*time.Second, "it goes on", func() bool { return size() > last+100_000 })
	out, err := far.Command("wget", "-qO-", "http://198.18.0.2:8080/metrics").Output()
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "gantry_ingest_") {
			t.Log(strings.TrimSpace(line), err)
		}
	}
	viewer.Signal(syscall.SIGINT)
	viewer.Exits(5 * time.Second)

	got := slices.DeleteFunc(captured(t, seen), func(at time.Time) bool { return at.Before(both) })
	if len(got) < 10*25 {
		t.Fatalf("%d pictures", len(got))
	}
	var want []time.Time
	testkit.Eventually(t, 10*time.Second, "the box has it all on its disk", func() bool {
		want = recorded(t, local)
		return want[len(want)-1].After(got[len(got)-1])
	})
	want = slices.DeleteFunc(want, func(at time.Time) bool { return at.Before(got[0]) || at.After(got[len(got)-1]) })
	if !slices.EqualFunc(got, want, time.Time.Equal) {
		t.Errorf("the viewer saw %d pictures, the box sent %d", len(got), len(want))
		for i, at := range want {
			if i > 0 && !slices.Contains(got, at) && slices.Contains(got, want[i-1]) {
				n := 1
				for i+n < len(want) && !slices.Contains(got, want[i+n]) {
					n++
				}
				t.Logf("%d are missing from %v on", n, at.Format("15:04:05.000"))
			}
		}
	}
	t.Logf("%d pictures over %v, each once", len(got), got[len(got)-1].Sub(got[0]).Round(time.Second))
}
