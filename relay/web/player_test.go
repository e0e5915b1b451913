package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gantry/internal/testkit/chromium"
	"gantry/relay/access"
)

// One browser runs them all: to start one takes longer than most of them.
func TestInBrowser(t *testing.T) {
	page := chromium.Launch(t, chromium.Options{})
	for name, test := range map[string]func(*testing.T, *chromium.Page){
		"Index": indexPage, "IndexEmpty": indexPageEmpty, "IndexAsksForAToken": indexPageAsksForAToken,
		"SaysWhyNothingPlays": playerSaysWhyNothingPlays, "BacksOff": playerBacksOff, "TakesAToken": playerTakesAToken,
		"ReadsICEServers": playerReadsICEServers, "ReadsTheClockInThePicture": playerReadsTheClockInThePicture,
		"Plays": playerPlays, "WaitsForThePublisher": playerWaitsForThePublisher, "SurvivesTheRelay": playerSurvivesTheRelay,
		"RestartsICE": playerRestartsICE, "IsEmbedded": playerIsEmbedded, "SaysThatMediaIsBlocked": playerSaysThatMediaIsBlocked,
		"PlaysOverTCP": playerPlaysOverTCP, "TakesTheRelaysOffer": playerTakesTheRelaysOffer,
		"ChoosesQuality": playerChoosesQuality, "SaysThatItCannotDecode": playerSaysThatItCannotDecode,
	} {
		t.Run(name, func(t *testing.T) {
			test(t, page.For(t))
			page.For(t).Navigate("about:blank")
		})
	}
	if console := page.Console(); strings.Contains(console, "Content Security Policy") || strings.Contains(console, "Uncaught") {
		t.Errorf("the console shows:\n%s", console)
	}
}

// serve runs a Site with whep as its WHEP endpoint.
func serve(t *testing.T, hub Hub, policy *access.Policy, whep http.HandlerFunc) *httptest.Server {
	t.Helper()
	s, _ := site(t, hub, policy)
	mux := http.NewServeMux()
	mux.Handle("/", s)
	mux.HandleFunc("/whep/", whep)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

const (
	status  = `document.querySelector("gantry-player").player.status`
	visible = `(() => { const n = document.querySelector("gantry-player").shadowRoot.querySelector(".notice");
		return n.hidden ? "" : n.innerText; })()`
)

// Whatever keeps the picture away, the viewer reads what it is and what to do.
func playerSaysWhyNothingPlays(t *testing.T, page *chromium.Page) {
	var answer atomic.Value // func(w, r)
	server := serve(t, onAir, nil, func(w http.ResponseWriter, r *http.Request) {
		answer.Load().(func(http.ResponseWriter, *http.Request))(w, r)
	})
	refuse := func(status int, detail string, header ...string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			problem(w, status, detail)
		}
	}
	for _, c := range []struct {
		name, query   string
		answer        func(http.ResponseWriter, *http.Request)
		state, reason string
		words         []string
	}{
		{"not-live", "", refuse(409, "stream is not live", "Retry-After", "2"), "waiting", "not-live",
			[]string{"“studio/wide” is not live yet.", "starts by itself", "Next attempt in"}},
		{"no-token", "", refuse(401, "a token is needed"), "failed", "token", []string{"asks for a play token", "?token="}},
		{"wrong-token", "?token=nonsense", refuse(401, "the token is not accepted"), "failed", "token", []string{"does not accept this play token"}},
		{"busy", "", refuse(503, "10000 sessions are open", "Retry-After", "30"), "waiting", "busy", []string{"no room for another viewer", "10000 sessions", "Next attempt in"}},
		{"codec", "", refuse(406, "the stream is coded in H265"), "waiting", "codec", []string{"cannot decode the stream", "H265"}},
		{"fault", "", refuse(500, ""), "waiting", "relay-error", []string{"has a fault (500)"}},
		{"nonsense", "", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/whep/demo/1")
			w.Header().Set("Content-Type", "application/sdp")
			w.WriteHeader(http.StatusCreated)
			_, _ = w.Write([]byte("v=0\r\nnonsense\r\n"))
		}, "waiting", "bad-answer", []string{"makes no sense"}},
		{"unreachable", "", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, "waiting", "unreachable",
			[]string{"does not answer", "Is it running"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			page := page.For(t)
			answer.Store(c.answer)
			page.Navigate(server.URL + "/play/studio/wide" + c.query)
			page.Wait(10*time.Second, fmt.Sprintf("%s.state === %q && %s.reason === %q", status, c.state, status, c.reason), status)
			text := chromium.Eval[string](page, visible)
			for _, want := range c.words {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in what the viewer reads:\n%s", want, text)
				}
			}
			page.Screenshot(c.name)
		})
	}
}

