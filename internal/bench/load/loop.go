package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What one look at a socket reads at most.
const (
	messages    = 32
	messageSize = 64 << 10 // a message with UDP_GRO
	controlSize = 128
)

// A Loop reads many UDP sockets on one goroutine.
type Loop struct {
	// What its sockets differ in from those of this machine; set before the first is opened.
	Addr  netip.Addr               // IPv4 address to be at; zero: 127.0.0.1
	Enter func(func() error) error // opens them in another network namespace; nil: here
	Loss  float64                  // share of packets lost in each direction, 0 to 1

	gro   bool
	epoll int
	wake  int // eventfd that ends run
	done  chan struct{}

	mu      sync.Mutex
	sockets map[int32]*Socket

	buffers  [messages][]byte
	controls [messages][controlSize]byte
	iovs     [messages]unix.Iovec
	heads    [messages]mmsghdr
}

type mmsghdr struct {
	unix.Msghdr
	n uint32
}

// A Socket is a UDP socket on a loopback address that a Loop reads.
type Socket struct {
	fd      int
	Addr    netip.AddrPort
	loss    float64
	receive func(b []byte, at time.Time) // on the Loop; b is lent, at the kernel's time of arrival
}

// NewLoop starts a Loop. With gro, its sockets take what was sent by UDP_SEGMENT whole, as a network card would send it.
func NewLoop(gro bool) (*Loop, error) {
	l := &Loop{gro: gro, done: make(chan struct{}), sockets: map[int32]*Socket{}}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make epoll: %w", err)
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err == nil {
		err = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, l.wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(l.wake)})
	}
	if err != nil {
		_ = unix.Close(l.epoll)
		return nil, fmt.Errorf("make epoll: %w", err)
	}
	for i := range messages {
		l.buffers[i] = make([]byte, messageSize)
		l.iovs[i].Base = &l.buffers[i][0]
		l.iovs[i].SetLen(messageSize)
		l.heads[i].Iov = &l.iovs[i]
		l.heads[i].SetIovlen(1)
		l.heads[i].Control = &l.controls[i][0]
	}
	go l.run()
	return l, nil
}

// Open returns a new Socket that hands what it receives to receive.
func (l *Loop) Open(receive func(b []byte, at time.Time)) (*Socket, error) {
	enter, addr := l.Enter, l.Addr
	if enter == nil {
		enter = func(open func() error) error { return open() }
	}
	if !addr.IsValid() {
		addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	var fd int
	err := enter(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	s := &Socket{fd: fd, loss: l.Loss, receive: receive}
	err = errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: addr.As4()}),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1))
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 2<<20) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 2<<20)
	}
	if l.gro && err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1)
	}
	var name unix.Sockaddr
	if err == nil {
		name, err = unix.Getsockname(fd)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("open socket: %w", err)
	}
	in := name.(*unix.SockaddrInet4)
	s.Addr = netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port))
	l.mu.Lock()
	l.sockets[int32(fd)] = s
	l.mu.Unlock()
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
		l.CloseSocket(s)
		return nil, fmt.Errorf("open socket: %w", err)
	}
	return s, nil
}

// CloseSocket closes s. What was read before may still be handed out.
func (l *Loop) CloseSocket(s *Socket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sockets[int32(s.fd)] == s {
		delete(l.sockets, int32(s.fd))
		_ = unix.Close(s.fd)
	}
}

// Send sends b to addr, an IPv4 address.
func (s *Socket) Send(b []byte, addr netip.AddrPort) error {
	if s.loses() {
		return nil
	}
	return unix.Sendto(s.fd, b, 0, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()})
}

func (s *Socket) loses() bool { return s.loss > 0 && rand.Float64() < s.loss }

// Close ends the Loop, and closes its sockets.
func (l *Loop) Close() {
	_, _ = unix.Write(l.wake, binary.NativeEndian.AppendUint64(nil, 1))
	<-l.done
	for _, s := range l.sockets {
		_ = unix.Close(s.fd)
	}
	_ = unix.Close(l.wake)
	_ = unix.Close(l.epoll)
}

