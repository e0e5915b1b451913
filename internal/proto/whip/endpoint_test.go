package whip

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const offer = "v=0\r\na=ice-ufrag:" + ufrag + "\r\na=ice-pwd:" + pwd + "\r\n"

// fake is a Session that remembers what it was asked for.
type fake struct {
	mu       sync.Mutex
	trickled []Fragment
	restarts []Fragment
	answered string
	err      error // of the next call
	once     sync.Once
	done     chan struct{}
	handler  http.Handler
}

func newFake() *fake { return &fake{done: make(chan struct{})} }

func (f *fake) fail() error {
	err := f.err
	f.err = nil
	return err
}

func (f *fake) Trickle(g Fragment) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trickled = append(f.trickled, g)
	return f.fail()
}

func (f *fake) Restart(g Fragment) (Fragment, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.restarts = append(f.restarts, g)
	return Fragment{Ufrag: "ours", Pwd: pwd, Candidates: []Candidate{{"0", host}}, End: true}, f.fail()
}

func (f *fake) Answer(sdp string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answered = sdp
	return f.fail()
}

func (f *fake) Close() error {
	f.once.Do(func() { close(f.done) })
	return nil
}

func (f *fake) Done() <-chan struct{} { return f.done }

func (f *fake) Extensions() []Extension {
	if f.handler == nil {
		return nil
	}
	return []Extension{{Name: "layer", Rel: "urn:ietf:params:whep:ext:core:layer", Params: map[string]string{"events": "a,b"}, Handler: f.handler}}
}

var quiet = slog.New(slog.DiscardHandler)

// serving returns an Endpoint whose sessions are s, and changes its Options first.
func serving(t *testing.T, s *fake, change func(*Options)) *Endpoint {
	t.Helper()
	o := Options{Prefix: "/whep/", Log: quiet, Accept: func(context.Context, Offer) (Answer, error) { return Answer{SDP: "v=0\r\n", Session: s}, nil }}
	if change != nil {
		change(&o)
	}
	e := NewEndpoint(o)
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// ask makes one request from a public address; fields are header fields in pairs.
func ask(e *Endpoint, method, url, body string, fields ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, url, strings.NewReader(body))
	r.RemoteAddr = "192.0.2.1:5000"
	for i := 0; i < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	return w
}

func post(e *Endpoint, fields ...string) *httptest.ResponseRecorder {
	return ask(e, http.MethodPost, "/whep/live/demo", offer, append(fields, "Content-Type", SDPType)...)
}