// Retry-After is honoured, and pauses grow: a relay that is in trouble is not stormed.
func playerBacksOff(t *testing.T, page *chromium.Page) {
	var posts atomic.Int32
	retryAfter := "30"
	server := serve(t, onAir, nil, func(w http.ResponseWriter, r *http.Request) {
		posts.Add(1)
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		problem(w, http.StatusConflict, "stream is not live")
	})
	page.Navigate(server.URL + "/play/demo")
	page.Wait(10*time.Second, status+`.state === "waiting"`, status)
	if left := chromium.Eval[float64](page, status+".retryAt - performance.now()"); left < 25_000 || left > 38_000 {
		t.Errorf("the next attempt is in %.0f ms; the relay asked for 30 s", left)
	}
	before := posts.Load()
	retryAfter = ""
	// The pauses of five more attempts, forced: they grow, and differ from a fixed series.
	pauses := chromium.Eval[[]float64](page, `new Promise((resolve) => {
		const player = document.querySelector("gantry-player").player, all = [];
		player.addEventListener("state", ({detail}) => {
			if (detail.state !== "waiting") return;
			all.push(detail.retryAt - performance.now());
			if (all.length === 6) resolve(all);
			else setTimeout(() => player.retry());
		});
		player.retry();
	})`)
	if pauses[5] < 2*pauses[0] || pauses[5] > 15_000 || pauses[5] < 7_000 {
		t.Errorf("pauses %v do not grow to 15 s", pauses)
	}
	if got := posts.Load() - before; got != 6 {
		t.Errorf("%d requests in 6 attempts", got)
	}
}

// The form on the player page takes the token to the relay.
func playerTakesAToken(t *testing.T, page *chromium.Page) {
	policy := guarded()
	server := serve(t, onAir, policy, func(w http.ResponseWriter, r *http.Request) {
		if err := policy.Play(access.Token(r), "demo"); err != nil {
			problem(w, http.StatusUnauthorized, err.Error())
			return
		}
		problem(w, http.StatusConflict, "stream is not live")
	})
	page.Navigate(server.URL + "/play/demo")
	page.Wait(10*time.Second, status+`.reason === "token"`, status)
	chromium.Eval[bool](page, fmt.Sprintf(`(() => { const root = document.querySelector("gantry-player").shadowRoot;
		root.querySelector("input[name=token]").value = %q; root.querySelector("form button").click(); return true; })()`, playToken))
	page.Wait(10*time.Second, status+`.reason === "not-live"`, status)
}

func indexPage(t *testing.T, page *chromium.Page) {
	server := serve(t, onAir, nil, http.NotFound)
	page.Navigate(server.URL)
	page.Wait(10*time.Second, `document.querySelectorAll("article").length === 3`, "document.body.innerText")
	text := chromium.Eval[string](page, "document.body.innerText")
	for _, want := range []string{"2 streams on the air · 15 viewers", "studio/wide", "H264 Constrained Baseline · 1280×720 · 30 fps", "Opus · stereo · 127 kb/s",
		"browsers show them out of order", "Waiting for the publisher to return", "standby", server.URL + "/whip/demo"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q on the page:\n%s", want, text)
		}
	}
	if got := chromium.Eval[string](page, `document.querySelectorAll("article")[2].querySelector("nav a").getAttribute("href")`); got != "/play/studio/wide" && got != "/play/backstage" {
		t.Errorf("a link to %q", got)
	}
	page.Screenshot("index")
}

func indexPageEmpty(t *testing.T, page *chromium.Page) {
	server := serve(t, fixedHub{}, nil, http.NotFound)
	page.Navigate(server.URL)
	page.Wait(10*time.Second, `document.body.innerText.includes("Nothing is on the air")`, "document.body.innerText")
	if text := chromium.Eval[string](page, "document.body.innerText"); !strings.Contains(text, server.URL+"/whip/demo") {
		t.Errorf("the page does not tell where to publish:\n%s", text)
	}
	page.Screenshot("index-empty")
}

func indexPageAsksForAToken(t *testing.T, page *chromium.Page) {
	server := serve(t, onAir, guarded(), http.NotFound)
	page.Navigate(server.URL)
	page.Wait(10*time.Second, `!document.querySelector("#ask").hidden`, "document.body.innerText")
	page.Screenshot("index-token")
	page.Navigate(server.URL + "/?token=" + playToken)
	page.Wait(10*time.Second, `document.querySelectorAll("article").length === 3`, "document.body.innerText")
	if got := chromium.Eval[string](page, `document.querySelector("article nav a").getAttribute("href")`); !strings.HasSuffix(got, "?token="+playToken) {
		t.Errorf("the link to the player, %q, lacks the token", got)
	}
}

// The Link field's servers reach the peer connection, others do not (RFC 9725 §4.6).
func playerReadsICEServers(t *testing.T, page *chromium.Page) {
	server := serve(t, onAir, nil, http.NotFound)
	page.Navigate(server.URL + "/play/demo?autoplay=0")
	for header, want := range map[string]string{
		``:                                      `[]`,
		`<stun:stun.example>; rel="ice-server"`: `[{"urls":"stun:stun.example"}]`,
		`<turn:t.example?transport=udp>; rel="ice-server"; username="a\"b"; credential="p,q;r"; credential-type="password"`: `[{"urls":"turn:t.example?transport=udp","username":"a\"b","credential":"p,q;r"}]`,
		`</events>; rel="urn:ietf:params:whep:ext:core:layer", <turns:t.example>;rel=ice-server;username=u;credential=p`:    `[{"urls":"turns:t.example","username":"u","credential":"p"}]`,
		`<https://evil.example>; rel="ice-server"`: `[]`,
	} {
		quoted, _ := json.Marshal(header)
		got := chromium.Eval[string](page, fmt.Sprintf(`import("/gantry-player/whep.js").then((m) => JSON.stringify(m.iceServers(%s)))`, quoted))
		if got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", header, got, want)
		}
	}
}
