package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gantry/internal/testkit"
	"gantry/internal/testkit/chromium"
)

// demoConfig writes the demo's configuration: 1280x720 at 30 pictures a second, 2.5 Mbit/s, with sound.
func demoConfig(tb testing.TB, base string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "gantryd.yaml")
	config := fmt.Sprintf(`http: ""
video:
  source: testsrc
  testsrc: {width: 1280, height: 720, rate: 30}
audio: {source: tone}
uplinks:
  - name: relay
    whip: {url: "%s/whip/demo"}
`, base)
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// firstPicture returns how long after its start a WHEP viewer has the first picture that can be decoded.
func firstPicture(tb testing.TB, base string) time.Duration {
	tb.Helper()
	out := testkit.Output(tb, testkit.Bin(tb, "gantry-relay"), "watch", "--wait", "--json", "--frames", "1", "--timeout", "30s", base+"/whep/demo")
	var report struct {
		FirstKeyFrame float64 `json:"firstKeyFrame"`
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.FirstKeyFrame == 0 {
		tb.Fatalf("%v in %s", err, out)
	}
	return time.Duration(report.FirstKeyFrame * float64(time.Second))
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

// From the start of gantryd to the first picture that a viewer can decode; the relay runs and the viewer waits. At a machine's first
// start an encoder is tried before; later ones know which works.
func BenchmarkStartToFirstPicture(b *testing.B) {
	b.Run("first", func(b *testing.B) { startToFirstPicture(b, func() { b.Setenv("STATE_DIRECTORY", b.TempDir()) }) })
	b.Run("later", func(b *testing.B) {
		dir := b.TempDir()
		b.Setenv("STATE_DIRECTORY", dir)
		gantryd := testkit.Start(b, testkit.Bin(b, "gantryd"), "--config", demoConfig(b, startRelay(b)))
		testkit.Eventually(b, 30*time.Second, "the encoders are known", func() bool {
			_, err := os.Stat(filepath.Join(dir, "encoders.json"))
			return err == nil
		})
		if err := gantryd.Stop(); err != nil {
			b.Fatal(err)
		}
		startToFirstPicture(b, func() {})
	})
}

func startToFirstPicture(b *testing.B, before func()) {
	base := startRelay(b)
	config := demoConfig(b, base)
	var all []float64
	for b.Loop() {
		before()
		begun := time.Now()
		gantryd := testkit.Start(b, testkit.Bin(b, "gantryd"), "--config", config)
		firstPicture(b, base)
		all = append(all, ms(time.Since(begun)))
		b.StopTimer()
		if err := gantryd.Stop(); err != nil {
			b.Fatal(err)
		}
		waitOffAir(b, base)
		b.StartTimer()
	}
	b.ReportMetric(median(all), "ms-median")
}

// waitOffAir waits until the relay has let the stream go.
func waitOffAir(tb testing.TB, base string) {
	tb.Helper()
	client := &http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	testkit.Eventually(tb, 60*time.Second, "the stream has ended", func() bool {
		res, err := client.Get(base + "/api/v1/streams")
		if err != nil {
			return false
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		return err == nil && !bytes.Contains(body, []byte(`"demo"`))
	})
}

// From the start of a viewer to its first decodable picture, in a stream that runs.
func BenchmarkJoin(b *testing.B) {
	base := startRelay(b)
	testkit.Start(b, testkit.Bin(b, "gantryd"), "--config", demoConfig(b, base))
	firstPicture(b, base)
	b.Run("watch", func(b *testing.B) {
		var all []float64
		for b.Loop() {
			all = append(all, ms(firstPicture(b, base)))
		}
		b.ReportMetric(median(all), "ms-median")
	})
	b.Run("Chromium", func(b *testing.B) {
		p := chromium.Launch(b, chromium.Options{})
		var all []float64
		for b.Loop() {
			p.Navigate(base + "/play/demo")
			p.Wait(20*time.Second, player+".stats?.firstFrame > 0", player+".status")
			all = append(all, chromium.Eval[float64](p, player+".stats.firstFrame"))
		}
		b.ReportMetric(median(all), "ms-median")
	})
}

// From the capture of a picture to its place on Chromium's screen, as the player measures it.
func BenchmarkCaptureToScreen(b *testing.B) {
	base := startRelay(b)
	testkit.Start(b, testkit.Bin(b, "gantryd"), "--config", demoConfig(b, base))
	firstPicture(b, base)
	p := chromium.Open(b, chromium.Options{}, base+"/play/demo")
	p.Wait(30*time.Second, player+`.state === "playing"`, player+".status")
	time.Sleep(5 * time.Second) // the browser's jitter buffer settles
	type latency struct {
		Median float64 `json:"median"`
		P95    float64 `json:"p95"`
	}
	var medians, p95s []float64
	for b.Loop() {
		time.Sleep(4 * time.Second) // the player's figures look back on so much
		l := chromium.Eval[latency](p, player+".stats.latency")
		medians, p95s = append(medians, l.Median), append(p95s, l.P95)
	}
	b.ReportMetric(median(medians), "ms-median")
	b.ReportMetric(median(p95s), "ms-p95")
}

// What of gantryd's processor time is the encoder libraries', and what its own, from its profile over ten seconds.
func BenchmarkProcessorShare(b *testing.B) {
	base := startRelay(b)
	pprof := testkit.FreeTCP(b)
	gantryd := testkit.Start(b, testkit.Bin(b, "gantryd"), "--config", demoConfig(b, base), "--pprof", pprof)
	firstPicture(b, base)
	profile := filepath.Join(b.TempDir(), "cpu.pprof")
	var own, used []float64
	for b.Loop() {
		before := processorTime(b, gantryd.Pid())
		begun := time.Now()
		res, err := http.Get("http://" + pprof + "/debug/pprof/profile?seconds=10")
		if err != nil {
			b.Fatal(err)
		}
		data, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK {
			b.Fatalf("profile: %s, %v", res.Status, err)
		}
		used = append(used, 100*(processorTime(b, gantryd.Pid())-before).Seconds()/time.Since(begun).Seconds())
		if err := os.WriteFile(profile, data, 0o600); err != nil {
			b.Fatal(err)
		}
		own = append(own, ownShare(b, profile))
	}
	b.ReportMetric(median(used), "%-of-a-core")
	b.ReportMetric(median(own), "%-not-the-encoders")
}

// ownShare returns the percentage of a profile that is not inside a C library: code that Go calls by cgo shows as
// runtime.cgocall, the libraries' own threads as runtime._ExternalCode.
func ownShare(b *testing.B, profile string) float64 {
	b.Helper()
	out, err := exec.Command("go", "tool", "pprof", "-top", "-nodecount=100000", "-nodefraction=0", "-unit=ms", profile).Output()
	if err != nil {
		b.Fatal(err)
	}
	total, library := 0.0, 0.0
	line := regexp.MustCompile(`(?m)^\s*([\d.]+)(?:ms)?\s+[\d.]+%\s+[\d.]+%\s+[\d.]+(?:ms)?\s+[\d.]+%\s+(.+)$`)
	for _, m := range line.FindAllStringSubmatch(string(out), -1) {
		flat, _ := strconv.ParseFloat(m[1], 64)
		total += flat
		if strings.HasPrefix(m[2], "runtime.cgocall") || strings.HasPrefix(m[2], "runtime._ExternalCode") || !strings.Contains(m[2], ".") {
			library += flat
		}
	}
	if total == 0 {
		b.Fatalf("an empty profile:\n%s", out)
	}
	return 100 * (total - library) / total
}

// processorTime returns what a process has used, user and system.
func processorTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * time.Second / 100 // USER_HZ is 100 on every Linux
}
