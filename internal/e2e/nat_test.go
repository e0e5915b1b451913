package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"gantry/internal/testkit"
	"gantry/internal/testkit/chromium"
	"gantry/internal/testkit/netns"
)

// access is how each host of an internet is connected: 10 ms between any two.
var access = netns.Impairment{Delay: 5 * time.Millisecond}

// An abroad relay runs in a namespace.
type abroad struct {
	*netns.Namespace
	process *testkit.Process
	client  *http.Client
	at      string // host:port of its pages, as clients reach it
}

// relayIn starts a relay in a namespace that clients know by a public address, with more lines of configuration.
func relayIn(t *testing.T, n *netns.Namespace, public, more string) *abroad {
	t.Helper()
	file := filepath.Join(t.TempDir(), "relay.yaml")
	host := n.Addr.String()
	text := fmt.Sprintf("http: %q\nrtc: \":8189\"\nsrt: \"\"\nrtmp: \"\"\nhold: 30s\npublish-token: [publish-token-1]\n%s", net.JoinHostPort(host, "8080"), more)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &abroad{Namespace: n, at: net.JoinHostPort(public, "8080")}
	r.process = testkit.StartCmd(t, n.Command(testkit.Bin(t, "gantry-relay"), "--config", file))
	r.process.WaitLine(30*time.Second, `msg=serving`)
	r.client = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: n.DialContext}}
	t.Cleanup(r.client.CloseIdleConnections)
	return r
}

// publisher starts gantryd in a namespace.
func (r *abroad) publisher(t *testing.T, n *netns.Namespace, stream string) *testkit.Process {
	t.Helper()
	file := filepath.Join(t.TempDir(), "gantryd.yaml")
	text := fmt.Sprintf("http: \"\"\nvideo:\n  source: testsrc\n  testsrc: {width: 320, height: 180, rate: 30}\n"+
		"encoder: {bitrate: 300k}\nuplinks:\n  - name: relay\n    whip: {url: \"http://%s/whip/%s\", token: publish-token-1}\n", r.at, stream)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return testkit.StartCmd(t, n.Command(testkit.Bin(t, "gantryd"), "--config", file))
}

// watcher starts a viewer in a namespace.
func (r *abroad) watcher(t *testing.T, n *netns.Namespace, stream string) *testkit.Process {
	t.Helper()
	return testkit.StartCmd(t, n.Command(testkit.Bin(t, "gantry-relay"), "watch", "--reconnect", "--timeout", "0", "http://"+r.at+"/whep/"+stream))
}

// stream is what the relay says of one.
func (r *abroad) stream(t *testing.T, name string) (s struct {
	Name       string
	Live       bool
	Viewers    int
	Publishers []struct{ ID, Remote string }
}) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+net.JoinHostPort(r.Addr.String(), "8080")+"/api/v1/streams", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer publish-token-1")
	res, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var all struct{ Streams []json.RawMessage }
	if err := json.NewDecoder(res.Body).Decode(&all); err != nil {
		t.Fatal(err)
	}
	for _, raw := range all.Streams {
		if err := json.Unmarshal(raw, &s); err == nil && s.Name == name {
			return s
		}
	}
	s.Live = false
	return s
}

// pictures is how many a page of the player has shown.
const pictures = player + `.video.getVideoPlaybackQuality().totalVideoFrames`

// shows waits until the page has shown 30 pictures, which is a second, beyond those that it has shown.
func shows(p *chromium.Page, limit time.Duration) {
	p.Wait(limit, fmt.Sprintf("%s > %d", pictures, chromium.Eval[int](p, pictures)+30), `[`+pictures+`, `+player+`.status]`)
}

// smooth counts the seconds of a watching viewer that had nearly all of the 30 pictures.
func smooth(p *testkit.Process) int { return len(smoothly.FindAllString(p.Log(), -1)) }

var smoothly = regexp.MustCompile(`(2[5-9]|3\d)\.\d fps`)

