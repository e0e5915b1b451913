package access

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"gantry/internal/secret"
	"gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestPolicy(t *testing.T) {
	p := New(Config{Publish: []secret.String{"publish-one", "publish-two"}, Play: []secret.String{"play-three"}})
	for _, c := range []struct {
		token         string
		publish, play error
	}{
		{"", ErrNoToken, ErrNoToken},
		{"publish-one", nil, ErrWrongToken},
		{"publish-two", nil, ErrWrongToken},
		{"play-three", ErrWrongToken, nil},
		{"publish-on", ErrWrongToken, ErrWrongToken},
		{"publish-one ", ErrWrongToken, ErrWrongToken},
	} {
		if err := p.Publish(c.token, "demo"); !errors.Is(err, c.publish) || (err == nil) != (c.publish == nil) {
			t.Errorf("publish with %q: %v, want %v", c.token, err, c.publish)
		}
		if err := p.Play(c.token, "demo"); !errors.Is(err, c.play) || (err == nil) != (c.play == nil) {
			t.Errorf("play with %q: %v, want %v", c.token, err, c.play)
		}
	}
	if !p.AsksPublishers() || !p.AsksViewers() {
		t.Error("asks nobody")
	}
}

func TestPolicyWithoutTokens(t *testing.T) {
	p := New(Config{})
	if p != nil || p.Publish("", "demo") != nil || p.Play("x", "demo") != nil || p.AsksPublishers() || p.AsksViewers() {
		t.Error("without tokens, yet somebody is kept out")
	}
	p = New(Config{Publish: []secret.String{"publish-one"}})
	if p.Play("", "demo") != nil || p.AsksViewers() {
		t.Error("a publish token keeps viewers out")
	}
}

// A relay that others reach must not let anybody publish, and its refusal must help.
func TestCheckListen(t *testing.T) {
	open, guarded := New(Config{}), New(Config{Publish: []secret.String{"publish-one"}})
	viewers := New(Config{Play: []secret.String{"play-three"}})
	for addr, own := range map[string]bool{
		"127.0.0.1:8080": true, "127.9.9.9:0": true, "[::1]:8080": true, "localhost:8080": true, "[::ffff:127.0.0.1]:80": true,
		":8080": false, "0.0.0.0:8080": false, "[::]:8080": false, "192.0.2.7:8080": false, "relay.example:8080": false, "": false,
		"localhost.example:8080": false,
	} {
		if err := guarded.CheckListen(addr); err != nil {
			t.Errorf("%s with a publish token: %v", addr, err)
		}
		for _, p := range []*Policy{open, viewers} {
			err := p.CheckListen(addr)
			if (err == nil) != own {
				t.Errorf("%s without a publish token: %v", addr, err)
			}
			if err != nil && !(strings.Contains(err.Error(), "GANTRY_PUBLISH_TOKEN=") && strings.Contains(err.Error(), "--http 127.0.0.1:8080")) {
				t.Errorf("%s: the refusal does not say how to go on: %v", addr, err)
			}
		}
	}
	if a, b := open.CheckListen(":1").Error(), open.CheckListen(":1").Error(); a == b {
		t.Error("the suggested token is the same each time, so it is a default password")
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		tokens []secret.String
		want   string
	}{
		{nil, ""},
		{[]secret.String{"long-enough"}, ""},
		{[]secret.String{"long-enough", "short"}, "play token 2 has 5 characters: want 8 to 512"},
		{[]secret.String{secret.String(strings.Repeat("a", 513))}, "play token 1 has 513 characters: want 8 to 512"},
		{[]secret.String{"with a space"}, "play token 1: want visible ASCII characters without spaces"},
		{[]secret.String{"töken-töken"}, "play token 1: want visible ASCII characters without spaces"},
	} {
		got := ""
		if err := (Config{Play: c.tokens}).Validate(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestToken(t *testing.T) {
	for _, c := range []struct{ header, query, want string }{
		{"", "", ""},
		{"Bearer abc", "", "abc"},
		{"bearer abc ", "", "abc"},
		{"Basic abc", "?token=xyz", "xyz"},
		{"", "?token=x%2By", "x+y"},
		{"Bearer abc", "?token=xyz", "abc"},
		{"Bearer", "?token=", ""},
	} {
		r := httptest.NewRequest("POST", "/whep/demo"+c.query, nil)
		if c.header != "" {
			r.Header.Set("Authorization", c.header)
		}
		if got := Token(r); got != c.want {
			t.Errorf("%q %q: got %q, want %q", c.header, c.query, got, c.want)
		}
	}
}

func TestConfigHidesTokens(t *testing.T) {
	c := Config{Publish: []secret.String{"publish-one"}}
	if s := fmt.Sprintf("%v %+v", c, c); strings.Contains(s, "publish-one") {
		t.Errorf("shown: %s", s)
	}
}
