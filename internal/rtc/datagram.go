package rtc

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A datagram is what is being read from a socket. One goroutine uses it.
//
// The calls are raw: they never sleep. A call that is announced to the scheduler wakes the runtime's monitor, which then looks
// every 20 µs, for a millisecond and more, whether that call has ended: a tenth of the relay's time with ten viewers.
type datagram struct {
	buf  []byte
	name unix.RawSockaddrInet6 // or any smaller
	addr netip.AddrPort        // the sender's
	n    int
	err  error
}

// receive reads a packet, and returns false when there is none. With MSG_PEEK it stays where it is.
func (d *datagram) receive(fd uintptr, flags uintptr) bool {
	for {
		size := uint32(unsafe.Sizeof(d.name))
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(d.buf))), uintptr(len(d.buf)), unix.MSG_DONTWAIT|flags,
			uintptr(unsafe.Pointer(&d.name)), uintptr(unsafe.Pointer(&size)))
		switch errno {
		case 0:
			d.n, d.err, d.addr = int(n), nil, d.from()
			return true
		case unix.EINTR, unix.ECONNREFUSED: // an ICMP answer to one peer is no fault of the socket
		case unix.EAGAIN:
			return false
		default:
			d.n, d.err = 0, errno
			return true
		}
	}
}

// discard takes the first packet out of a socket.
func discard(fd uintptr) {
	_, _, _ = unix.RawSyscall6(unix.SYS_RECVFROM, fd, 0, 0, unix.MSG_DONTWAIT, 0, 0)
}

// from returns the sender's address.
func (d *datagram) from() netip.AddrPort {
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&d.name.Port))[:])
	if d.name.Family == unix.AF_INET {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&d.name))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), port)
	}
	a := netip.AddrFrom16(d.name.Addr)
	if a.IsLinkLocalUnicast() {
		a = a.WithZone(strconv.Itoa(int(d.name.Scope_id)))
	}
	return netip.AddrPortFrom(a, port)
}

// A postbox sends single packets, as ICE and DTLS do, by a socket that Go's poller does not know. Its methods may be called by
// any goroutine.
type postbox struct {
	mu sync.RWMutex
	fd int // -1: there is none
}

var errNoPostbox = errors.New("no socket to send by")

func (p *postbox) send(b []byte, to *Path) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.fd < 0 {
		return errNoPostbox
	}
	for {
		_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(p.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT,
			uintptr(unsafe.Pointer(&to.name)), uintptr(to.size))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return syscall.Errno(errno)
		}
	}
}

func (p *postbox) open() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.fd >= 0
}

func (p *postbox) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fd >= 0 {
		_ = unix.Close(p.fd)
		p.fd = -1
	}
}