func TestAccept(t *testing.T) {
	var got Offer
	s := newFake()
	e := serving(t, s, func(o *Options) {
		o.Accept = func(_ context.Context, offer Offer) (Answer, error) {
			got = offer
			return Answer{SDP: "v=0\r\n", Session: s}, nil
		}
	})
	w := ask(e, http.MethodPost, "/whep/live/demo?token=secret&layer=hi", offer, "Content-Type", SDPType+"; charset=utf-8")
	if w.Code != http.StatusCreated {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if got.Stream != "live/demo" || got.SDP != offer || got.Token != "secret" || got.Query.Encode() != "layer=hi" ||
		got.Remote != netip.MustParseAddrPort("192.0.2.1:5000") || len(got.Session) != logged || !strings.Contains(w.Header().Get("Location"), got.Session) {
		t.Errorf("offer %+v", got)
	}
	if e.Sessions() != 1 {
		t.Errorf("%d sessions", e.Sessions())
	}
	_ = s.Close() // by itself
	for e.Sessions() != 0 {
		<-time.After(time.Millisecond)
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		status int
		retry  string
		text   string
	}{
		"not live":    {&Error{Status: http.StatusConflict, RetryAfter: 1500 * time.Millisecond, Reason: "nobody publishes"}, 409, "2", "nobody publishes"},
		"unsupported": {ErrUnsupported, 422, "", "not supported"},
		"internal":    {errors.New("secret of the inside"), 500, "", "log"},
		"bad status":  {&Error{Status: 200, Reason: "?"}, 500, "", "?"},
	} {
		t.Run(name, func(t *testing.T) {
			e := serving(t, nil, func(o *Options) {
				o.Accept = func(context.Context, Offer) (Answer, error) { return Answer{}, c.err }
			})
			w := post(e)
			if w.Code != c.status || w.Header().Get("Retry-After") != c.retry || !strings.Contains(w.Body.String(), c.text) ||
				w.Header().Get("Content-Type") != "application/problem+json" || strings.Contains(w.Body.String(), "secret") {
				t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
			}
		})
	}
	t.Run("redirect", func(t *testing.T) {
		e := serving(t, nil, func(o *Options) {
			o.Accept = func(context.Context, Offer) (Answer, error) {
				return Answer{}, &Error{Status: http.StatusTemporaryRedirect, Location: "https://other.example/whep/x"}
			}
		})
		if w := post(e); w.Code != 307 || w.Header().Get("Location") != "https://other.example/whep/x" || w.Body.Len() != 0 {
			t.Errorf("%d %v", w.Code, w.Header())
		}
	})
	t.Run("forbidden by Authorize", func(t *testing.T) {
		e := serving(t, newFake(), func(o *Options) {
			o.Authorize = func(string, string) error { return Errorf(http.StatusForbidden, "not this stream") }
		})
		if w := post(e); w.Code != 403 || w.Header().Get("WWW-Authenticate") != "" {
			t.Errorf("%d %v", w.Code, w.Header())
		}
	})
}

// More offers at a time than Negotiations are answered 503 at once; clients that hang up end their negotiation.
func TestOverload(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan struct{})
	e := serving(t, nil, func(o *Options) {
		o.Limits.Negotiations = 1
		o.Accept = func(ctx context.Context, _ Offer) (Answer, error) {
			close(begun)
			<-ctx.Done()
			return Answer{}, &Error{Status: http.StatusServiceUnavailable, Reason: "given up"}
		}
	})
	go func() {
		defer close(ended)
		post(e)
	}()
	<-begun
	if w := post(e); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	_ = e.Close() // ends the negotiation, and waits for it
	<-ended
	if w := post(e); w.Code != http.StatusServiceUnavailable {
		t.Errorf("after Close: %d", w.Code)
	}
}

func TestRates(t *testing.T) {
	r := newRates(10, 5)
	now := time.Now()
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("::ffff:192.0.2.1")
	for i := range 5 {
		if !r.allow(a, now) {
			t.Fatalf("request %d of the burst refused", i)
		}
	}
	if r.allow(b, now) {
		t.Error("the mapped address is another")
	}
	if !r.allow(netip.MustParseAddr("2001:db8::1"), now) || !r.allow(netip.MustParseAddr("127.0.0.1"), now) {
		t.Error("another address is refused")
	}
	for range 4 {
		r.allow(netip.MustParseAddr("2001:db8::ffff:1"), now)
	}
	if r.allow(netip.MustParseAddr("2001:db8::2"), now) {
		t.Error("one /64 has more than its burst")
	}
	if now = now.Add(100 * time.Millisecond); !r.allow(a, now) || r.allow(a, now) {
		t.Error("not one more after a tenth of a second")
	}
	var addr [4]byte
	for i := range 3 * maxAddresses {
		addr = [4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}
		r.allow(netip.AddrFrom4(addr), now)
	}
	if len(r.buckets) > maxAddresses {
		t.Errorf("%d addresses kept", len(r.buckets))
	}

	e := serving(t, newFake(), func(o *Options) { o.Limits.Rate, o.Limits.Burst = 1, 2 })
	post(e)
	ask(e, http.MethodDelete, "/whep/live/demo/x", "")
	for _, method := range []string{http.MethodPost, http.MethodPatch, http.MethodDelete} {
		if w := ask(e, method, "/whep/live/demo/x", ""); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: %d", method, w.Code)
		}
	}
	if w := ask(e, http.MethodOptions, "/whep/live/demo", ""); w.Code != http.StatusOK {
		t.Errorf("OPTIONS: %d", w.Code)
	}
}

