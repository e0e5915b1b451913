package chromium

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"gantry/internal/testkit"
	"gantry/internal/testkit/netns"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestPage(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(`<!doctype html><title>probe</title><button id=b onclick="this.textContent='pressed'">press</button>
			<script>console.log("hello", 7)</script>`))
	}))
	defer server.Close()
	p := Open(t, Options{FakeCamera: true}, server.URL)
	if got := Eval[string](p, "document.title"); got != "probe" {
		t.Errorf("title %q", got)
	}
	p.Click("#b")
	p.Wait(5*time.Second, "document.querySelector('#b').textContent === 'pressed'", "document.body.innerHTML")
	testkit.Eventually(t, 5*time.Second, "the console's line", func() bool {
		return strings.Contains(p.Console(), "log: hello 7\n")
	})
	// 127.0.0.1 is a secure context, so the fake camera can be opened, and it moves.
	if got := Eval[int](p, `navigator.mediaDevices.getUserMedia({video: true, audio: true}).then(s => s.getTracks().length)`); got != 2 {
		t.Errorf("%d tracks of the fake camera and microphone, want 2", got)
	}
	if _, err := TryEval[int](p, time.Second, "Promise.reject(new Error('no'))"); err == nil {
		t.Error("a rejected promise gave no error")
	}
}

// The browser also runs behind a bad line.
func TestPageInNamespace(t *testing.T) {
	a, b, _ := netns.Pair(t, netns.Impairment{Delay: 10 * time.Millisecond}, netns.Impairment{})
	l, err := b.Listen("tcp", b.Addr.String()+":80")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<title>far</title>"))
	}))
	server.Listener = l
	server.Start()
	defer server.Close()
	p := Open(t, Options{Prefix: a.Prefix()}, "http://"+b.Addr.String()+"/")
	if got := Eval[string](p, "document.title"); got != "far" {
		t.Errorf("title %q", got)
	}
}
