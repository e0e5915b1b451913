package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gantry/internal/bench/load"
)

// A server is one of those that are compared.
type server interface {
	name() string
	start(ctx context.Context, dir string) (*process, error)
	whip() string
	whep() string
}

// A process is a server under measurement.
type process struct {
	cmd *exec.Cmd
	out *bytes.Buffer // what it printed; read after it has ended
}

// launch starts a program. What it prints is kept, but for what it says to stdout where that is given.
func launch(ctx context.Context, stdin io.Reader, stdout *os.File, binary string, args ...string) (*process, error) {
	return launchIn(ctx, "", stdin, stdout, binary, args...)
}

// launchIn is launch in another folder.
func launchIn(ctx context.Context, dir string, stdin io.Reader, stdout *os.File, binary string, args ...string) (*process, error) {
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir, cmd.Stdin = dir, stdin
	out := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	if stdout != nil {
		cmd.Stdout = stdout
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &process{cmd, out}, nil
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	if err := p.cmd.Wait(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n%s", filepath.Base(p.cmd.Path), err, p.out)
	}
}

// cpu returns the user and system time of all its threads so far, by the scheduler's own clock.
func (p *process) cpu() (time.Duration, error) {
	const schedClock = 2 // CPUCLOCK_SCHED; the rest is the complement of the process id (clock_getcpuclockid(3))
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^p.cmd.Process.Pid<<3|schedClock), &ts); err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}

// rss returns its resident memory in bytes.
func (p *process) rss() (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			return kb << 10, err
		}
	}
	return 0, errors.New("no VmRSS")
}

// freePort returns a port that was free for TCP and UDP a moment ago.
func freePort() (int, error) {
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		_ = l.Close()
		if u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}); err == nil {
			_ = u.Close()
			return port, nil
		}
	}
	return 0, errors.New("no free port")
}

// gantry is the relay of this tree.
type gantry struct {
	binary string
	http   int
}

func (g *gantry) name() string { return "gantry-relay" }
func (g *gantry) whip() string { return fmt.Sprintf("http://127.0.0.1:%d/whip/bench", g.http) }
func (g *gantry) whep() string { return fmt.Sprintf("http://127.0.0.1:%d/whep/bench", g.http) }

func (g *gantry) start(ctx context.Context, _ string) (*process, error) {
	var err error
	if g.http, err = freePort(); err != nil {
		return nil, err
	}
	return launch(ctx, nil, nil, g.binary, "--http", fmt.Sprintf("127.0.0.1:%d", g.http), "--rtc", "127.0.0.1:0", "--srt", "", "--rtmp", "", "--log", "error")
}

// mediamtx is MediaMTX, with all but WebRTC switched off.
type mediamtx struct {
	binary string
	http   int
}

func (m *mediamtx) name() string { return filepath.Base(m.binary) }
func (m *mediamtx) whip() string { return fmt.Sprintf("http://127.0.0.1:%d/bench/whip", m.http) }
func (m *mediamtx) whep() string { return fmt.Sprintf("http://127.0.0.1:%d/bench/whep", m.http) }

func (m *mediamtx) start(ctx context.Context, dir string) (*process, error) {
	var err error
	if m.http, err = freePort(); err != nil {
		return nil, err
	}
	udp, err := freePort()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "mediamtx.yml")
	text := fmt.Sprintf("logLevel: error\nrtsp: no\nrtmp: no\nhls: no\nsrt: no\nwebrtc: yes\nwebrtcAddress: 127.0.0.1:%d\n"+
		"webrtcLocalUDPAddress: 127.0.0.1:%d\nwebrtcAdditionalHosts: [127.0.0.1]\npaths:\n  all_others:\n", m.http, udp)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	binary, err := filepath.Abs(m.binary)
	if err != nil {
		return nil, err
	}
	return launchIn(ctx, dir, nil, nil, binary, file) // it leaves a certificate where it is
}

// bareLimit is the loop of limit.go in a process of its own.
type bareLimit struct{}

func (*bareLimit) name() string                                    { return "limit" }
func (*bareLimit) whip() string                                    { return "" }
func (*bareLimit) whep() string                                    { return "" }
func (*bareLimit) start(context.Context, string) (*process, error) { return nil, errors.ErrUnsupported }

// measureLimit has the limit send to as many sockets.
func (b *bench) measureLimit(ctx context.Context, _ *bareLimit, loop *load.Loop, c loadCase, file string) (r result, err error) {
	counters := make([]load.Counter, c.viewers)
	var addrs strings.Builder
	for i := range counters {
		s, err := loop.Open(counters[i].Receive)
		if err != nil {
			return r, err
		}
		fmt.Fprintln(&addrs, s.Addr)
	}
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	p, err := launch(ctx, strings.NewReader(addrs.String()), nil, self, "-child-limit", file)
	if err != nil {
		return r, err
	}
	defer p.stop()
	if err := pause(ctx, 2*time.Second); err != nil {
		return r, err
	}
	sum := func() (s sums) {
		for i := range counters {
			s.add(counters[i].Take())
		}
		slices.Sort(s.latency)
		return s
	}
	_ = sum()
	from, err := p.cpu()
	if err == nil {
		err = pause(ctx, time.Duration(b.seconds)*time.Second)
	}
	to, err2 := p.cpu()
	after := sum()
	if err := errors.Join(err, err2); err != nil {
		return r, err
	}
	after.profile = "SRTP_AEAD_AES_128_GCM"
	after.fill(&r, to-from)
	return r, nil
}
