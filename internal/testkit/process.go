package testkit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// stopLimit is how long a daemon under test has to end after SIGTERM.
const stopLimit = 15 * time.Second

var built struct {
	sync.Mutex
	dir   string
	paths map[string]string
}

// Bin returns the path of a binary of ours, cmd/NAME or scripts/NAME. All lie in one folder. It takes the one in
// $GANTRY_BIN, where scripts/test has built all, and else builds it once for all tests of this process, with the tests' own
// tags.
func Bin(tb testing.TB, name string) string {
	tb.Helper()
	if dir := os.Getenv("GANTRY_BIN"); dir != "" {
		return filepath.Join(dir, name)
	}
	built.Lock()
	defer built.Unlock()
	if path := built.paths[name]; path != "" {
		return path
	}
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "gantry-bin-")
		if err != nil {
			tb.Fatal(err)
		}
		built.dir, built.paths = dir, map[string]string{}
	}
	path := filepath.Join(built.dir, name)
	source := "./cmd/" + name
	if _, err := os.Stat(filepath.Join(Root(tb), source)); err != nil {
		source = "./scripts/" + name
	}
	build := exec.Command("go", "build", "-tags", buildTags, "-o", path, source)
	build.Dir = Root(tb)
	if out, err := build.CombinedOutput(); err != nil {
		tb.Fatalf("build %s: %v\n%s", name, err, out)
	}
	built.paths[name] = path
	return path
}

func removeBuilt() {
	built.Lock()
	defer built.Unlock()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
}

// A Process is a program under test. What it prints is kept, and shown when the test fails.
type Process struct {
	tb   testing.TB
	name string
	cmd  *exec.Cmd
	log  Buffer
	done chan struct{} // closed when the program has ended
	err  error         // how it ended; read after done
	want bool          // that it ends: it was stopped
	once sync.Once
}

// Start starts a program. When the test ends it is stopped with SIGTERM, and the test fails unless the program then
// exits with status 0 within 15 s.
func Start(tb testing.TB, path string, args ...string) *Process {
	tb.Helper()
	return StartCmd(tb, exec.Command(path, args...))
}

// StartCmd is Start for a command that the caller has prepared. Output that the caller has not directed elsewhere goes
// to the Process's log.
func StartCmd(tb testing.TB, cmd *exec.Cmd) *Process {
	tb.Helper()
	p := &Process{tb: tb, name: filepath.Base(cmd.Path), cmd: cmd, done: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = &p.log
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &p.log
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	// A test binary that is killed takes its daemons along. The signal comes when the starting thread ends, so that
	// thread stays with the process.
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		tb.Fatalf("start %s: %v", p.name, err)
	}
	tb.Cleanup(func() {
		if err := p.Stop(); err != nil {
			tb.Errorf("%s: %v", p.name, err)
		}
		if tb.Failed() {
			tb.Logf("%s printed:\n%s", p.name, p.Log())
		}
	})
	return p
}

// Pid returns the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends a signal to the program; a test that ends it this way calls Exits next.
func (p *Process) Signal(s syscall.Signal) {
	p.tb.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.tb.Errorf("signal %v to %s: %v", s, p.name, err)
	}
}

// Log returns what the program has printed so far.
func (p *Process) Log() string { return p.log.String() }

// Done is closed when the program has ended; Err then says how.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err waits for the end of the program and returns nil if it exited with status 0.
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// Exits waits for the program to end by itself and returns its exit status. The end of the test then asks no more of it.
func (p *Process) Exits(limit time.Duration) int {
	p.tb.Helper()
	select {
	case <-p.done:
	case <-time.After(limit):
		p.tb.Fatalf("%s did not exit within %v; it printed:\n%s", p.name, limit, p.Log())
	}
	p.want = true
	return p.cmd.ProcessState.ExitCode()
}

// WaitLine waits until the program has printed a line that matches the pattern, and returns the match and its groups.
func (p *Process) WaitLine(limit time.Duration, pattern string) []string {
	p.tb.Helper()
	re := regexp.MustCompile("(?m)" + pattern)
	deadline := time.Now().Add(limit)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		ended := false
		select {
		case <-p.done:
			ended = true // and all it printed is in the log
		default:
		}
		if m := re.FindStringSubmatch(p.Log()); m != nil {
			return m
		}
		if ended || time.Now().After(deadline) {
			p.tb.Fatalf("%s: no line %q (ended: %v); it printed:\n%s", p.name, pattern, ended, p.Log())
		}
		time.Sleep(wait)
	}
}

// Stop asks the program to end (SIGTERM) and waits for it. It returns an error if the program had ended before, exits
// with another status than 0, or does not end in time and has to be killed. Only the first call does anything.
func (p *Process) Stop() (err error) {
	p.once.Do(func() {
		select {
		case <-p.done:
			if !p.want {
				err = fmt.Errorf("ended before it was stopped: %v", p.err)
			}
			return
		default:
		}
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
			err = p.err
		case <-time.After(stopLimit):
			_ = p.cmd.Process.Signal(syscall.SIGQUIT) // a Go program prints its goroutines
			select {
			case <-p.done:
			case <-time.After(time.Second):
			}
			_ = p.cmd.Process.Kill()
			<-p.done
			err = fmt.Errorf("did not end within %v of SIGTERM", stopLimit)
		}
	})
	return err
}

// Kill ends the program at once, as a crash would.
func (p *Process) Kill() {
	p.once.Do(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
	})
}

// Output runs a program to its end and returns what it printed on stdout. The test fails if it does not succeed.
func Output(tb testing.TB, path string, args ...string) string {
	tb.Helper()
	out, err := exec.Command(path, args...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			tb.Fatalf("%s %s: %v\n%s", path, strings.Join(args, " "), err, exit.Stderr)
		}
		tb.Fatal(err)
	}
	return string(out)
}