func TestRestart(t *testing.T) {
	s := newFake()
	e := serving(t, s, nil)
	w := post(e)
	location, etag := w.Header().Get("Location"), w.Header().Get("ETag")
	fresh := string(Fragment{Ufrag: "newu", Pwd: pwd}.Marshal())
	patch := func(match string) *httptest.ResponseRecorder {
		return ask(e, http.MethodPatch, location, fresh, "Content-Type", FragmentType, "If-Match", match)
	}
	s.err = Errorf(http.StatusUnprocessableEntity, "cannot")
	if w := patch("*"); w.Code != 422 || w.Header().Get("ETag") != "" || e.Sessions() != 1 {
		t.Errorf("a restart that does not work: %d %v", w.Code, w.Header())
	}
	s.err = ErrUnsupported
	if w := patch("*"); w.Code != 422 {
		t.Errorf("unsupported: %d", w.Code)
	}
	w = patch(`"*"`)
	if w.Code != http.StatusOK || w.Header().Get("ETag") == etag || w.Header().Get("ETag") == "" || w.Header().Get("Content-Type") != FragmentType {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	if f, err := ParseFragment(w.Body.Bytes()); err != nil || f.Ufrag != "ours" || !f.End {
		t.Errorf("%+v %v", f, err)
	}
	if w := patch(etag); w.Code != http.StatusPreconditionFailed {
		t.Errorf("old ETag: %d", w.Code)
	}
	s.err = ErrUnsupported
	if w := patch(w.Header().Get("ETag")); w.Code != 422 || len(s.trickled) != 1 {
		t.Errorf("trickle unsupported: %d", w.Code)
	}
	// MediaMTX gives "*" as ETag, so some clients trickle with it.
	if w := ask(e, http.MethodPatch, location, "a="+host, "Content-Type", FragmentType, "If-Match", "*"); w.Code != http.StatusNoContent {
		t.Errorf("trickle with a star: %d", w.Code)
	}
}

// WHEP: the server's own offer is answered by PATCH within its life.
func TestCounterOffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFake()
		e := NewEndpoint(Options{Prefix: "/whep/", Log: quiet, Accept: func(context.Context, Offer) (Answer, error) {
			return Answer{SDP: "v=0\r\ns=counter\r\n", Session: s, Counter: true}, nil
		}})
		defer e.Close()
		w := post(e)
		location := w.Header().Get("Location")
		if w.Code != http.StatusNotAcceptable || w.Header().Get("Content-Type") != SDPType || location == "" ||
			!strings.Contains(w.Header().Get("Accept-Patch"), SDPType) || w.Body.String() != "v=0\r\ns=counter\r\n" {
			t.Fatalf("%d %v %s", w.Code, w.Header(), w.Body)
		}
		time.Sleep(CounterOfferLife - time.Second)
		s.err = Errorf(http.StatusBadRequest, "no answer")
		if w := ask(e, http.MethodPatch, location, offer, "Content-Type", SDPType); w.Code != http.StatusBadRequest {
			t.Errorf("bad answer: %d", w.Code)
		}
		if w := ask(e, http.MethodPatch, location, offer, "Content-Type", SDPType); w.Code != http.StatusNoContent || s.answered != offer {
			t.Errorf("answer: %d %s", w.Code, w.Body)
		}
		if w := ask(e, http.MethodPatch, location, offer, "Content-Type", SDPType); w.Code != http.StatusConflict {
			t.Errorf("second answer: %d", w.Code)
		}
		time.Sleep(CounterOfferLife)
		if e.Sessions() != 1 {
			t.Error("an answered counter-offer expired")
		}

		s = newFake()
		post(e)
		time.Sleep(CounterOfferLife + time.Second)
		synctest.Wait()
		select {
		case <-s.done:
		default:
			t.Error("nobody answered and the session is open")
		}
		if e.Sessions() != 1 {
			t.Errorf("%d sessions", e.Sessions())
		}
	})
}

