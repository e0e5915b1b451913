package vm

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// guestEnv marks a process that runs in the guest.
const guestEnv = "GANTRY_VM_GUEST"

// InGuest reports whether this process runs in the guest.
func InGuest() bool { return os.Getenv(guestEnv) == "1" }

// Guest begins a test that needs the guest's drivers. On the host it skips the test, which RunTests then runs in the guest.
func Guest(t testing.TB) {
	t.Helper()
	if !InGuest() {
		t.Skip("runs in the VM, started by TestInVM")
	}
}

// Need begins a test that starts machines: it skips when GANTRY_TEST_VM=0 says to leave those out, or inside the guest.
func Need(t testing.TB) {
	t.Helper()
	if InGuest() {
		t.Skip("starts a VM; this is one")
	}
	if os.Getenv("GANTRY_TEST_VM") == "0" {
		t.Skip("left out: GANTRY_TEST_VM=0")
	}
}

// Run boots a machine, runs o.Cmd to its end and fails the test if the machine or the command fails. The command's output goes
// to the test's log unless o says otherwise.
func Run(t testing.TB, o Options) {
	t.Helper()
	Need(t)
	var output bytes.Buffer
	if o.Stdout == nil && o.Stderr == nil {
		o.Stdout, o.Stderr = &output, &output
		defer func() { t.Logf("output in the VM:\n%s", output.Bytes()) }()
	}
	m, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Wait(); err != nil {
		t.Fatal(err)
	}
}

var ranTest = regexp.MustCompile(`(?m)^=== RUN`)

// RunBenchmarks runs the benchmarks of the calling test binary whose names match pattern in a machine, and prints their results
// to standard output, where benchstat finds them. args go to the test binary, as in "-test.benchtime=300x".
func RunBenchmarks(b *testing.B, o Options, pattern string, args ...string) {
	b.Helper()
	Need(b)
	if b.N > 1 {
		return // they have run
	}
	o.Cmd = append([]string{TestBinary(b), "-test.run=^$", "-test.bench=" + pattern, "-test.benchmem"}, args...)
	o.Stdout, o.Stderr = os.Stdout, os.Stderr
	Run(b, o)
}

// RunTests runs the tests of the calling test binary whose names match pattern in a machine, and fails if one of them fails or
// none matches. o.Cmd is ignored.
func RunTests(t *testing.T, o Options, pattern string) {
	t.Helper()
	Need(t)
	timeout := "300s"
	if o.TimeTravel {
		timeout = "3h" // of the guest's clock, which a test that hangs brings forward in no time
	}
	o.Cmd = []string{TestBinary(t), "-test.v", "-test.run=" + pattern, "-test.timeout=" + timeout}
	var output bytes.Buffer
	o.Stdout, o.Stderr = &output, &output
	if testing.Verbose() {
		o.Stdout, o.Stderr = io.MultiWriter(&output, os.Stdout), io.MultiWriter(&output, os.Stdout)
	}
	m, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	err = m.Wait()
	switch {
	case err != nil:
		t.Errorf("tests in the VM: %v\n%s", err, output.Bytes())
	case !ranTest.Match(output.Bytes()):
		t.Errorf("no test matches %q:\n%s", pattern, output.Bytes())
	}
}

// TestBinary returns the calling test's binary in a form that runs in a guest. With -race that is another one, compiled from the
// working directory: the race detector's shadow memory does not fit into a guest's address space.
func TestBinary(t testing.TB) string {
	t.Helper()
	if raceEnabled {
		out := filepath.Join(t.TempDir(), "plain.test")
		if text, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", out, ".").CombinedOutput(); err != nil {
			t.Fatalf("compile the tests without -race: %v: %s", err, text)
		}
		return out
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}
