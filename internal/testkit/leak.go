package testkit

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gantry/media"
)

// grace is how long what the tests started has to end after the last test: Close waits, but a library's goroutines and
// the kernel may take a moment more.
const grace = 5 * time.Second

// Main runs the tests and then fails the run if they left anything behind: goroutines, file descriptors, child
// processes, or media.Frames that nobody released. It prints each with its stack or target. It does not return.
func Main(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.fuzzworker"); f != nil && f.Value.String() == "true" {
		os.Exit(m.Run()) // a fuzzing worker is killed, not ended
	}
	wakeRuntime()
	before := takeInventory()
	code := m.Run()
	removeBuilt()
	if err := before.leaks(grace); err != nil {
		fmt.Fprintf(os.Stderr, "LEAK: %v\n", err)
		if code == 0 {
			code = 1
		}
	}
	os.Exit(code)
}

// wakeRuntime opens the descriptors and starts the goroutines that the runtime and os/exec open once and keep, so that
// they are not counted against the first test that needs them.
func wakeRuntime() {
	if r, w, err := os.Pipe(); err == nil {
		_ = r.SetReadDeadline(time.Now())
		_, _ = r.Read(make([]byte, 1))
		_ = r.Close()
		_ = w.Close()
	}
	_ = exec.Command("/bin/true").Run()
}

// An inventory is what this process holds at one moment.
type inventory struct {
	goroutines map[string]string // by id: the stack
	files      map[string]string // by number: the target
	children   map[int]string    // by pid: the command
	frames     int
}

func takeInventory() inventory {
	return inventory{goroutines: goroutines(), files: openFiles(), children: children(), frames: media.OutstandingFrames()}
}

// leaks compares now with the inventory until nothing is left over or the time is up.
func (before inventory) leaks(patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		// Kept-alive connections of the default client are its own business, not a test's leak.
		http.DefaultClient.CloseIdleConnections()
		err := before.diff(takeInventory())
		if err == nil || time.Now().After(deadline) {
			return err
		}
		runtime.GC() // descriptors that only a finalizer closes are leaks too, but not ones that grow
		time.Sleep(wait)
	}
}

func (before inventory) diff(now inventory) error {
	var errs []error
	for id, stack := range now.goroutines {
		if _, ok := before.goroutines[id]; !ok {
			errs = append(errs, fmt.Errorf("goroutine still running:\n%s", stack))
		}
	}
	for fd, target := range now.files {
		if before.files[fd] != target {
			errs = append(errs, fmt.Errorf("file descriptor %s still open: %s", fd, target))
		}
	}
	for pid, command := range now.children {
		if _, ok := before.children[pid]; !ok {
			errs = append(errs, fmt.Errorf("child process %d still there: %s", pid, command))
		}
	}
	if n := now.frames - before.frames; n != 0 {
		errs = append(errs, fmt.Errorf("%d media.Frames not released", n))
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// kept names the goroutines that the runtime, the testing package and os/signal start once and never end.
var kept = []string{
	"testing.RunTests",
	"testing.(*M).",
	"testing.runFuzzing",
	"testing.runFuzzTests",
	"os/signal.loop",
	"os/signal.signal_recv",
	"runtime.ensureSigM",
	"runtime.ReadTrace",
	"runtime.goexit0",
}

func goroutines() map[string]string {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	all := map[string]string{}
	for i, stack := range strings.Split(string(buf), "\n\n") {
		if i == 0 { // this one
			continue
		}
		if slices.ContainsFunc(kept, func(name string) bool { return strings.Contains(stack, name) }) {
			continue
		}
		id, _, _ := strings.Cut(strings.TrimPrefix(stack, "goroutine "), " ")
		all[id] = strings.TrimSpace(stack)
	}
	return all
}

func openFiles() map[string]string {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return nil
	}
	self := strconv.Itoa(int(dir.Fd()))
	names, _ := dir.Readdirnames(-1)
	_ = dir.Close()
	all := map[string]string{}
	for _, name := range names {
		target, err := os.Readlink(filepath.Join("/proc/self/fd", name))
		if err != nil || name == self || strings.HasPrefix(target, "/sys/fs/cgroup/") { // the runtime reads its CPU limit
			continue
		}
		all[name] = target
	}
	return all
}

func children() map[int]string {
	all := map[int]string{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		// pid (command) state ppid …: the command may hold spaces and brackets, so read from the last one.
		text := string(stat)
		open, shut := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
		if open < 0 || shut < open {
			continue
		}
		pid, _ := strconv.Atoi(strings.TrimSpace(text[:open]))
		if f := strings.Fields(text[shut+1:]); len(f) > 1 && f[1] == strconv.Itoa(os.Getpid()) {
			all[pid] = text[open+1:shut] + " (state " + f[0] + ")"
		}
	}
	return all
}
