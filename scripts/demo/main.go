// Command demo puts a camera on the air on this machine: it starts gantry-relay and gantryd from its own folder, waits
// until a viewer really receives pictures, and prints the address of the player page. `make demo` builds and runs it.
//
// INPUT is the source: "testsrc" (the default) or a V4L2 capture node such as /dev/video0. HTTP and RTC are the relay's
// addresses; the defaults give way to free ports where they are taken. Ctrl-C stops both daemons; the end of either ends
// the demo, with what that daemon said.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startLimit = 60 * time.Second // until the first picture, on a slow and busy machine
	stopLimit  = 10 * time.Second // of each daemon, after which it is killed
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run returns nil after ctx has ended and both daemons have stopped cleanly.
func run(ctx context.Context) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	bin := filepath.Dir(self)
	dir, err := os.MkdirTemp("", "gantry-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	web := address("HTTP", "127.0.0.1:8080")
	base := "http://" + web
	config := filepath.Join(dir, "gantryd.yaml")
	if err := os.WriteFile(config, []byte(gantrydConfig(os.Getenv("INPUT"), base)), 0o600); err != nil {
		return err
	}

	relay, err := start(filepath.Join(bin, "gantry-relay"), "--http", web, "--rtc", address("RTC", "127.0.0.1:8189"), "--srt", "", "--rtmp", "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, relay.stop()) }()
	if err := ready(ctx, relay, base+"/healthz"); err != nil {
		return ended(ctx, err)
	}
	box, err := start(filepath.Join(bin, "gantryd"), "--config", config)
	if err != nil {
		return err
	}
	// Against the signal path's direction a daemon would complain about the other's end: the box stops first.
	defer func() { err = errors.Join(err, box.stop()) }()

	if err := watched(ctx, filepath.Join(bin, "gantry-relay"), base+"/whep/demo", relay, box); err != nil {
		return ended(ctx, err)
	}
	fmt.Printf("viewer: %s/play/demo\n", base)
	select {
	case <-ctx.Done():
		return nil
	case <-relay.done:
		return relay.died()
	case <-box.done:
		return box.died()
	}
}

// ended returns nil where err came of a Ctrl-C.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func gantrydConfig(input, relay string) string {
	video := "  source: testsrc\n"
	if input != "" && input != "testsrc" {
		video = fmt.Sprintf("  source: v4l2\n  v4l2: {device: %q}\n", input)
	}
	return "http: \"\"\nvideo:\n" + video +
		"audio:\n  source: tone\n" +
		"uplinks:\n  - name: relay\n    whip: {url: \"" + relay + "/whip/demo\"}\n"
}

// address returns what the environment says, else the default, else, where the default is taken, a free loopback port. Both
// TCP and UDP are tried, since the relay's media port is one of each.
func address(variable, normal string) string {
	if a := os.Getenv(variable); a != "" {
		return a
	}
	for _, a := range []string{normal, "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"} {
		l, err := net.Listen("tcp", a)
		if err != nil {
			continue
		}
		a = l.Addr().String()
		u, err := net.ListenPacket("udp", a)
		_ = l.Close()
		if err != nil {
			continue
		}
		_ = u.Close()
		return a
	}
	return normal // and let the relay say what is wrong
}

// ready waits until the URL answers 200.
func ready(ctx context.Context, relay *daemon, url string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	client := http.Client{Timeout: 2 * time.Second}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer; gantry-relay said:\n%s", url, relay.log.tail())
		case <-relay.done:
			return relay.died()
		case <-tick.C:
		}
		res, err := client.Get(url)
		if err != nil {
			continue
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		if res.StatusCode == http.StatusOK {
			return nil
		}
	}
}

// watched waits until a WHEP viewer has received a second of decodable pictures.
func watched(ctx context.Context, program, url string, daemons ...*daemon) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, d := range daemons {
		stop := context.AfterFunc(d.ctx, cancel)
		defer stop()
	}
	out, err := exec.CommandContext(ctx, program, "watch", "--wait", "--frames", "30", "--timeout", startLimit.String(), url).CombinedOutput()
	if err == nil {
		return nil
	}
	said := ""
	for _, d := range daemons {
		if d.ctx.Err() != nil {
			return d.died()
		}
		said += fmt.Sprintf("\n%s said:\n%s", d.name, d.log.tail())
	}
	return fmt.Errorf("no picture within %v: %w: %s%s", startLimit, err, bytes.TrimSpace(out), said)
}

// A daemon is one of the two that the demo runs.
type daemon struct {
	name string
	cmd  *exec.Cmd
	log  tail
	ctx  context.Context // ends with the process
	done <-chan struct{}
	err  error // how it ended; read after done
}

func start(path string, args ...string) (*daemon, error) {
	ctx, cancel := context.WithCancel(context.Background())
	d := &daemon{name: filepath.Base(path), cmd: exec.Command(path, args...), ctx: ctx, done: ctx.Done()}
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	if os.Getenv("VERBOSE") != "" {
		d.cmd.Stdout, d.cmd.Stderr = os.Stdout, os.Stderr
	}
	// A group of its own keeps the terminal's Ctrl-C from it: the demo stops it, in order. It does not outlive the demo.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error)
	go func() {
		defer cancel()
		runtime.LockOSThread() // the death signal belongs to the thread that starts the process
		defer runtime.UnlockOSThread()
		if err := d.cmd.Start(); err != nil {
			started <- err
			return
		}
		close(started)
		d.err = d.cmd.Wait()
	}()
	return d, <-started
}

// died says how a daemon ended that nobody stopped.
func (d *daemon) died() error {
	<-d.done
	how := "ended by itself"
	if d.err != nil {
		how = d.err.Error()
	}
	return fmt.Errorf("%s: %s; it said:\n%s", d.name, how, d.log.tail())
}

// stop ends the daemon and waits. It returns an error where the daemon does not end cleanly; one that had ended before has
// been reported by died.
func (d *daemon) stop() error {
	select {
	case <-d.done:
		return nil
	default:
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.done:
		if d.err != nil {
			return d.died()
		}
		return nil
	case <-time.After(stopLimit):
		_ = d.cmd.Process.Kill()
		<-d.done
		return fmt.Errorf("%s did not stop within %v and was killed; it said:\n%s", d.name, stopLimit, d.log.tail())
	}
}

// A tail keeps the last of what a daemon prints.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tail) tail() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.buf))
}
