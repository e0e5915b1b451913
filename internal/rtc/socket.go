package rtc

import (
	"errors"
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
	read sync.Mutex // held while the mux reads

	mu    sync.RWMutex
	peers map[netip.AddrPort]func([]byte)
}

func openSocket(network string, at *net.UDPAddr) (*socket, error) {
	c, err := net.ListenUDP(network, at)
	if err != nil {
		return nil, err
	}
	s := &socket{UDPConn: c, v4: network == "udp4", peers: map[netip.AddrPort]func([]byte){}}
	s.control(func(fd int) {
		// The forced form passes the limit of the system where the process may.
		for _, o := range [][2]int{{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}} {
			if unix.SetsockoptInt(fd, unix.SOL_SOCKET, o[0], socketBuffer) != nil {
				_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, o[1], socketBuffer)
			}
		}
	})
	return s, nil
}

func (s *socket) control(f func(fd int)) {
	if raw, err := s.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { f(int(fd)) })
	}
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

// route hands SRTP and SRTCP from addr to f; nil ends that. f runs on the socket's reader: it must not block, nor keep its
// argument.
func (s *socket) route(addr netip.AddrPort, f func([]byte)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f == nil {
		delete(s.peers, addr)
	} else {
		s.peers[addr] = f
	}
}

// ReadFromAddrPort returns the next packet that is not a Peer's SRTP or SRTCP. ICE's mux calls it.
func (s *socket) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	s.read.Lock()
	defer s.read.Unlock()
	for {
		n, addr, err := s.ReadFromUDPAddrPort(b)
		if err != nil {
			if errors.Is(err, syscall.ECONNREFUSED) {
				continue // an ICMP answer to one peer is no fault of the socket
			}
			return n, addr, err
		}
		if n > 0 && b[0] >= 128 && b[0] < 192 { // RTP or RTCP, RFC 7983 §7
			s.mu.RLock()
			f := s.peers[addr]
			s.mu.RUnlock()
			if f != nil {
				f(b[:n])
				continue
			}
		}
		return n, addr, nil
	}
}

// WriteToAddrPort is WriteToUDPAddrPort under the name that ICE's mux looks for.
func (s *socket) WriteToAddrPort(b []byte, addr netip.AddrPort) (int, error) {
	return s.WriteToUDPAddrPort(b, addr)
}

// ReadFrom is ReadFromAddrPort for who knows net.Addr only.
func (s *socket) ReadFrom(b []byte) (int, net.Addr, error) {
	n, addr, err := s.ReadFromAddrPort(b)
	return n, net.UDPAddrFromAddrPort(addr), err
}
