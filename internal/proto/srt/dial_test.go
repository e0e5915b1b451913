package srt_test

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	gosrt "github.com/datarhei/gosrt"

	"gantry/internal/proto/srt"
	"gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// callers counts the goroutines that belong to calls.
func callers() int {
	buf := make([]byte, 4<<20)
	return strings.Count(string(buf[:runtime.Stack(buf, true)]), "gosrt.DialWithContext")
}

// A hundred calls that fail, each in one of the ways in which calls do, leave nothing behind.
func TestFailedCallsLeaveNothing(t *testing.T) {
	deaf, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	refusing, err := gosrt.Listen("srt", "127.0.0.1:0", gosrt.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	var refuser sync.WaitGroup
	refuser.Go(func() {
		for {
			req, err := refusing.Accept2()
			if err != nil {
				return
			}
			req.Reject(gosrt.REJX_UNAUTHORIZED)
		}
	})
	defer refuser.Wait()
	defer refusing.Close()
	nobody := testkit.FreeTCP(t)

	cfg := gosrt.DefaultConfig()
	cfg.ConnectionTimeout = 300 * time.Millisecond
	var calls sync.WaitGroup
	for i := range 100 {
		calls.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			addr, timeout, want := deaf.LocalAddr().String(), cfg.ConnectionTimeout, "no answer"
			switch i % 4 {
			case 1:
				addr = nobody
			case 2:
				addr, timeout, want = refusing.Addr().String(), 20*time.Second, "REJECT"
			case 3:
				want = "cancel"
				go cancel() // what gosrt left behind most often
			}
			c := cfg
			c.ConnectionTimeout = timeout
			conn, err := srt.Dial(ctx, addr, c)
			if err == nil {
				conn.Close()
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	calls.Wait()
	testkit.Eventually(t, 10*time.Second, "no goroutine of a call", func() bool { return callers() == 0 })
}

// Close waits for the goroutines of a call, whichever side ends it.
func TestClosedCallLeavesNothing(t *testing.T) {
	l, err := gosrt.Listen("srt", "127.0.0.1:0", gosrt.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, remote := range []bool{false, true} {
		accepted := make(chan gosrt.Conn, 1)
		go func() {
			req, err := l.Accept2()
			if err != nil {
				close(accepted)
				return
			}
			conn, _ := req.Accept()
			accepted <- conn
		}()
		conn, err := srt.Dial(t.Context(), l.Addr().String(), gosrt.DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		far := <-accepted
		if remote {
			far.Close()
			for err = nil; err == nil; {
				_, err = conn.Read(make([]byte, 1500))
			}
			if errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		conn.Close()
		if n := callers(); n > 1 { // its reader of packets is told to end, and does
			t.Errorf("%d goroutines after Close", n)
		}
		far.Close()
		testkit.Eventually(t, 5*time.Second, "no goroutine of a call", func() bool { return callers() == 0 })
	}
}
