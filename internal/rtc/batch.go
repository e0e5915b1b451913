package rtc

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Bounds of one Batch. 64 segments is what every kernel with UDP_SEGMENT takes; the buffer is small enough to stay in a
// core's cache between sealing and the kernel's copy.
const (
	maxSegments = 64
	maxMessage  = 65000
	batchBytes  = 256 << 10
	batchSize   = 128 // messages
)

// sendPatience is how long a Flush waits for room in a full socket, in milliseconds. All viewers share the socket, so there
// is nobody else to serve meanwhile.
const sendPatience = 5

// A Batch collects the packets of many receivers and sends them by few system calls: packets of equal size (the last may be
// shorter) for one receiver leave as one message with UDP_SEGMENT, many messages by one sendmmsg. One goroutine uses it.
//
//	for each receiver {
//		b.To(&path, owner)
//		for each packet { buf := b.Room(size); …; b.Put(n) }
//	}
//	b.Flush()
type Batch struct {
	fds     [2]int // IPv4, IPv6; -1 for none
	segment bool   // the kernel has UDP_SEGMENT
	buf     []byte
	used    int
	path    *Path
	owner   int
	msgs    []message
	heads   []mmsghdr
	iovs    []unix.Iovec
	ctls    [][ctlSize]byte
	Refused func(owner int) // packets of owner were not sent for want of room; may be nil
	Stats   BatchStats
}

// BatchStats count what a Batch has done.
type BatchStats struct {
	Packets, Bytes, Calls, Refused uint64
}

// message is a run of packets to one receiver that lie one after another in buf.
type message struct {
	path    *Path
	owner   int
	at, n   int
	segment int // size of each packet but the last
	count   int
	closed  bool // a shorter packet ended the run
}

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	unix.Msghdr
	sent uint32
}

const ctlSize = unix.SizeofCmsghdr + 8 // one cmsg of 2 bytes, aligned

// NewBatch returns a Batch that sends from the Port's UDP sockets. Close it.
func (p *Port) NewBatch() (*Batch, error) {
	b := &Batch{fds: [2]int{-1, -1}, buf: make([]byte, batchBytes), msgs: make([]message, 0, batchSize)}
	b.heads = make([]mmsghdr, batchSize)
	b.iovs = make([]unix.Iovec, batchSize)
	b.ctls = make([][ctlSize]byte, batchSize)
	b.segment = true
	for _, s := range p.sockets {
		i := 0
		if !s.v4 {
			i = 1
		}
		var err error
		if b.fds[i], err = s.sender(); err == nil {
			if _, e := unix.GetsockoptInt(b.fds[i], unix.SOL_UDP, unix.UDP_SEGMENT); e != nil {
				b.segment = false
			}
		}
		if err != nil {
			return nil, errors.Join(err, b.Close())
		}
	}
	return b, nil
}

// To says whom the packets that follow are for. path is kept until Flush.
func (b *Batch) To(path *Path, owner int) { b.path, b.owner = path, owner }

// Room returns an empty slice with capacity for one packet of at most size bytes. It may send what was collected before.
func (b *Batch) Room(size int) []byte {
	if b.used+size > len(b.buf) || len(b.msgs) == batchSize {
		b.Flush()
	}
	return b.buf[b.used:b.used:min(b.used+size, len(b.buf))]
}

// Put adds the packet of n bytes that was written into the last Room.
func (b *Batch) Put(n int) {
	b.Stats.Packets++
	b.Stats.Bytes += uint64(n)
	if i := len(b.msgs) - 1; i >= 0 && b.segment {
		m := &b.msgs[i]
		if m.path == b.path && !m.closed && n <= m.segment && m.count < maxSegments && m.n+n <= maxMessage {
			m.n += n
			m.count++
			m.closed = n < m.segment
			b.used += n
			return
		}
	}
	b.msgs = append(b.msgs, message{path: b.path, owner: b.owner, at: b.used, n: n, segment: n, count: 1})
	b.used += n
}

