package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"gantry/internal/testkit"
)

// Each bad file has its exact message beside it.
func TestBadFiles(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.bad.yaml")
	if len(files) == 0 {
		t.Fatal("no bad files")
	}
	for _, file := range files {
		_, err := loadFile(file)
		if err == nil {
			t.Errorf("%s is taken", file)
			continue
		}
		testkit.Golden(t, strings.TrimSuffix(filepath.Base(file), ".yaml")+".txt", []byte(err.Error()+"\n"))
	}
}

// The example is the defaults, and has every key.
func TestExample(t *testing.T) {
	got, err := loadFile("relay.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(defaults()) {
		t.Errorf("the example is %v, the defaults are %v", got, defaults())
	}
	text, err := os.ReadFile("relay.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		if key := f.Tag.Get("yaml"); !f.Anonymous && !strings.Contains(string(text), "\n"+key+":") {
			t.Errorf("the example lacks %s", key)
		}
	}
}

func load(t *testing.T, env map[string]string, args ...string) (Config, error) {
	t.Helper()
	flags := flag.NewFlagSet("test", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	merge := configFlags(flags)
	if err := flags.Parse(args); err != nil {
		return Config{}, err
	}
	return merge(func(name string) string { return env[name] })
}

// A flag wins over the environment, the environment over the file, the file over the defaults.
func TestPrecedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "relay.yaml")
	if err := os.WriteFile(file, []byte("http: 127.0.0.1:1\nrtc: 127.0.0.1:2\nhold: 5s\nlog: warn\npublish-token: [from-file-1, from-file-2]\nplay-token: [from-file-3]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"GANTRY_PUBLISH_TOKEN": "from-env-1 from-env-2"}
	c, err := load(t, env, "--config", file, "--rtc", "127.0.0.1:3", "--play-token", "from-flag-1", "--play-token", "from-flag-2", "--public-address", "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	if c.HTTP != "127.0.0.1:1" || c.RTC != "127.0.0.1:3" || c.Hold != 5*time.Second || c.Log.Level != slog.LevelWarn || c.PublicAddresses[0].String() != "192.0.2.1" ||
		len(c.PublishTokens) != 2 || c.PublishTokens[0].Reveal() != "from-env-1" || len(c.PlayTokens) != 2 || c.PlayTokens[1].Reveal() != "from-flag-2" {
		t.Errorf("got %+v", c)
	}
	c, err = load(t, nil)
	if err != nil || c.HTTP != ":8080" || c.RTC != ":8189" || c.Hold != 30*time.Second {
		t.Errorf("defaults %+v: %v", c, err)
	}
	if _, err := load(t, map[string]string{"GANTRY_PLAY_TOKEN": "short"}); err == nil || !strings.Contains(err.Error(), "want 8 to 512") {
		t.Errorf("a short token in the environment: %v", err)
	}
}

// What --help says is what there is: every flag and every key of the file, each the other's name.
func TestHelpIsComplete(t *testing.T) {
	flags := flag.NewFlagSet("test", flag.ContinueOnError)
	configFlags(flags)
	flags.VisitAll(func(f *flag.Flag) {
		if !regexp.MustCompile(`(?m)^    --` + f.Name + `\b`).MatchString(usage) {
			t.Errorf("--help does not tell of --%s", f.Name)
		}
		if f.Name == "config" {
			return
		}
		file := filepath.Join(t.TempDir(), "f.yaml")
		if err := os.WriteFile(file, []byte(f.Name+": {}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadFile(file); err == nil || strings.Contains(err.Error(), "unknown key") {
			t.Errorf("the file has no key %s: %v", f.Name, err)
		}
	})
	for _, m := range regexp.MustCompile(`(?m)^    --([a-z-]+)`).FindAllStringSubmatch(usage, -1) {
		if flags.Lookup(m[1]) == nil && m[1] != "version" {
			t.Errorf("--help tells of --%s, which is not there", m[1])
		}
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"--help"}, &out, io.Discard); err != nil || out.String() != usage {
		t.Errorf("--help: %v %s", err, out.String())
	}
}

func TestRefusesToStartOpen(t *testing.T) {
	err := run(t.Context(), []string{"--http", "0.0.0.0:0", "--rtc", "127.0.0.1:0"}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "GANTRY_PUBLISH_TOKEN=") || !strings.Contains(err.Error(), "--http 127.0.0.1:8080") {
		t.Errorf("a relay that others reach, without a token: %v", err)
	}
	// A play token keeps nobody from publishing.
	if err := run(t.Context(), []string{"--http", ":0", "--rtc", "127.0.0.1:0", "--play-token", "play-token-1"}, io.Discard, io.Discard); err == nil {
		t.Error("started with a play token alone")
	}
	// Nor may the other ports be more open than HTTP's, which is where they are by default.
	for _, key := range []string{"--srt", "--rtmp"} {
		args := []string{"--http", "127.0.0.1:0", "--rtc", "127.0.0.1:0", "--srt", ":0", "--rtmp", ":0", key, "0.0.0.0:0"}
		if err := run(t.Context(), args, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "0.0.0.0:0 lets anybody") {
			t.Errorf("%s 0.0.0.0:0 without a token: %v", key, err)
		}
	}
	if got := (Config{HTTP: "127.0.0.1:8080"}).beside(":8890"); got != "127.0.0.1:8890" {
		t.Errorf("beside: %s", got)
	}
}

func TestPortTaken(t *testing.T) {
	base := startRelay(t)
	err := run(t.Context(), []string{"--http", strings.TrimPrefix(base, "http://"), "--rtc", "127.0.0.1:0"}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "address already in use") || !strings.Contains(err.Error(), "--http chooses one") {
		t.Errorf("the HTTP port is taken: %v", err)
	}
}

func TestWrongUsage(t *testing.T) {
	for args, want := range map[string]string{
		"--nonsense":            "flag provided but not defined: -nonsense",
		"serve":                 `unknown command "serve"; there are check and watch`,
		"--public-address here": `"here" is no IP address`,
		"watch":                 "usage: gantry-relay watch",
		"watch a b":             "usage: gantry-relay watch",
		"check":                 "usage: gantry-relay check FILE",
	} {
		var said bytes.Buffer
		err := run(t.Context(), strings.Fields(args), io.Discard, &said)
		if !errors.Is(err, errUsage) || !strings.Contains(said.String(), want) {
			t.Errorf("%s: %v, said %q, want %q", args, err, said.String(), want)
		}
	}
}

// writeCertificate writes a self-signed pair for localhost with this serial number.
func writeCertificate(t *testing.T, cert, key string, serial int64) *x509.Certificate {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	roots := x509.NewCertPool()
	roots.AddCert(writeCertificate(t, cert, key, 1))
	base := startRelay(t, "--tls-cert", cert, "--tls-key", key)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	res, err := client.Get(base + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != 200 || res.ProtoMajor != 2 || !strings.HasPrefix(base, "https://") {
		t.Errorf("%s: %s %s", base, res.Proto, res.Status)
	}
}

// A renewed certificate is used without a restart; half-written files are not.
func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, cert, key, 1)
	c, err := loadCertificate(cert, key, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	serial := func() int64 {
		t.Helper()
		c.looked = time.Time{} // as if its time had come
		pair, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf.SerialNumber.Int64()
	}
	if got := serial(); got != 1 {
		t.Errorf("serial %d", got)
	}
	later := time.Now().Add(time.Minute)
	if err := errors.Join(os.WriteFile(key, []byte("half"), 0o600), os.Chtimes(key, later, later)); err != nil {
		t.Fatal(err)
	}
	if got := serial(); got != 1 {
		t.Errorf("serial %d with a half-written key", got)
	}
	writeCertificate(t, cert, key, 2)
	later = later.Add(time.Minute)
	if err := errors.Join(os.Chtimes(cert, later, later), os.Chtimes(key, later, later)); err != nil {
		t.Fatal(err)
	}
	if got := serial(); got != 2 {
		t.Errorf("serial %d after renewal", got)
	}
	if _, err := loadCertificate(cert, filepath.Join(dir, "none.pem"), nil); err == nil || !strings.Contains(err.Error(), "none.pem") {
		t.Errorf("no key: %v", err)
	}
}

// A relay that is told to stop does so at once, with an open connection and a request that never ends.
func TestStops(t *testing.T) {
	var log testkit.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"--http", "127.0.0.1:0", "--rtc", "127.0.0.1:0", "--srt", "127.0.0.1:0", "--rtmp", ":0"}, io.Discard, &log)
	}()
	var m []string
	testkit.Eventually(t, 10*time.Second, "the relay serves", func() bool { m = serving.FindStringSubmatch(log.String()); return m != nil })
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	res, err := client.Get(m[1] + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	begun := time.Now()
	cancel()
	if err := <-ended; err != nil || time.Since(begun) > 3*time.Second {
		t.Errorf("stopped after %v: %v\n%s", time.Since(begun), err, log.String())
	}
}

// Whatever an operator writes is taken as an address that can be told, or refused in words.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{"192.0.2.1", "2001:db8::1", "fe80::1%eth0", "0.0.0.0", "relay.example", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var a address
		if err := a.UnmarshalText([]byte(s)); err == nil && (!a.IsValid() || a.IsUnspecified() || a.IsMulticast()) {
			t.Errorf("%q is taken as %v", s, a)
		}
		var l level
		_ = l.UnmarshalText([]byte(s))
	})
}
