package webui

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"gantry/internal/testkit/chromium"
)

// A chosenBox remembers what was chosen.
type chosenBox struct {
	fakeBox
	mu  *sync.Mutex
	now *Source
}

func (b chosenBox) Source() Source {
	b.mu.Lock()
	defer b.mu.Unlock()
	return *b.now
}

func (b chosenBox) SetSource(s Source) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.Kind == "rtsp" && s.RTSP.URL == "" {
		return fmt.Errorf("%w: video.rtsp.url: is missing", ErrBadSource)
	}
	s.Kinds = b.now.Kinds
	*b.now = s
	return nil
}

func chooser() chosenBox {
	return chosenBox{sample(), new(sync.Mutex), &Source{Kind: "testsrc", Kinds: []string{"testsrc", "v4l2", "rtsp", "file", "udp"}}}
}

func TestSourceAPI(t *testing.T) {
	box := chooser()
	box.now.RTSP.Password = "hunter2"
	h := Handler(box, nil)
	if w := get(t, h, "localhost", "/api/v1/source"); w.Code != 200 || strings.Contains(w.Body.String(), "hunter2") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, c := range []struct {
		body, origin string
		code         int
	}{
		{`{"kind":"file","file":"/a.mp4"}`, "", 204},
		{`{"kind":"file","file":"/a.mp4"}`, "http://evil.example", 403},
		{`{"kind":"rtsp"}`, "", 400},
		{`{"kind":"file","path":"/a.mp4"}`, "", 400},
		{`{"kind":"` + strings.Repeat("x", maxSource) + `"}`, "", 400},
		{`no JSON`, "", 400},
	} {
		r := httptest.NewRequest("PUT", "http://localhost:8090/api/v1/source", strings.NewReader(c.body))
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != c.code {
			t.Errorf("%.40s: %d %s", c.body, w.Code, w.Body)
		}
	}
	if box.now.Kind != "file" || box.now.File != "/a.mp4" {
		t.Errorf("%+v", box.now)
	}
}

// A person chooses a camera on the page, and is told beside the field what is missing.
func TestChoosing(t *testing.T) {
	box := chooser()
	server := httptest.NewServer(Handler(box, nil))
	t.Cleanup(server.Close) // after the page, whose event stream is open
	page := chromium.Open(t, chromium.Options{}, server.URL)
	page.Wait(10*time.Second, `document.querySelector("#summary").textContent !== "Connecting…"`, `document.body.innerText`)
	chromium.Eval[bool](page, `document.querySelector("#source").open = true`)
	page.Wait(10*time.Second, `document.querySelector("#source [name=kind]").options.length === 5 && document.querySelector("#source [data-kind=rtsp]").hidden`, `document.querySelector("#source").outerHTML`)
	chromium.Eval[bool](page, `const f = document.querySelector("#source form"); f.kind.value = "rtsp"; f.dispatchEvent(new Event("change")); f.elements["rtsp.transport"].value = "tcp"; f.requestSubmit(); true`)
	page.Wait(10*time.Second, `document.querySelector("#source [name='rtsp.url'] + .bad")?.textContent === "is missing" && !document.querySelector("#source output").textContent`, `document.querySelector("#source").outerHTML`)
	chromium.Eval[bool](page, `{ const f = document.querySelector("#source form"); f.elements["rtsp.url"].value = "rtsp://cam/1"; f.elements["rtsp.password"].value = "pass"; f.sound.checked = true; f.requestSubmit(); } true`)
	page.Wait(10*time.Second, `document.querySelector("#source output").textContent === "In use." && document.querySelector("#source [name='rtsp.password']").value === ""`, `document.querySelector("#source output").textContent`)
	got, _ := json.Marshal(box.Source())
	if s := box.Source(); s.Kind != "rtsp" || s.RTSP.URL != "rtsp://cam/1" || s.RTSP.Password != "pass" || s.RTSP.Transport != "tcp" || !s.Sound {
		t.Errorf("%s", got)
	}
}
