package config

import (
	"strings"
	"testing"
)

func TestEdit(t *testing.T) {
	const in = `# the box
http: 127.0.0.1:8090 # its page
video:
  # what it shows
  source: testsrc
  rtsp: {url: ""}
uplinks:
  - name: relay # the only one
`
	out, err := Edit([]byte(in), []Change{{"video.source", "rtsp"}, {"video.rtsp.url", "rtsp://cam/# 1"}, {"video.rtsp.insecure", "true"}, {"audio.source", "input"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# the box\n", "8090 # its page\n", "  # what it shows\n  source: rtsp\n", `rtsp: {url: 'rtsp://cam/# 1', insecure: true}`, "name: relay # the only one\n",
		"audio:\n  source: input\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if out, err := Edit(nil, []Change{{"video.source", "true"}}); err != nil || string(out) != "video:\n  source: true\n" {
		t.Errorf("%v %q", err, out)
	}
	for _, bad := range []string{"a: [", "video: 1"} {
		if out, err := Edit([]byte(bad), []Change{{"video.source", "x"}}); err == nil {
			t.Errorf("%q: %q", bad, out)
		}
	}
}