// Flush sends what was collected. What the socket has no room for within some milliseconds is dropped, and its owners told.
func (b *Batch) Flush() {
	for i := 0; i < len(b.msgs); {
		fd, n := b.prepare(i)
		i += b.send(fd, i, n)
		for j := range n {
			b.heads[j].Name = nil
		}
	}
	clear(b.msgs) // nothing of who has left is held
	b.msgs, b.used = b.msgs[:0], 0
}

func family(p *Path) int {
	if p.addr.Addr().Is4() {
		return 0
	}
	return 1
}

// prepare writes the headers of the run of messages from i on that leave by one socket.
func (b *Batch) prepare(i int) (fd, n int) {
	f := family(b.msgs[i].path)
	for j := i; j < len(b.msgs) && family(b.msgs[j].path) == f; j++ {
		m := &b.msgs[j]
		h, v := &b.heads[n], &b.iovs[n]
		v.Base = &b.buf[m.at]
		v.SetLen(m.n)
		h.Name, h.Namelen = &m.path.name[0], m.path.size
		h.Iov = v
		h.SetIovlen(1)
		h.Control = nil
		h.SetControllen(0)
		if m.count > 1 {
			c := &b.ctls[n]
			head := (*unix.Cmsghdr)(unsafe.Pointer(c))
			head.Level, head.Type = unix.SOL_UDP, unix.UDP_SEGMENT
			head.SetLen(unix.CmsgLen(2))
			*(*uint16)(unsafe.Pointer(&c[unix.SizeofCmsghdr])) = uint16(m.segment)
			h.Control = &c[0]
			h.SetControllen(unix.CmsgSpace(2))
		}
		n++
	}
	return b.fds[f], n
}

// send sends the n prepared messages, the first of which is msgs[first], and returns how many are dealt with: all, or fewer
// when the rest must be prepared anew.
func (b *Batch) send(fd, first, n int) int {
	waited := false
	for done := 0; done < n; {
		b.Stats.Calls++
		// Raw: the call never sleeps and ends within a millisecond. Announced to the scheduler, it would have each of them
		// taken for blocked, and threads started and stopped for nothing.
		sent, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.heads[done])), uintptr(n-done), unix.MSG_DONTWAIT, 0, 0)
		if errno == 0 {
			done += int(sent)
			continue
		}
		m := &b.msgs[first+done]
		switch {
		case errno == unix.EINTR:
		case errno == unix.EAGAIN || errno == unix.ENOBUFS:
			if !waited {
				waited = true
				if k, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, sendPatience); k > 0 {
					continue
				}
			}
			for ; done < n; done++ {
				b.refuse(&b.msgs[first+done])
			}
		case m.count > 1 && (errno == unix.EIO || errno == unix.EINVAL || errno == unix.EOPNOTSUPP || errno == unix.EMSGSIZE):
			// The route's device cannot segment: send this message packet by packet.
			if errno == unix.EIO || errno == unix.EOPNOTSUPP {
				b.segment = false
			}
			b.sendSingly(fd, m)
			done++
		default: // unreachable, no permission: ICE will find that out
			b.refuse(m)
			done++
		}
	}
	return n
}

func (b *Batch) sendSingly(fd int, m *message) {
	var h unix.Msghdr
	var v unix.Iovec
	h.Name, h.Namelen, h.Iov = &m.path.name[0], m.path.size, &v
	h.SetIovlen(1)
	for at, left := m.at, m.n; left > 0; {
		size := min(m.segment, left)
		v.Base = &b.buf[at]
		v.SetLen(size)
		b.Stats.Calls++
		if _, _, errno := unix.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&h)), unix.MSG_DONTWAIT); errno != 0 && errno != unix.EINTR {
			b.refuse(m)
			return
		}
		at, left = at+size, left-size
	}
}

func (b *Batch) refuse(m *message) {
	b.Stats.Refused += uint64(m.count)
	if b.Refused != nil {
		b.Refused(m.owner)
	}
}

// Close gives the descriptors back; what was not flushed is dropped.
func (b *Batch) Close() error {
	var errs []error
	for i, fd := range b.fds {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
			b.fds[i] = -1
		}
	}
	return errors.Join(errs...)
}
