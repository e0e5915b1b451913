package rtc

import (
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	atOnce    = 64       // packets that are received before others get their turn
	maxPacket = 64 << 10 // bytes; what is longer is cut
)

// An intake hands on what arrives at a socket: mostly on the goroutine of ICE's mux, and on that of a sender who calls Poll.
// Go's scheduler looks at the network when it has nothing else to run: with all cores sending, nothing would be received
// for as long as that takes.
type intake struct {
	turn  sync.Mutex            // held while packets are received and handed on: so they stay in order
	in    datagram              // the mux's
	spare datagram              // Poll's
	wait  func(fd uintptr) bool // socket.receive
	look  func(fd uintptr)      // socket.drain
}

// Poll receives what has come, without waiting. Who sends for milliseconds on end calls it in between. What Peers tell their
// owners of it is told on this goroutine.
func (p *Port) Poll() {
	for _, s := range p.sockets {
		s.poll()
	}
}

func (s *socket) poll() {
	if s.turn.TryLock() { // else somebody is at it
		_ = s.raw.Control(s.look)
		s.turn.Unlock()
	}
}

// drain hands on what has come, up to the first packet for ICE: that stays where it is, or the poller would not wake its reader.
func (s *socket) drain(fd uintptr) {
	if s.spare.buf == nil {
		s.spare.buf = make([]byte, maxPacket)
	}
	for range atOnce {
		if !s.spare.receive(fd, unix.MSG_PEEK) || s.spare.err != nil || !s.handle(s.spare.addr, s.spare.buf[:s.spare.n]) {
			return
		}
		discard(fd)
	}
}

// receive is given to syscall.RawConn.Read: false when there is nothing more, else s.in has a packet for ICE, an error, or -1
// bytes when others shall have their turn first.
func (s *socket) receive(fd uintptr) bool {
	s.turn.Lock()
	defer s.turn.Unlock()
	for range atOnce {
		if !s.in.receive(fd, 0) {
			return false
		}
		if s.in.err != nil || !s.handle(s.in.addr, s.in.buf[:s.in.n]) {
			return true
		}
	}
	s.in.n = -1
	return true
}

// handle gives a packet to whom it concerns but ICE, if to anybody.
func (s *socket) handle(from netip.AddrPort, b []byte) bool {
	return len(b) > 0 && (b[0] < 4 && s.answer(from, b) || s.take(from, b))
}
