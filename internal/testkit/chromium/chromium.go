// Package chromium runs a real browser for the tests: a fresh profile each, no sound card, nothing asked of a user, and
// ended with the test. It knows no page and no protocol; the pages under test are the caller's.
package chromium

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// startLimit is how long the browser has until its first page stands; it takes about 2 s on an idle machine.
const startLimit = 60 * time.Second

// Options are what a test may ask of the browser.
type Options struct {
	// FakeCamera gives the page Chromium's own moving test picture and beeps as camera and microphone, without asking.
	FakeCamera bool
	// Flags are further switches, without the two dashes: "force-fieldtrials" or "lang=de".
	Flags []string
	// Prefix is put before the browser's command line, for instance to run it inside a network namespace.
	Prefix []string
}

// A Page is one tab of a browser of its own. Its methods fail the test on errors; one goroutine uses it.
type Page struct {
	tb      testing.TB
	ctx     context.Context
	console *consoleLog
}

// A consoleLog is what the page wrote; the browser's goroutine appends to it.
type consoleLog struct {
	mu   sync.Mutex
	text strings.Builder
}

// For returns the same tab for a subtest, whose failures are then its own.
func (p *Page) For(tb testing.TB) *Page {
	other := *p
	other.tb = tb
	return &other
}

// Open starts a browser and opens the address in it. The browser ends with the test; when the test failed, what the
// page wrote to its console is shown.
func Open(tb testing.TB, o Options, url string) *Page {
	tb.Helper()
	p := Launch(tb, o)
	p.Navigate(url)
	return p
}

// Launch starts a browser with an empty page.
func Launch(tb testing.TB, o Options) *Page {
	tb.Helper()
	path, err := find()
	if err != nil {
		tb.Fatal(err)
	}
	p := &Page{tb: tb, console: new(consoleLog)}
	// The allocator makes a fresh profile in the temporary folder, and removes it after the last process that uses it.
	options := append([]chromedp.ExecAllocatorOption{}, chromedp.DefaultExecAllocatorOptions[:]...)
	options = append(options,
		chromedp.NoSandbox, // tests run as root in containers, where the sandbox cannot be set up
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-features", "Translate,MediaRouter,OptimizationHints,WebRtcHideLocalIpsWithMdns"),
		chromedp.Flag("autoplay-policy", "no-user-gesture-required"),
		chromedp.CombinedOutput(io.Discard),
	)
	if o.FakeCamera {
		options = append(options,
			chromedp.Flag("use-fake-device-for-media-stream", true), chromedp.Flag("use-fake-ui-for-media-stream", true))
	}
	for _, flag := range o.Flags {
		if name, value, ok := strings.Cut(flag, "="); ok {
			options = append(options, chromedp.Flag(name, value))
		} else {
			options = append(options, chromedp.Flag(name, true))
		}
	}
	if len(o.Prefix) > 0 {
		options = append(options, chromedp.ExecPath(o.Prefix[0]), chromedp.ModifyCmdFunc(func(cmd *exec.Cmd) {
			args := append([]string{cmd.Args[0]}, o.Prefix[1:]...)
			cmd.Args = append(append(args, path), cmd.Args[1:]...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // as the allocator does by itself
		}))
	} else {
		options = append(options, chromedp.ExecPath(path))
	}

	alloc, freeAlloc := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(alloc, chromedp.WithErrorf(func(string, ...any) {}))
	p.ctx = ctx
	listening := make(chan struct{})
	tb.Cleanup(func() {
		// Cancel closes the browser by its own protocol and waits; freeAlloc kills what is left.
		graceful, stop := context.WithTimeout(ctx, 10*time.Second)
		_ = chromedp.Cancel(graceful)
		stop()
		cancel()
		freeAlloc()
		<-listening
		if tb.Failed() {
			tb.Logf("the page's console:\n%s", p.Console())
		}
	})

	// The browser lives as long as the context of the first call, so that one has no deadline of its own.
	slow := time.AfterFunc(startLimit, cancel)
	err = chromedp.Do(ctx)
	if !slow.Stop() && err == nil {
		err = context.DeadlineExceeded
	}
	if err != nil {
		close(listening)
		tb.Fatalf("start chromium: %v", err)
	}
	messages := chromedp.Console(ctx)
	go func() {
		defer close(listening)
		for m, err := range messages {
			if err != nil {
				return
			}
			p.console.mu.Lock()
			fmt.Fprintf(&p.console.text, "%s: %s\n", m.Type, m.Text)
			p.console.mu.Unlock()
		}
	}()
	return p
}

func find() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("no Chromium on this machine: scripts/setup test installs it")
}

// Navigate opens another address in the same tab and waits for its load event.
func (p *Page) Navigate(url string) {
	p.tb.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
		p.tb.Fatalf("open %s: %v", url, err)
	}
}

// Click clicks the first element that the CSS selector finds, as a user's mouse would, waiting for it to appear.
func (p *Page) Click(selector string) {
	p.tb.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 10*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Click(chromedp.CSS(selector))); err != nil {
		p.tb.Fatalf("click %s: %v", selector, err)
	}
}

// Context returns the tab's chromedp context, for what this package has no method for.
func (p *Page) Context() context.Context { return p.ctx }

// Console returns what the page has written to its console so far, one message a line, uncaught exceptions included.
func (p *Page) Console() string {
	p.console.mu.Lock()
	defer p.console.mu.Unlock()
	return p.console.text.String()
}

// TryEval evaluates a JavaScript expression in the page and returns its value; a promise is awaited. It is for
// expressions that may fail; Eval for those that may not.
func TryEval[T any](p *Page, limit time.Duration, expression string) (T, error) {
	ctx, cancel := context.WithTimeout(p.ctx, limit)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise, chromedp.EvalAsValue))
}

// Eval evaluates a JavaScript expression in the page and returns its value, awaiting a promise for up to 60 s. The test
// fails where it throws.
func Eval[T any](p *Page, expression string) T {
	p.tb.Helper()
	v, err := TryEval[T](p, time.Minute, expression)
	if err != nil {
		p.tb.Fatalf("evaluate %s: %v", expression, err)
	}
	return v
}

// Screenshot keeps a picture of the page among the test's artifacts (go test -artifacts).
func (p *Page) Screenshot(name string) {
	p.tb.Helper()
	picture, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(filepath.Join(p.tb.ArtifactDir(), name+".png"), picture, 0o644)
	}
	if err != nil {
		p.tb.Error(err)
	}
}

// Wait polls a JavaScript expression, awaiting a promise, until it is true, and fails the test at the limit, showing what the expression
// why, if not empty, then gives.
func (p *Page) Wait(limit time.Duration, expression, why string) {
	p.tb.Helper()
	deadline := time.Now().Add(limit)
	for {
		ok, err := TryEval[bool](p, 10*time.Second, "Promise.resolve("+expression+").then(Boolean)")
		if err == nil && ok {
			return
		}
		if time.Now().After(deadline) {
			state := ""
			if why != "" {
				state, _ = TryEval[string](p, 5*time.Second, "Promise.resolve("+why+").then(v => JSON.stringify(v) ?? '')")
			}
			p.tb.Fatalf("not within %v in the page: %s (error: %v) %s", limit, expression, err, state)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
