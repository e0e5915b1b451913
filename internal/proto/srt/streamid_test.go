package srt_test

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"gantry/internal/proto/srt"
)

func TestParseStreamID(t *testing.T) {
	for _, c := range []struct {
		in, stream, user string
		play             bool
		tokens           []string
		params           string
	}{
		{in: "demo", stream: "demo"},
		{in: "live/demo", stream: "live/demo"},
		{in: "/live/demo", stream: "live/demo"},
		{in: "#!::r=demo,m=publish", stream: "demo"},
		{in: "#!::m=request,r=demo,u=cam,s=tok-en123!", stream: "demo", user: "cam", play: true, tokens: []string{"tok-en123!"}},
		{in: "#!::h=host,r=live/demo,m=publish,t=stream,token=x!", stream: "live/demo", tokens: []string{"x!"}},
		{in: "#!::r=demo?t=x!&priority=3,m=publish", stream: "demo", tokens: []string{"x!"}, params: "priority=3"},
		{in: "%23!::r=live/demo,m=publish,s=a%20b", stream: "live/demo", tokens: []string{"a b"}},
		{in: "publish:demo", stream: "demo"},
		{in: "publish:live/demo:cam:pass!", stream: "live/demo", user: "cam", tokens: []string{"pass!"}},
		{in: "publish:demo::pass!", stream: "demo", tokens: []string{"pass!"}},
		{in: "publish:demo:pass!", stream: "demo", tokens: []string{"pass!"}},
		{in: "read:demo:cam:pass!:a=b", stream: "demo", user: "cam", play: true, tokens: []string{"pass!"}},
		{in: "demo?t=c2VjcmV0&e&priority=2&sourceId=cam1&simulcastId=s", stream: "demo", tokens: []string{"c2VjcmV0", "secret"},
			params: "e=&priority=2&simulcastId=s&sourceId=cam1"},
		{in: "demo?t=c2VjcmV0LQ==", stream: "demo", tokens: []string{"c2VjcmV0LQ==", "secret-"}},
		{in: "demo%3FsimulcastId%3Dh%26t%3Dplain!", stream: "demo", tokens: []string{"plain!"}, params: "simulcastId=h"},
		{in: "demo?token=plain!", stream: "demo", tokens: []string{"plain!"}},
	} {
		id, err := srt.ParseStreamID(c.in)
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		if id.Stream != c.stream || id.User != c.user || id.Play != c.play || !slices.Equal(id.Tokens(), c.tokens) || id.Params.Encode() != c.params {
			t.Errorf("%q: got %+v, tokens %q, params %q", c.in, id, id.Tokens(), id.Params.Encode())
		}
	}
	for _, in := range []string{"", "#!::", "#!:{}", "#!::r=,m=publish", "#!::r=a,m=erase", "#!::r=a,t=file", "?t=a", "publish:", "a=b", "a,b",
		"demo?%zz", strings.Repeat("a", 513), "\xff"} {
		if id, err := srt.ParseStreamID(in); !errors.Is(err, srt.ErrStreamID) {
			t.Errorf("%q: got %+v, %v", in, id, err)
		}
	}
}

func TestStreamIDRoundTrip(t *testing.T) {
	for _, d := range []srt.Dialect{srt.Standard, srt.Colon, srt.Query} {
		for _, play := range []bool{false, true} {
			id := srt.StreamID{Dialect: d, Play: play, Stream: "live/a", Token: "s3cret+token/#%"}
			if err := id.Validate(); err != nil {
				t.Fatal(err)
			}
			got, err := srt.ParseStreamID(id.String())
			if err != nil || got.Stream != id.Stream || got.Play != play || !slices.Contains(got.Tokens(), id.Token) {
				t.Errorf("%v %q: %+v, %v", d, id, got, err)
			}
			u, err := url.Parse("srt://host:8890?latency=120&streamid=" + id.Quote())
			if err != nil || u.Query().Get("streamid") != id.String() {
				t.Errorf("%q does not survive a URL: %v %q", id, err, u.Query().Get("streamid"))
			}
		}
	}
	for _, id := range []srt.StreamID{{Stream: "a,b"}, {Dialect: srt.Colon, Stream: "a", Token: "x:y"}, {Dialect: srt.Bare, Stream: "a", Token: "t"},
		{Stream: strings.Repeat("a", 512)}} {
		if id.Validate() == nil {
			t.Errorf("%+v is valid", id)
		}
	}
}

func FuzzParseStreamID(f *testing.F) {
	for _, s := range []string{"demo", "#!::r=demo,m=publish,s=x", "publish:a:b:c", "demo?t=c2VjcmV0&priority=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := srt.ParseStreamID(s)
		if err != nil || id.Validate() != nil {
			return
		}
		again, err := srt.ParseStreamID(id.String())
		if err != nil || again.Stream != id.Stream || again.Play != id.Play {
			t.Fatalf("%q → %q → %+v, %v", s, id, again, err)
		}
	})
}