func (l *Loop) run() {
	defer close(l.done)
	events := make([]unix.EpollEvent, 64)
	for {
		n, err := unix.EpollWait(l.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		for _, e := range events[:max(n, 0)] {
			if e.Fd == int32(l.wake) {
				return
			}
			l.read(e.Fd)
		}
	}
}

// read takes what waits at one socket.
func (l *Loop) read(fd int32) {
	for {
		for i := range l.heads {
			l.heads[i].SetControllen(controlSize)
		}
		l.mu.Lock()
		s := l.sockets[fd]
		if s == nil {
			l.mu.Unlock()
			return
		}
		r, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&l.heads[0])), messages, unix.MSG_DONTWAIT, 0, 0)
		l.mu.Unlock()
		if errno != 0 {
			return
		}
		n := int(r)
		for i := range n {
			at, segment := l.control(i)
			b := l.buffers[i][:l.heads[i].n]
			if segment == 0 {
				segment = max(len(b), 1)
			}
			for len(b) > 0 {
				k := min(segment, len(b))
				if !s.loses() {
					s.receive(b[:k], at)
				}
				b = b[k:]
			}
		}
		if n < messages {
			return
		}
	}
}

// control reads the time of arrival and the segment size of message i.
func (l *Loop) control(i int) (at time.Time, segment int) {
	b := l.controls[i][:l.heads[i].Controllen]
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		n := int(h.Len)
		if n < unix.SizeofCmsghdr || n > len(b) {
			return
		}
		data := b[unix.CmsgLen(0):n]
		switch {
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SO_TIMESTAMPNS && len(data) >= 16:
			at = time.Unix(int64(binary.NativeEndian.Uint64(data)), int64(binary.NativeEndian.Uint64(data[8:])))
		case h.Level == unix.SOL_UDP && h.Type == unix.UDP_GRO && len(data) >= 4:
			segment = int(binary.NativeEndian.Uint32(data))
		}
		b = b[min(unix.CmsgSpace(n-unix.CmsgLen(0)), len(b)):]
	}
	return
}

// packetConn gives DTLS a net.PacketConn out of what a Socket receives.
type packetConn struct {
	send     func([]byte) error
	in       chan []byte
	deadline chan struct{}
	mu       sync.Mutex
	timer    *time.Timer
	closed   chan struct{}
	once     sync.Once
}

func newPacketConn(send func([]byte) error) *packetConn {
	return &packetConn{send: send, in: make(chan []byte, 32), deadline: make(chan struct{}), closed: make(chan struct{})}
}

func (c *packetConn) put(b []byte) {
	select {
	case c.in <- append([]byte(nil), b...):
	default: // as a full socket
	}
}

func (c *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	c.mu.Lock()
	deadline := c.deadline
	c.mu.Unlock()
	select {
	case p := <-c.in:
		return copy(b, p), c.LocalAddr(), nil
	case <-deadline:
		return 0, nil, errTimeout{}
	case <-c.closed:
		return 0, nil, net.ErrClosed
	}
}

func (c *packetConn) WriteTo(b []byte, _ net.Addr) (int, error) { return len(b), c.send(b) }

func (c *packetConn) Close() error { c.once.Do(func() { close(c.closed) }); return nil }

func (c *packetConn) LocalAddr() net.Addr { return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (c *packetConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	select {
	case <-c.deadline:
		c.deadline = make(chan struct{})
	default: // a reader may wait on it
	}
	if t.IsZero() {
		return nil
	}
	if d := time.Until(t); d <= 0 {
		close(c.deadline)
	} else {
		deadline := c.deadline
		var timer *time.Timer
		timer = time.AfterFunc(d, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.timer == timer {
				close(deadline)
				c.timer = nil
			}
		})
		c.timer = timer
	}
	return nil
}

func (c *packetConn) SetWriteDeadline(time.Time) error { return nil }

func (c *packetConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

type errTimeout struct{}

func (errTimeout) Error() string   { return "timed out" }
func (errTimeout) Timeout() bool   { return true }
func (errTimeout) Temporary() bool { return true }
