package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

type config struct {
	Name  string
	Token String
}

func TestNothingShowsIt(t *testing.T) {
	const text = "hunter2"
	c := config{"x", text}
	var shown bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%08.3f", "%c", "%U"} {
		fmt.Fprintf(&shown, verb+"\n", c.Token)
		fmt.Fprintf(&shown, verb+"\n", c)
		fmt.Fprintf(&shown, verb+"\n", &c)
		fmt.Fprintf(&shown, verb+"\n", []any{c, map[String]String{c.Token: c.Token}})
	}
	fmt.Fprintln(&shown, c, c.Token, fmt.Errorf("with %v", c))
	for _, h := range []slog.Handler{slog.NewTextHandler(&shown, nil), slog.NewJSONHandler(&shown, nil)} {
		slog.New(h).Info("message", "token", c.Token, "config", c)
	}
	j, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	y, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	shown.Write(j)
	shown.Write(y)
	all := shown.String()
	for _, hidden := range []string{text, fmt.Sprintf("%x", text), fmt.Sprintf("%X", text), "104 117 110"} {
		if strings.Contains(all, hidden) {
			t.Errorf("%q shows in:\n%s", hidden, all)
		}
	}
	if !strings.Contains(all, Redacted) {
		t.Error("that there is a secret does not show")
	}
}

func TestDecode(t *testing.T) {
	var c config
	if err := yaml.Unmarshal([]byte("token: hunter2"), &c); err != nil || c.Token.Reveal() != "hunter2" {
		t.Errorf("yaml: %q, %v", c.Token.Reveal(), err)
	}
	c = config{}
	if err := json.Unmarshal([]byte(`{"Token":"hunter2"}`), &c); err != nil || c.Token.Reveal() != "hunter2" {
		t.Errorf("json: %q, %v", c.Token.Reveal(), err)
	}
	if fmt.Sprint(String("")) != "" {
		t.Error("an empty secret shows something")
	}
}