func TestExtensions(t *testing.T) {
	s := newFake()
	s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Method+" "+r.URL.Path)
	})
	e := serving(t, s, func(o *Options) { o.Authorize = func(string, string) error { return nil } })
	w := post(e, "Authorization", "Bearer x")
	links := ParseLinks(w.Header().Values("Link"))
	if len(links) != 1 || links[0].Rel != "urn:ietf:params:whep:ext:core:layer" || links[0].URL != w.Header().Get("Location")+"/layer" || links[0].Params["events"] != "a,b" {
		t.Fatalf("links %+v", links)
	}
	for path, want := range map[string]string{"": "POST ", "/deep/er": "POST /deep/er"} {
		if w := ask(e, http.MethodPost, links[0].URL+path, "{}", "Authorization", "Bearer x"); w.Body.String() != want {
			t.Errorf("%q: %d %s", path, w.Code, w.Body)
		}
	}
	if w := ask(e, http.MethodPost, links[0].URL, "{}"); w.Code != http.StatusUnauthorized {
		t.Errorf("without the token: %d", w.Code)
	}
	if w := ask(e, http.MethodGet, links[0].URL+"s", "", "Authorization", "Bearer x"); w.Code != http.StatusNotFound {
		t.Errorf("unknown extension: %d", w.Code)
	}
	if w := ask(e, http.MethodPost, w.Header().Get("Location"), offer, "Content-Type", SDPType); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST to a session: %d", w.Code)
	}
	if w := ask(e, http.MethodHead, "/whep/live/demo", ""); w.Code != http.StatusOK || w.Header().Get("Content-Type") != SDPType {
		t.Errorf("HEAD: %d %v", w.Code, w.Header())
	}
}

func FuzzEndpoint(f *testing.F) {
	f.Add(http.MethodPost, "live/demo", SDPType, `"x"`, offer)
	f.Add(http.MethodPatch, "live/demo/ID", FragmentType, "*", "a=ice-ufrag:newu\r\na=ice-pwd:"+pwd)
	f.Add(http.MethodPatch, "live/demo/ID", FragmentType, `W/"a", "b"`, "a="+host)
	f.Add(http.MethodDelete, "live/demo/ID/", "", "", "")
	f.Add(http.MethodPost, "live/demo/ID/layer/x", "", "", "")
	f.Add(http.MethodPost, strings.Repeat("x", maxStream), SDPType, "", offer) // a session's path is longer
	f.Add(http.MethodPost, strings.Repeat("x", 2*maxStream), SDPType, "", offer)
	f.Fuzz(func(t *testing.T, method, path, contentType, match, body string) {
		e := NewEndpoint(Options{Prefix: "/whep/", Log: quiet,
			Accept: func(context.Context, Offer) (Answer, error) { return Answer{SDP: "v=0\r\n", Session: newFake()}, nil }})
		defer e.Close()
		opened := post(e).Header().Get("Location")
		r, err := http.NewRequest(method, "/", strings.NewReader(body))
		if err != nil {
			return
		}
		r.URL.Path = strings.ReplaceAll("/whep/"+path, "ID", opened[strings.LastIndexByte(opened, '/')+1:])
		r.RemoteAddr = "192.0.2.1:1"
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("If-Match", match)
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		if w.Code < 200 || w.Code >= 500 && w.Code != http.StatusServiceUnavailable {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if l := w.Header().Get("Location"); l != "" {
			ask(e, http.MethodDelete, l, "")
		}
		ask(e, http.MethodDelete, opened, "")
		if n := e.Sessions(); n != 0 {
			t.Errorf("%d sessions", n)
		}
	})
}
