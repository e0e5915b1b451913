package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"gantry/internal/testkit"
	"gantry/uplink/heal"
	"gantry/uplink/record"
	"gantry/uplink/rtmp"
	"gantry/uplink/rtsp"
	"gantry/uplink/srt"
	"gantry/uplink/udp"
	"gantry/uplink/whip"
	"gantry/webui"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// The example names every key, at its default.
func TestExample(t *testing.T) {
	got, err := load("gantryd.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	relay := whip.Default()
	relay.URL = "http://127.0.0.1:8080/whip/demo"
	caller := srt.Default()
	caller.Addr, caller.Stream = "127.0.0.1:8890", "demo"
	disk := record.Default()
	disk.Dir, disk.Sound = "/var/lib/gantry/recordings", record.Opus
	gaps := heal.Default()
	gaps.URL, gaps.Dir, gaps.Uplink = "http://127.0.0.1:8080/api/v1/recordings/demo", disk.Dir, "relay"
	monitor := rtsp.Default()
	want.Uplinks = []uplinkConfig{
		{Name: "relay", Autostart: true, Adapt: true, Simulcast: []string{}, WHIP: &relay},
		{Name: "srt", Adapt: true, SRT: &caller},
		{Name: "tv", Adapt: true, BackupOf: "srt", RTMP: &rtmp.Config{URL: "rtmp://127.0.0.1:1935/live", Key: "demo"}},
		{Name: "disk", Adapt: true, Record: &disk},
		{Name: "gaps", Adapt: true, Heal: &gaps},
		{Name: "monitor", Adapt: true, RTSP: &monitor},
		{Name: "venue", Adapt: true, UDP: &udp.Config{Addr: "239.1.1.1:5000", TTL: 1}},
	}
	want.Renditions = []renditionConfig{}
	want.Video.V4L2.Rate.Den = 1
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	data, err := os.ReadFile("gantryd.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys(reflect.TypeOf(want)) {
		if !strings.Contains(string(data), key+":") {
			t.Errorf("the example does not show %s", key)
		}
	}
}

func keys(t reflect.Type) (list []string) {
	switch t.Kind() {
	case reflect.Slice, reflect.Pointer:
		return keys(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if tag := t.Field(i).Tag.Get("yaml"); tag == ",inline" {
				list = append(list, keys(t.Field(i).Type)...)
			} else if tag != "" {
				list = append(append(list, tag), keys(t.Field(i).Type)...)
			}
		}
	}
	return list
}

// command runs gantryd's main without a process.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

var backendNames = regexp.MustCompile(`(encoder\.backend: .* is not one of) auto, .*`)

func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/*.bad.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		code, out, text := command(t, "check", file)
		if code != exitError || out != "" {
			t.Errorf("%s: exit status %d, %q", file, code, out)
		}
		if strings.Contains(text, "hunter2") {
			t.Errorf("%s: a secret is printed:\n%s", file, text)
		}
		// What encoders there are depends on the build.
		text = backendNames.ReplaceAllString(text, "$1 auto, …")
		testkit.Golden(t, strings.TrimSuffix(filepath.Base(file), ".yaml")+".txt", []byte(text))
	}
}

func TestCommandLine(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"--help", exitOK, "gantryd check FILE"},
		{"--version", exitOK, "gantryd unknown (go"},
		{"check gantryd.example.yaml", exitOK, "gantryd.example.yaml is good"},
		{"check none.yaml", exitError, "none.yaml: no such file"},
		{"check", exitUsage, "takes the name of one file"},
		{"check a b", exitUsage, "takes the name of one file"},
		{"prob", exitUsage, "There are the commands check, edid and probe"},
		{"probe x", exitUsage, "no argument but --json"},
		{"--json", exitUsage, "There are the commands check, edid and probe"},
		{"--conf x", exitUsage, "not defined: -conf"},
		{"--config none.yaml", exitError, "none.yaml: no such file"},
		{"--config gantryd.example.yaml --pprof :6060", exitUsage, "can be reached from other machines"},
	} {
		code, out, errs := command(t, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(out+errs, c.want) {
			t.Errorf("gantryd %s: exit status %d, want %d, with %q in\n%s%s", c.args, code, c.code, c.want, out, errs)
		}
		if (code == exitOK) != (errs == "") {
			t.Errorf("gantryd %s: exit status %d and %q on stderr", c.args, code, errs)
		}
	}
}

func TestProbe(t *testing.T) {
	code, out, errs := command(t, "probe", "--json")
	var m machine
	if err := json.Unmarshal([]byte(out), &m); code != exitOK || err != nil {
		t.Fatalf("exit status %d, %v, %s", code, err, errs)
	}
	worked := map[string]bool{}
	for _, e := range m.Encoders {
		worked[e.Encoder] = e.OK || strings.Contains(e.Reason, "slow") // a busy machine may be
	}
	if !worked["openh264"] {
		t.Errorf("the embedded encoder does not work: %+v", m.Encoders)
	}
	var text strings.Builder
	if err := m.print(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"testsrc", "v4l2", "openh264"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %s in\n%s", want, text.String())
		}
	}
}

// A daemon is serve in this process.
type daemon struct {
	t    *testing.T
	file string
	addr string
	log  testkit.Buffer
}

// startBox serves the configuration, with the page on a free port, until the test ends.
func startBox(t *testing.T, text string) *daemon {
	t.Helper()
	d := &daemon{t: t, file: filepath.Join(t.TempDir(), "gantryd.yaml"), addr: testkit.FreeTCP(t)}
	d.write(text)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	log := slog.New(slog.NewTextHandler(&d.log, nil))
	go func() { done <- serve(ctx, d.file, "", new(slog.LevelVar), log) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
		if t.Failed() {
			t.Log(d.log.String())
		}
	})
	testkit.Eventually(t, 10*time.Second, "the page answers", func() bool {
		res, err := http.Get("http://" + d.addr + "/")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	return d
}

func (d *daemon) write(text string) {
	d.t.Helper()
	if err := os.WriteFile(d.file, []byte("http: "+d.addr+"\n"+text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func (d *daemon) get(path string) string {
	d.t.Helper()
	res, err := http.Get("http://" + d.addr + path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		d.t.Fatalf("%s: %s %v", path, res.Status, err)
	}
	return string(body)
}

func (d *daemon) status() (s webui.Status) {
	d.t.Helper()
	if err := json.Unmarshal([]byte(d.get("/api/v1/status")), &s); err != nil {
		d.t.Fatal(err)
	}
	return s
}

const small = "video: {testsrc: {width: 320, height: 180}}\n"

// A bad file does not stop what runs; a good one changes what differs.
func TestReload(t *testing.T) {
	uplink := "uplinks:\n- {name: nowhere, whip: {url: \"http://127.0.0.1:1/whip/x\"}}\n"
	d := startBox(t, small+uplink)
	testkit.Eventually(t, 10*time.Second, "pictures are coded", func() bool { return d.status().Encoder.Rate > 0 })
	hup := func() {
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}

	d.write(small + uplink + "encoder: {bitrat: 1M}\n")
	hup()
	testkit.Eventually(t, 5*time.Second, "the bad file is a condition", func() bool {
		list := d.status().Health
		return len(list) > 0 && list[0].Code == "config-bad" && strings.Contains(list[0].Reason, `did you mean "bitrate"?`)
	})
	if !strings.Contains(d.get("/metrics"), "gantry_config_last_reload_successful 0") {
		t.Error("the metric does not know")
	}

	d.write(small + "encoder: {bitrate: 1M}\n")
	hup()
	testkit.Eventually(t, 5*time.Second, "the new bitrate is used, the destination gone, the condition cleared", func() bool {
		s := d.status()
		return s.Encoder.Target == 1_000_000 && len(s.Uplinks) == 0 && len(s.Health) == 0
	})
	if text := d.get("/metrics"); !strings.Contains(text, "gantry_encode_restarts_total 0") {
		t.Error("the encoder was restarted")
	}

	d.write("video: {testsrc: {width: 640, height: 360}}\n")
	hup()
	testkit.Eventually(t, 5*time.Second, "the new source is used", func() bool { return d.status().Encoder.Width == 640 })
}

func TestNoSuchDevice(t *testing.T) {
	d := startBox(t, "video: {source: v4l2, v4l2: {device: /dev/video-none, width: 320, height: 180}}\n")
	testkit.Eventually(t, 10*time.Second, "the slate goes out and the reason is named", func() bool {
		s := d.status()
		return !s.Video.Signal && strings.Contains(s.Video.Reason, "no such device") && s.Video.Slates > 10 && s.Encoder.Width == 320 &&
			len(s.Health) == 1 && s.Health[0].Code == "source-down"
	})
}

func TestAddressInUse(t *testing.T) {
	d := startBox(t, small)
	if code, _, errs := command(t, "--config", d.file); code != exitError || !strings.Contains(errs, "serve the page") || !strings.Contains(errs, "in use") {
		t.Errorf("exit status %d, %s", code, errs)
	}
}

// The real programs: what gantryd sends, a viewer behind the relay decodes.
func TestOnTheAir(t *testing.T) {
	t.Parallel()
	web, rtc := testkit.FreeTCP(t), testkit.FreeTCP(t)
	relay := testkit.Start(t, testkit.Bin(t, "gantry-relay"), "--http", web, "--rtc", rtc, "--srt", "", "--rtmp", "")
	relay.WaitLine(10*time.Second, "serving")
	file := filepath.Join(t.TempDir(), "gantryd.yaml")
	text := fmt.Sprintf("http: \"\"\n%saudio: {source: tone}\nuplinks:\n- {name: relay, whip: {url: \"http://%s/whip/x\"}}\n", small, web)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	box := testkit.Start(t, testkit.Bin(t, "gantryd"), "--config", file)
	box.WaitLine(15*time.Second, "msg=connected")
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, testkit.Bin(t, "gantry-relay"), "watch", "--wait", "--frames", "45", "--timeout", "30s", "http://"+web+"/whep/x").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "320x180") || !strings.Contains(string(out), "opus") {
		t.Errorf("watch: %v\n%s", err, out)
	}
	if err := box.Stop(); err != nil {
		t.Error(err)
	}
	if log := box.Log(); strings.Contains(log, "level=ERROR") || !strings.Contains(log, "msg=stopped") {
		t.Errorf("log:\n%s", log)
	}
}
