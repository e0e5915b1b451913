package whip

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseLinks(t *testing.T) {
	turn := Link{URL: "turn:turn.example.net?transport=udp", Rel: "ice-server",
		Params: map[string]string{"username": "user", "credential": `my"pass,word;\`, "credential-type": "password"}}
	tests := map[string]struct {
		in   []string
		want []Link
	}{
		"none": {},
		"ICE servers, RFC 9725 §4.6": {
			in: []string{`<stun:stun.example.net>; rel="ice-server"`, `<turn:turn.example.net?transport=udp>; rel="ice-server"; ` +
				`username="user"; credential="my\"pass,word;\\"; credential-type="password"`},
			want: []Link{{URL: "stun:stun.example.net", Rel: "ice-server"}, turn},
		},
		"several in a field": {
			in:   []string{`<a>;rel=ice-server , <b,c>; rel="x ICE-Server";username = u ,, <d>`},
			want: []Link{{URL: "a", Rel: "ice-server"}, {URL: "b,c", Rel: "x ICE-Server", Params: map[string]string{"username": "u"}}, {URL: "d"}},
		},
		"first rel and first parameter count": {
			in:   []string{`<a>; rel=one; REL=two; k=1; K=2`},
			want: []Link{{URL: "a", Rel: "one", Params: map[string]string{"k": "1"}}},
		},
		"parameter without a value": {in: []string{`<a>; crossorigin; rel=x`}, want: []Link{{URL: "a", Rel: "x", Params: map[string]string{"crossorigin": ""}}}},
		"bad parameter name":        {in: []string{`<a>; =x; a b=c; rel=y`}, want: []Link{{URL: "a", Rel: "y"}}},
		"unterminated quotes":       {in: []string{`<a>; rel="x`}, want: []Link{{URL: "a", Rel: "x"}}},
		"no brackets":               {in: []string{`stun:a; rel=ice-server`, `<b`, `<c>`}, want: []Link{{URL: "c"}}},
		"control characters":        {in: []string{"<a>; rel=\"x\r\ny\"", "<b>"}, want: []Link{{URL: "b"}}},
		"too long":                  {in: []string{"<" + strings.Repeat("a", maxLinkField) + ">", "<b>"}, want: []Link{{URL: "b"}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := ParseLinks(tt.in); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
	if got := ParseLinks([]string{strings.Repeat("<a>,", 1000)}); len(got) != maxLinks {
		t.Errorf("%d links", len(got))
	}
	if l := (Link{Rel: "x ICE-Server"}); !l.Is(RelICEServer) || l.Is("server") {
		t.Error("relation types")
	}
	if got, want := turn.String(), `<turn:turn.example.net?transport=udp>; rel="ice-server"; credential="my\"pass,word;\\"; credential-type="password"; username="user"`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := (Link{URL: "a>\r\nb", Rel: "x\r\n", Params: map[string]string{"bad name": "", "ok": "\x00"}}).String(); got != `<a%3Eb>; rel="x"; ok=""` {
		t.Errorf("got %s", got)
	}
}

func FuzzParseLinks(f *testing.F) {
	f.Add(`<stun:stun.example.net>; rel="ice-server", <turn:a>; rel=ice-server; username="u\"x"`)
	f.Fuzz(func(t *testing.T, field string) {
		links := ParseLinks([]string{field})
		var fields []string
		for _, l := range links {
			s := l.String()
			if len(s) > maxLinkField { // escaping may pass the limit
				return
			}
			fields = append(fields, s)
		}
		if again := ParseLinks(fields); !reflect.DeepEqual(again, links) {
			t.Fatalf("read %+v, after writing %+v", links, again)
		}
	})
}
