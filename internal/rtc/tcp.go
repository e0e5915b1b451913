package rtc

import (
	"net"
	"sync"
	"time"
)

// tcpBuffer is how much a TCP connection holds for a slow peer, in the kernel and again here: a second of video or so. What
// exceeds it is dropped by the sender, who can choose what; in deeper buffers the picture would only grow old.
const tcpBuffer = 256 << 10

// introduction is how long a TCP connection may take to say whose it is.
const introduction = 10 * time.Second

// A tcpListener's connections have small send buffers, and end with it: ICE's mux would wait at its end for those that have said
// nothing yet, be it because they are nobody's any more.
type tcpListener struct {
	net.Listener
	mu     sync.Mutex
	open   map[*accepted]struct{}
	closed bool
}

func newTCPListener(l net.Listener) *tcpListener {
	return &tcpListener{Listener: l, open: map[*accepted]struct{}{}}
}

// Accept implements net.Listener.
func (l *tcpListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetWriteBuffer(tcpBuffer)
	}
	a := &accepted{Conn: c, of: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	l.open[a] = struct{}{}
	return a, nil
}

// Close implements net.Listener.
func (l *tcpListener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for a := range l.open {
		_ = a.Conn.Close()
	}
	return l.Listener.Close()
}

// An accepted connection is one of a tcpListener's.
type accepted struct {
	net.Conn
	of *tcpListener
}

// Close implements net.Conn.
func (a *accepted) Close() error {
	a.of.mu.Lock()
	delete(a.of.open, a)
	a.of.mu.Unlock()
	return a.Conn.Close()
}
