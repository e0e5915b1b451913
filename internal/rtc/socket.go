package rtc

import (
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A socket is one UDP socket of a Port. ICE's mux reads it; SRTP and SRTCP of our own Peers is taken out on the way, so that
// it passes no queue and no goroutine of ICE.
type socket struct {
	*net.UDPConn
	v4   bool
	raw  syscall.RawConn
	out  postbox    // also keeps the group of sender sockets together
	read sync.Mutex // held while the mux reads
	intake

	mu    sync.RWMutex
	peers map[netip.AddrPort]taker
	stun  stunServer
}

// A taker takes what its peer sends, on the socket's reader: it must not block, nor keep what it is given.
type taker interface {
	received(packet []byte)                                     // SRTP or SRTCP
	checked(packet []byte, from netip.AddrPort) (answer []byte) // STUN; nil leaves it to ICE
}

// A stunServer is whose answers are taken out on the way too.
type stunServer struct {
	addr netip.AddrPort
	hear func([]byte)
}

func openSocket(network string, at *net.UDPAddr) (*socket, error) {
	c, err := net.ListenUDP(network, at)
	if err != nil {
		return nil, err
	}
	s := &socket{UDPConn: c, v4: network == "udp4", out: postbox{fd: -1}, peers: map[netip.AddrPort]taker{}}
	s.wait, s.look = s.receive, s.drain
	if s.raw, err = c.SyscallConn(); err != nil {
		_ = c.Close()
		return nil, err
	}
	s.control(func(fd int) {
		setBuffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF)
		setBuffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF)
	})
	s.group()
	return s, nil
}

func setBuffer(fd, force, option int) {
	// The forced form passes the limit of the system where the process may.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, socketBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, socketBuffer)
	}
}

// group lets sockets that only send share the address. To send by the socket that is read would wake Go's poller for each
// packet that leaves the send buffer: a fifth of the relay's time at a hundred viewers. The address is taken without
// SO_REUSEPORT, so that a second relay cannot have it, and shared after that; a filter gives all that arrives to the socket
// that was first, which is this one.
// Where that cannot be, senders share this socket's descriptor, which costs more.
func (s *socket) group() {
	var err error
	s.control(func(fd int) { err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	if err != nil {
		return
	}
	first := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	program := unix.SockFprog{Len: 1, Filter: &first[0]}
	fd, err := s.join()
	if err == nil {
		s.control(func(fd int) {
			err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &program)
		})
		if err == nil {
			s.out.fd = fd
			return
		}
		_ = unix.Close(fd)
	}
	s.control(func(fd int) { _ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 0) })
}

// join opens a socket at the same address that receives nothing.
func (s *socket) join() (fd int, err error) {
	at := s.LocalAddr().(*net.UDPAddr)
	domain, name := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: at.Port, Addr: [16]byte(at.IP.To16())})
	if s.v4 {
		domain, name = unix.AF_INET, &unix.SockaddrInet4{Port: at.Port, Addr: [4]byte(at.IP.To4())}
	}
	if fd, err = unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return -1, err
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	if err == nil && !s.v4 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err == nil {
		err = unix.Bind(fd, name)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	setBuffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF)
	return fd, nil
}

// sender returns a descriptor to send by. The caller closes it.
func (s *socket) sender() (fd int, err error) {
	if s.out.open() {
		if fd, err = s.join(); err == nil {
			return fd, nil
		}
		// The address is not this thread's any more: it has gone, or belongs to another network namespace.
	}
	// A descriptor of its own at least: writers of the shared one wait for each other.
	s.control(func(shared int) { fd, err = unix.FcntlInt(uintptr(shared), unix.F_DUPFD_CLOEXEC, 0) })
	return fd, err
}

// Close closes s and what belongs to it.
func (s *socket) Close() error {
	s.out.close()
	return s.UDPConn.Close()
}

func (s *socket) control(f func(fd int)) {
	_ = s.raw.Control(func(fd uintptr) { f(int(fd)) })
}

// bufferSizes returns what the kernel granted, in bytes of payload.
func (s *socket) bufferSizes() (receive, send int) {
	s.control(func(fd int) {
		// The kernel tells twice what is meant for payload (man 7 socket).
		receive, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
		send, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
	})
	return receive / 2, send / 2
}

// route hands SRTP, SRTCP and STUN from addr to r.
func (s *socket) route(addr netip.AddrPort, r taker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peers[addr] = r
}

// unroute ends that, unless addr is another's by now.
func (s *socket) unroute(addr netip.AddrPort, r taker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peers[addr] == r {
		delete(s.peers, addr)
	}
}

// ReadFromAddrPort returns the next packet that no Peer has taken. ICE's mux calls it.
func (s *socket) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	s.read.Lock()
	defer s.read.Unlock()
	for {
		s.in.buf = b
		err := s.raw.Read(s.wait)
		switch {
		case err != nil:
			return 0, netip.AddrPort{}, err
		case s.in.err != nil:
			return 0, netip.AddrPort{}, s.in.err
		case s.in.n >= 0:
			return s.in.n, s.in.addr, nil
		}
	}
}

// take gives b to the Peer whose address it comes from, and tells whether that is all (RFC 7983 §7).
func (s *socket) take(addr netip.AddrPort, b []byte) bool {
	check, media := b[0] < 4, b[0] >= 128 && b[0] < 192
	if !check && !media {
		return false
	}
	s.mu.RLock()
	r := s.peers[addr]
	s.mu.RUnlock()
	switch {
	case r == nil:
		return false
	case media:
		r.received(b)
		return true
	}
	answer := r.checked(b, addr)
	if answer != nil {
		_, _ = s.WriteToAddrPort(answer, addr) // lost, it is asked for again
	}
	return answer != nil
}

// hearSTUN has what a STUN server answers handed to hear, which must not keep it; the zero address ends that.
func (s *socket) hearSTUN(server netip.AddrPort, hear func([]byte)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stun = stunServer{server, hear}
}

// answer hands b on where it is a STUN server's.
func (s *socket) answer(from netip.AddrPort, b []byte) bool {
	s.mu.RLock()
	server := s.stun
	s.mu.RUnlock()
	if server.hear == nil || server.addr != netip.AddrPortFrom(from.Addr().Unmap(), from.Port()) {
		return false
	}
	server.hear(b)
	return true
}

// WriteToAddrPort sends one packet; ICE's mux calls it. Where the socket is full the caller waits.
func (s *socket) WriteToAddrPort(b []byte, addr netip.AddrPort) (int, error) {
	if addr.Addr().Zone() == "" && (addr.Addr().Is4() || addr.Addr().Is4In6()) == s.v4 {
		to := UDPPath(addr)
		if s.out.send(b, &to) == nil {
			return len(b), nil
		}
	}
	return s.WriteToUDPAddrPort(b, addr) // which finds out what was wrong
}

// ReadFrom is ReadFromAddrPort for who knows net.Addr only.
func (s *socket) ReadFrom(b []byte) (int, net.Addr, error) {
	n, addr, err := s.ReadFromAddrPort(b)
	return n, net.UDPAddrFromAddrPort(addr), err
}
