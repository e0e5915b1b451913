package whep_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// A stuckTCP is a TCP path to a server whose way to the client can be stopped, as to a client that hangs.
type stuckTCP struct {
	listener net.Listener
	server   string
	work     sync.WaitGroup
	mu       sync.Mutex
	going    *sync.Cond
	stopped  bool
	conns    []net.Conn
}

func newStuckTCP(t testing.TB, server string) *stuckTCP {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &stuckTCP{listener: l, server: server}
	s.going = sync.NewCond(&s.mu)
	s.work.Go(s.accept)
	t.Cleanup(func() {
		s.release()
		_ = l.Close()
		s.mu.Lock()
		for _, c := range s.conns {
			_ = c.Close()
		}
		s.mu.Unlock()
		s.work.Wait()
	})
	return s
}

func (s *stuckTCP) accept() {
	for {
		client, err := s.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp4", s.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		s.mu.Lock()
		s.conns = append(s.conns, client, server)
		s.mu.Unlock()
		s.work.Go(func() { _, _ = io.Copy(server, client) })
		s.work.Go(func() {
			b := make([]byte, 4096)
			for {
				s.mu.Lock()
				for s.stopped {
					s.going.Wait()
				}
				s.mu.Unlock()
				n, err := server.Read(b)
				if err != nil {
					return
				}
				if _, err := client.Write(b[:n]); err != nil {
					return
				}
			}
		})
	}
}

// rewrite makes an answer's TCP candidates lead here.
func (s *stuckTCP) rewrite(answer string) string {
	_, port, _ := net.SplitHostPort(s.server)
	_, own, _ := net.SplitHostPort(s.listener.Addr().String())
	return strings.ReplaceAll(answer, fmt.Sprintf("127.0.0.1 %s typ host tcptype", port), fmt.Sprintf("127.0.0.1 %s typ host tcptype", own))
}

func (s *stuckTCP) stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
}

func (s *stuckTCP) release() {
	s.mu.Lock()
	s.stopped = false
	s.mu.Unlock()
	s.going.Broadcast()
}
