package systemd

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"golang.org/x/sys/unix"

	"gantry/internal/testkit"
)

func TestMain(m *testing.M) {
	journal.Enabled() // opens the one socket that the library keeps
	testkit.Main(m)
}

// manager is the service manager's end of the notification socket.
func manager(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return c
}

func receive(t *testing.T, c *net.UnixConn, limit time.Duration) string {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(limit))
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestNotify(t *testing.T) {
	c := manager(t)
	for _, step := range []struct {
		do   func() error
		want string
	}{
		{func() error { return Ready("1280x720 on the air") }, "READY=1\nSTATUS=1280x720 on the air"},
		{func() error { return Status("no signal") }, "STATUS=no signal"},
		{Stopping, "STOPPING=1"},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, c, 5*time.Second); got != step.want {
			t.Errorf("got %q, want %q", got, step.want)
		}
	}
}

func TestNotifyOutsideSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := errors.Join(Ready("x"), Status("x"), Stopping(), Watchdog(context.Background(), func() uint64 { return 0 })); err != nil {
		t.Error(err)
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	if err := Ready("x"); err == nil {
		t.Error("nobody listens, and no error")
	}
}

func TestWatchdog(t *testing.T) {
	c := manager(t)
	t.Setenv("WATCHDOG_USEC", "90000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	var turns atomic.Uint64
	var stuck atomic.Bool
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- Watchdog(ctx, func() uint64 {
			if stuck.Load() {
				return turns.Load()
			}
			return turns.Add(1)
		})
	}()
	for range 4 {
		if got := receive(t, c, 5*time.Second); got != "WATCHDOG=1" {
			t.Fatalf("got %q", got)
		}
	}
	stuck.Store(true)
	for range 2 { // what was under way
		receive(t, c, 60*time.Millisecond)
	}
	if got := receive(t, c, 300*time.Millisecond); got != "" {
		t.Errorf("a daemon without progress sent %q", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type secret string

func (secret) LogValue() slog.Value { return slog.StringValue("redacted") }

func TestHandlerFields(t *testing.T) {
	var message string
	var prio journal.Priority
	var fields map[string]string
	h := &handler{fallback: slog.DiscardHandler, send: func(m string, p journal.Priority, f map[string]string) error {
		message, prio, fields = m, p, f
		return nil
	}}
	// DiscardHandler is never enabled, so Handle is called directly below it.
	log := func(h slog.Handler, level slog.Level, msg string, args ...any) {
		r := slog.NewRecord(time.Now(), level, msg, 0)
		r.Add(args...)
		if err := h.Handle(context.Background(), r); err != nil {
			t.Fatal(err)
		}
	}
	log(h.WithAttrs([]slog.Attr{slog.String("uplink", "relay")}), slog.LevelWarn, "uplink lost",
		"err", errors.New("read: time out"), "dur", 1500*time.Millisecond, "token", secret("s3cret"), "message", "m", "_pid", 1)
	if want := `uplink lost uplink=relay err="read: time out" dur=1.5s token=redacted message=m _pid=1`; message != want {
		t.Errorf("message %q, want %q", message, want)
	}
	want := map[string]string{"UPLINK": "relay", "ERR": "read: time out", "DUR": "1.5s", "TOKEN": "redacted", "GANTRY_MESSAGE": "m", "PID": "1"}
	if !maps.Equal(fields, want) {
		t.Errorf("fields %v, want %v", fields, want)
	}
	if prio != journal.PriWarning {
		t.Errorf("priority %v", prio)
	}
	log(h.WithGroup("a").WithAttrs([]slog.Attr{slog.Int("x", 1)}).WithGroup("b"), slog.LevelError, "m", slog.Group("g", "y", 2))
	if want := "m a.x=1 a.b.g.y=2"; message != want || fields["A_X"] != "1" || fields["A_B_G_Y"] != "2" || prio != journal.PriErr {
		t.Errorf("%q %v %v", message, fields, prio)
	}
}

func TestHandlerFallsBack(t *testing.T) {
	var out bytes.Buffer
	text := slog.NewTextHandler(&out, nil)
	t.Setenv("JOURNAL_STREAM", "")
	if got := LogHandler(text); got != slog.Handler(text) {
		t.Errorf("outside systemd: %T", got)
	}
	h := &handler{fallback: text, send: func(string, journal.Priority, map[string]string) error { return errors.New("no journal") }}
	slog.New(h).With("stream", "demo").Info("on the air")
	if got := out.String(); !strings.Contains(got, `msg="on the air" stream=demo`) {
		t.Errorf("fell back to %q", got)
	}
}

// A record on the journal's own socket, as journald would read it. The socket's path is fixed, so the test makes one in a
// mount namespace of its own.
func TestJournalDatagram(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a mount namespace needs root")
	}
	result := make(chan error)
	var got string
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its namespace
		result <- func() error {
			if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
				return err
			}
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				return err
			}
			if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
				return err
			}
			if err := os.MkdirAll("/run/systemd/journal", 0o755); err != nil {
				return err
			}
			c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "/run/systemd/journal/socket", Net: "unixgram"})
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }()
			var text bytes.Buffer
			h := &handler{fallback: slog.NewTextHandler(&text, nil), send: journal.Send}
			slog.New(h).Warn("no signal", "device", "/dev/video0")
			if text.Len() > 0 {
				return errors.New("fell back: " + text.String())
			}
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
			buf := make([]byte, 4096)
			n, err := c.Read(buf)
			got = string(buf[:n])
			return err
		}()
	}()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"PRIORITY=4\n", "MESSAGE=no signal device=/dev/video0\n", "DEVICE=/dev/video0\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
}

// systemd's own opinion of the units.
func TestUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed (scripts/setup test)")
	}
	units, err := filepath.Glob("*.service")
	if err != nil || len(units) != 2 {
		t.Fatalf("units %v: %v", units, err)
	}
	for _, unit := range units {
		t.Run(unit, func(t *testing.T) {
			// verify wants to find the program, which is not installed here.
			dir := t.TempDir()
			text, err := os.ReadFile(unit)
			if err != nil {
				t.Fatal(err)
			}
			stand := strings.ReplaceAll(string(text), "/usr/bin/gantry", dir+"/gantry")
			for _, name := range []string{"gantryd", "gantry-relay"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(dir, unit)
			if err := os.WriteFile(path, []byte(stand), 0o644); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(analyze, "verify", "--man=no", path).CombinedOutput()
			if err != nil || strings.Contains(string(out), unit) {
				t.Errorf("verify: %v\n%s", err, out)
			}
			// The exposure is 0 (confined) to 10; "--threshold" is ten times that.
			out, err = exec.Command(analyze, "security", "--offline=true", "--threshold=25", path).CombinedOutput()
			if err != nil {
				t.Errorf("security: %v\n%s", err, out)
			}
		})
	}
}