// Behind every kind of NAT a publisher publishes and viewers play, gantryd, the Go client and Chromium alike; and when the NAT
// forgets them in mid-stream, as one does that is switched off and on, or gets another address, they come back by themselves.
func TestNAT(t *testing.T) {
	t.Parallel()
	internet := netns.NewInternet(t)
	relay := relayIn(t, internet.Host("203.0.113.1", access), "203.0.113.1", "")
	boxNAT, homeNAT := internet.NAT(netns.FullCone, "198.51.100.1"), internet.NAT(netns.FullCone, "198.51.100.2")
	box, home := internet.Behind(boxNAT, "192.168.1.2", access), internet.Behind(homeNAT, "192.168.2.2", access)
	page := chromium.Launch(t, chromium.Options{Prefix: home.Prefix()})
	for i, kind := range []netns.NATKind{netns.FullCone, netns.PortRestricted, netns.Symmetric} {
		t.Run(strings.ReplaceAll(kind.String(), " ", "-"), func(t *testing.T) {
			page := page.For(t)
			boxNAT.Rebind(kind, "198.51.100.1")
			homeNAT.Rebind(kind, "198.51.100.2")
			name := "demo" + strconv.Itoa(i)
			publisher := relay.publisher(t, box, name)
			publisher.WaitLine(20*time.Second, `msg=publishing`)
			watching := relay.watcher(t, home, name)
			page.Navigate("http://" + relay.at + "/play/" + name)
			page.Wait(20*time.Second, player+`.state === "playing"`, player+".status")
			shows(page, 10*time.Second)
			watching.WaitLine(10*time.Second, picture.String())
			s := relay.stream(t, name)
			if len(s.Publishers) != 1 || s.Viewers != 2 || !strings.HasPrefix(s.Publishers[0].Remote, "198.51.100.1:") {
				t.Fatalf("%+v", s)
			}
			chromium.Eval[bool](page, `(window.states = [], document.querySelector("gantry-player").addEventListener("state",
				(e) => states.push([e.detail.state, e.detail.reason])), true)`)

			if kind != netns.Symmetric { // the hardest one will do
				return
			}
			// back waits until both viewers have seconds of pictures again.
			back := func(what string) {
				t.Helper()
				begun, n := time.Now(), smooth(watching)
				time.Sleep(500 * time.Millisecond) // what was on the way is shown
				shows(page, 20*time.Second)
				browser := time.Since(begun)
				testkit.Eventually(t, 20*time.Second, "the Go viewer has pictures", func() bool { return smooth(watching) > n+1 })
				t.Logf("%s: a second of pictures in Chromium after %v, two in the Go client after %v; states %s", what, browser.Round(100*time.Millisecond),
					time.Since(begun).Round(100*time.Millisecond), chromium.Eval[json.RawMessage](page, "states"))
			}
			boxNAT.Rebind(kind, "198.51.100.1") // other ports
			back("the publisher's NAT forgot it")
			if now := relay.stream(t, name); now.Viewers != 2 || now.Publishers[0].ID != s.Publishers[0].ID || strings.Contains(watching.Log(), "again") {
				t.Errorf("somebody left: %+v, was %+v", now, s)
			}
			homeNAT.Rebind(kind, "198.51.100.3") // another address
			back("the viewers' address changed")
			if now := relay.stream(t, name); now.Viewers != 2 {
				t.Errorf("%+v", now)
			}
		})
	}

	t.Run("a browser publishes", func(t *testing.T) {
		page := page.For(t)
		listener, err := box.Listen("tcp", "127.0.0.1:0") // where browsers give a page the camera
		if err != nil {
			t.Fatal(err)
		}
		site := &httptest.Server{Listener: listener, Config: &http.Server{Handler: publisherSite}}
		site.Start()
		defer site.Close()
		publisher := chromium.Open(t, chromium.Options{FakeCamera: true, Prefix: box.Prefix()}, site.URL)
		chromium.Eval[string](publisher, fmt.Sprintf(`publish("http://%s/whip/browser", null, "H264", "publish-token-1")`, relay.at))
		page.Navigate("http://" + relay.at + "/play/browser")
		page.Wait(20*time.Second, player+`.state === "playing"`, player+".status")
		shows(page, 10*time.Second)
		begun := time.Now()
		boxNAT.Rebind(netns.Symmetric, "198.51.100.4")
		time.Sleep(500 * time.Millisecond) // what was on the way is shown
		shows(page, 20*time.Second)
		t.Logf("the publisher's address changed: a second of pictures after %v", time.Since(begun).Round(100*time.Millisecond))
		if state := chromium.Eval[string](publisher, "pc.connectionState"); state != "connected" {
			t.Errorf("the publisher's connection is %s", state)
		}
	})
}
