package pin

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// Who does not know the certificate is told the fingerprint; with that, and with no other, the connection stands.
func TestSelfSigned(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	get := func(fingerprint string) error {
		t.Helper()
		c, err := Client(fingerprint)
		if err != nil {
			t.Fatal(err)
		}
		transport := &http.Transport{TLSClientConfig: c}
		defer transport.CloseIdleConnections()
		res, err := (&http.Client{Transport: transport}).Get(server.URL)
		if err == nil {
			_ = res.Body.Close()
		}
		return Explain(err)
	}
	err := get("")
	if err == nil {
		t.Fatal("a certificate of nobody was taken")
	}
	told := regexp.MustCompile(`set fingerprint: ([0-9A-F:]{95})$`).FindStringSubmatch(err.Error())
	if told == nil || told[1] != Fingerprint(server.Certificate()) {
		t.Fatal(err)
	}
	for _, f := range []string{told[1], strings.ToLower(strings.ReplaceAll(told[1], ":", ""))} {
		if err := get(f); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
	if err := get(strings.Repeat("ab", 32)); err == nil || !strings.Contains(err.Error(), "its fingerprint is "+told[1]) {
		t.Errorf("another fingerprint: %v", err)
	}
}

func TestValidate(t *testing.T) {
	for f, ok := range map[string]bool{"": true, strings.Repeat("aB", 32): true, strings.Repeat("ab:", 31) + "ab": true, "ab": false, strings.Repeat("xy", 32): false} {
		if err := Validate(f); (err == nil) != ok {
			t.Errorf("%q: %v", f, err)
		}
	}
}
