package testkit

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew instead of comparing with them")

// Golden compares got with the file testdata/name, and fails the test where they differ. With the flag -update it
// writes the file instead: look at the difference before it is committed.
func Golden(tb testing.TB, name string, got []byte) {
	tb.Helper()
	path := filepath.Join("testdata", filepath.FromSlash(name))
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			tb.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		tb.Fatalf("%v (the flag -update writes it)", err)
	}
	if string(got) != string(want) {
		tb.Errorf("%s differs (the flag -update writes it anew)\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

// Eventually calls ok until it returns true, and fails the test at the deadline. It is how a test waits for what has
// no channel to wait on; it never sleeps longer than it must.
func Eventually(tb testing.TB, limit time.Duration, what string, ok func() bool) {
	tb.Helper()
	deadline := time.Now().Add(limit)
	for wait := time.Millisecond; !ok(); wait = min(2*wait, 50*time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(wait)
	}
}

// Ports that a test names come from below those that the kernel gives to calls, and none is given twice by a process: a port
// chosen by the kernel and closed again may be taken by anybody's next call.
const firstPort, ports = 20_000, 12_000

var nextPort atomic.Uint32

func init() { nextPort.Store(uint32(rand.IntN(ports))) }

// FreeTCP returns a loopback address, host:port, that was free for TCP and UDP a moment ago. Where the program under
// test can listen on port 0 and say what it got, that is better.
func FreeTCP(tb testing.TB) string {
	tb.Helper()
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", firstPort+nextPort.Add(1)%ports)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		u, err := net.ListenPacket("udp", addr)
		_ = l.Close()
		if err != nil {
			continue
		}
		_ = u.Close()
		return addr
	}
	tb.Fatal("no port is free for both TCP and UDP")
	return ""
}

// Root returns the root folder of this checkout.
func Root(tb testing.TB) string {
	tb.Helper()
	_, file, _, _ := runtime.Caller(0)
	if root := filepath.Dir(filepath.Dir(filepath.Dir(file))); filepath.IsAbs(root) {
		return root
	}
	// Built with -trimpath: the test runs in its package's folder.
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for dir != "/" {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	tb.Fatal("no go.mod above the working folder")
	return ""
}
