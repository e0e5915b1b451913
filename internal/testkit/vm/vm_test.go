package vm_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gantry/internal/testkit"
	"gantry/internal/testkit/vm"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestRun(t *testing.T) {
	vm.Run(t, vm.Options{Cmd: []string{"test", "-c", vm.VividNode}})
}

func TestCommandsStatusAndOutput(t *testing.T) {
	vm.Need(t)
	dir := t.TempDir()
	var stdout, stderr bytes.Buffer
	m, err := vm.Start(t.Context(), vm.Options{
		Cmd: []string{"sh", "-c", `echo "it's $WORD"; echo bad >&2; echo here >file; touch /etc/gantry-vm || echo read-only; exit 7`},
		Dir: dir, Write: []string{dir}, Env: []string{"WORD=two  words"}, Stdout: &stdout, Stderr: &stderr,
	})
	if err != nil {
		t.Fatal(err)
	}
	var status vm.ExitError
	if err := m.Wait(); !errors.As(err, &status) || status != 7 {
		t.Errorf("status %v, want 7", err)
	}
	if got := stdout.String(); got != "it's two  words\nread-only\n" {
		t.Errorf("output %q", got)
	}
	if got := stderr.String(); !strings.HasPrefix(got, "bad\n") {
		t.Errorf("errors %q", got)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "file")); string(got) != "here\n" {
		t.Errorf("file written in the guest: %q, %v", got, err)
	}
}

// Cancelling stops the command by SIGTERM, and its own way of ending counts.
func TestStop(t *testing.T) {
	vm.Need(t)
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	m, err := vm.Start(ctx, vm.Options{
		Cmd:    []string{"sh", "-c", `trap "exit 3" TERM; echo ready; sleep 1000 & wait`},
		Stdout: w,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	cancel()
	var status vm.ExitError
	if err := m.Wait(); !errors.As(err, &status) || status != 3 {
		t.Errorf("status %v, want 3", err)
	}
}

func TestKernelThatCannotRunInit(t *testing.T) {
	vm.Need(t)
	m, err := vm.Start(t.Context(), vm.Options{Cmd: []string{"true"}, Write: []string{"/no/such/directory"}})
	if err != nil {
		t.Fatal(err)
	}
	err = m.Wait()
	if err == nil || !strings.Contains(err.Error(), "/no/such/directory") {
		t.Errorf("error %v, want the guest's own words", err)
	}
}

// TestOrphan is the process that TestNothingOutlivesItsStarter kills.
func TestOrphan(t *testing.T) {
	job := os.Getenv("GANTRY_TEST_ORPHAN")
	if job == "" {
		t.Skip("started by TestNothingOutlivesItsStarter")
	}
	vm.Run(t, vm.Options{Cmd: []string{"sh", "-c", "echo up; sleep 1000"}, Network: true, Stdout: os.Stdout, Stderr: os.Stderr, Kernel: []string{job}})
}

func TestNothingOutlivesItsStarter(t *testing.T) {
	vm.Need(t)
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	mark := fmt.Sprintf("gantry.orphan=%d.%d", os.Getpid(), time.Now().UnixNano())
	tmp := t.TempDir() // what it cannot clean up any more
	c := exec.Command(binary, "-test.run=^TestOrphan$", "-test.v")
	c.Env = append(os.Environ(), "GANTRY_TEST_ORPHAN="+mark, "TMPDIR="+tmp)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "up"; {
	}
	if len(processes(mark)) == 0 {
		t.Error("no process of the machine is found")
	}
	c.Process.Kill()
	c.Wait()
	testkit.Eventually(t, 10*time.Second, "the machine's processes have ended", func() bool { return len(processes(mark)) == 0 })
}

// processes returns the processes with a word in their command line.
func processes(word string) []string {
	var found []string
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range all {
		if line, _ := os.ReadFile(p); bytes.Contains(line, []byte(word)) {
			found = append(found, filepath.Dir(p))
		}
	}
	return found
}

// Two machines at once, each with its own link, echo over TCP and UDP, started from either end.
func TestNetwork(t *testing.T) {
	vm.Need(t)
	binary := vm.TestBinary(t)
	for _, name := range []string{"one", "two"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			echo := newEcho(t)
			var host, guest netip.Addr
			vm.Run(t, vm.Options{Network: true, Command: func(h, g netip.Addr) []string {
				host, guest = h, g
				echo.listen(t, h)
				return []string{binary, "-test.run=^TestGuestNetwork$", "-test.v"}
			}})
			if !host.IsValid() || !guest.IsValid() || host == guest {
				t.Errorf("addresses %v, %v", host, guest)
			}
		})
	}
}

const (
	hostPort  = "7001"
	guestPort = "7002"
)

// TestGuestNetwork is TestNetwork's other half.
func TestGuestNetwork(t *testing.T) {
	vm.Guest(t)
	host := os.Getenv("GANTRY_VM_HOST")
	for _, network := range []string{"tcp", "udp"} {
		c, err := net.Dial(network, net.JoinHostPort(host, hostPort))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		size := 1200
		if network == "tcp" {
			size = 1 << 20
		}
		want := bytes.Repeat([]byte("0123456789abcdef"), size/16)
		go c.Write(want)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s echo of %d bytes: %v", network, len(want), err)
		}
	}
	// Now the host calls: it answers the word "call" by connecting to us.
	l, err := net.Listen("tcp", ":"+guestPort)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("udp", net.JoinHostPort(host, hostPort))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("call")); err != nil {
		t.Fatal(err)
	}
	l.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second))
	called, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	called.Close()
}

// echoServer answers on the host.
type echoServer struct {
	tcp  net.Listener
	udp  net.PacketConn
	done chan struct{}
}

func newEcho(t *testing.T) *echoServer {
	e := &echoServer{done: make(chan struct{}, 2)}
	t.Cleanup(func() {
		if e.tcp == nil || e.udp == nil {
			return
		}
		e.tcp.Close()
		e.udp.Close()
		<-e.done
		<-e.done
	})
	return e
}

func (e *echoServer) listen(t *testing.T, host netip.Addr) {
	address := net.JoinHostPort(host.String(), hostPort)
	var err error
	if e.tcp, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	if e.udp, err = net.ListenPacket("udp", address); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer func() { e.done <- struct{}{} }()
		for {
			c, err := e.tcp.Accept()
			if err != nil {
				return
			}
			io.Copy(c, c)
			c.Close()
		}
	}()
	go func() {
		defer func() { e.done <- struct{}{} }()
		b := make([]byte, 2000)
		for {
			n, from, err := e.udp.ReadFrom(b)
			if err != nil {
				return
			}
			if string(b[:n]) != "call" {
				e.udp.WriteTo(b[:n], from)
				continue
			}
			ip := from.(*net.UDPAddr).IP
			if c, err := net.DialTimeout("tcp", net.JoinHostPort(ip.String(), guestPort), 10*time.Second); err == nil {
				c.Close()
			}
		}
	}()
}
