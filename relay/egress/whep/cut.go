package whep

import (
	"gantry/media"
)

// What a packet and a message of UDP_SEGMENT cost, in bytes that may be spent to save one. A message is as much work for the
// kernel as some two packets.
const (
	packetCost  = 96
	messageCost = 320
	closedCost  = 200 // of a last packet that is shorter than the others: no sound can follow in the same message
)

const (
	maxPad  = 255 // RTP padding tells its length in one byte (RFC 3550 §5.1)
	maxCuts = 24  // chunks whose sizes are tried for a picture
	maxHead = 3   // of a fragment
)

// A cutter gives the packets of a picture one size, so that they leave in one message: each slice ends with a packet of its own
// size, and some packetizers differ by a byte. What was cut into fragments (FU of H.264 and H.265) is cut anew into equal
// ones, as few as before, and the bytes that are still missing are RTP padding. It stays with the packets as they came where
// that would cost more bytes than it is worth.
type cutter struct {
	largest int // payload seen: what goes out is not larger than what came in
	chunks  []chunk
	out     []piece
}

// A piece is one payload to send.
type piece struct {
	data   []byte // with its padding
	padded int
}

// A chunk is what belongs together: the fragments of one NAL unit, or a payload that cannot be cut.
type chunk struct {
	parts       [][]byte // payloads
	size        int      // bytes that may be cut anywhere; of what cannot be cut, the payload
	head        int      // bytes before them in each payload; 0: cannot be cut
	first, last bool     // the unit's beginning and end are among them
}

// cut returns the payloads to send for those of one access unit, or of a part of it with nothing missing inside. The result
// is valid until the next call; its data is never written to again.
func (c *cutter) cut(codec media.Codec, payloads [][]byte) []piece {
	c.parse(codec, payloads)
	cost, size := c.cost(0), 0
	for i, u := range c.chunks {
		if i == maxCuts {
			break
		}
		for _, s := range [...]int{u.fit(c.largest), u.fit(u.fit(c.largest) - 1)} {
			if s > maxHead && s <= c.largest {
				if n := c.cost(s); n < cost {
					cost, size = n, s
				}
			}
		}
	}
	c.out = c.out[:0]
	if size == 0 {
		for _, p := range payloads {
			c.out = append(c.out, piece{data: p})
		}
		return c.out
	}
	c.write(size)
	return c.out
}

// parse finds the chunks.
func (c *cutter) parse(codec media.Codec, payloads [][]byte) {
	c.chunks = c.chunks[:0]
	open := false
	for i, p := range payloads {
		c.largest = max(c.largest, len(p))
		head, first, last := fragment(codec, p)
		n := len(c.chunks)
		switch {
		case head == 0:
			c.chunks = append(c.chunks, chunk{parts: payloads[i : i+1], size: len(p)})
			open = false
			continue
		case open && !first && sameUnit(c.chunks[n-1].parts[0], p, head):
			u := &c.chunks[n-1]
			u.parts = u.parts[:len(u.parts)+1] // they lie one after the other
			u.size += len(p) - head
			u.last = last
		default:
			c.chunks = append(c.chunks, chunk{parts: payloads[i : i+1 : len(payloads)], size: len(p) - head, head: head, first: first, last: last})
		}
		open = !last
	}
}

// fragment reads the head of a fragmentation unit; its size is 0 when p is none.
func fragment(codec media.Codec, p []byte) (head int, first, last bool) {
	switch {
	case codec == media.H264 && len(p) > 2 && p[0]&0x1f == 28: // FU-A, RFC 6184 §5.8
		head = 2
	case codec == media.H265 && len(p) > 3 && p[0]>>1&0x3f == 49: // FU, RFC 7798 §4.4.3
		head = 3
	default:
		return 0, false, false
	}
	flags := p[head-1]
	first, last = flags&0x80 != 0, flags&0x40 != 0
	if first && last { // not allowed, and not to be made worse
		return 0, false, false
	}
	return head, first, last
}

// sameUnit tells whether two fragments are of one NAL unit, as far as their heads show it.
func sameUnit(a, b []byte, head int) bool {
	return string(a[:head-1]) == string(b[:head-1]) && (a[head-1]^b[head-1])&0x3f == 0
}

// count returns into how many payloads of at most size bytes u is cut.
func (u *chunk) count(size int) int {
	if u.head == 0 {
		return 1
	}
	n := (u.size + size - u.head - 1) / (size - u.head)
	if u.first && u.last {
		n = max(n, 2) // the first fragment must not be the last (RFC 6184 §5.8)
	}
	return n
}

// fit returns the smallest size for which u needs no more payloads than with size.
func (u *chunk) fit(size int) int {
	if u.head == 0 {
		return u.size
	}
	if size <= u.head {
		return 0
	}
	n := u.count(size)
	return u.head + (u.size+n-1)/n
}

// cost returns what the picture costs with payloads of that size, 0: as they came.
func (c *cutter) cost(size int) int {
	packets, messages, bytes := 0, 0, 0
	room := 0 // the largest payload that the open message takes; 0: there is none
	put := func(n int) {
		packets++
		bytes += n
		if room == 0 || n > room {
			messages++
			room = n
		} else if n < room {
			room = 0
		}
	}
	for i := range c.chunks {
		u := &c.chunks[i]
		if size == 0 || u.head == 0 && u.size > size {
			for _, p := range u.parts {
				put(len(p))
			}
			continue
		}
		even := c.even(i, size)
		n := u.count(size)
		for k := range n {
			if even {
				put(size)
			} else {
				put(u.head + u.share(size, n, k))
			}
		}
	}
	if room == 0 {
		bytes += closedCost
	}
	return packets*packetCost + messages*messageCost + bytes
}

// even tells whether the i-th chunk is padded: it can be, and more follows, or may follow and it takes little.
func (c *cutter) even(i, size int) bool {
	u := &c.chunks[i]
	n := u.count(size)
	lack := n*(size-u.head) - u.size
	most := n*maxPad - (n - 1)
	if i == len(c.chunks)-1 {
		most = min(most, closedCost)
		if u.head == 0 { // nothing to share it with, and sound is rarely larger
			most = 0
		}
	}
	return lack >= 0 && lack <= most && u.size >= n
}

// share is how many bytes are in the k-th of n payloads where u is not padded: a short one ends a message, so it is the last.
func (u *chunk) share(size, n, k int) int {
	room := size - u.head
	switch {
	case u.head == 0:
		return u.size
	case u.size <= (n-1)*room: // more payloads than it needs
		return part(u.size, n, k)
	case k == n-1:
		return u.size - k*room
	}
	return room
}

// part is the k-th of n nearly equal parts of size, the larger ones first.
func part(size, n, k int) int {
	if k < size%n {
		return size/n + 1
	}
	return size / n
}

// write lays the chunks out.
func (c *cutter) write(size int) {
	total := 0
	for i := range c.chunks {
		total += c.chunks[i].count(size) * size
	}
	buf := make([]byte, 0, total)
	for i := range c.chunks {
		u := &c.chunks[i]
		even := c.even(i, size)
		if u.head == 0 && (!even || u.size == size) {
			c.out = append(c.out, piece{data: u.parts[0]})
			continue
		}
		r := reader{parts: u.parts, head: u.head}
		n := u.count(size)
		for k := range n {
			from := len(buf)
			if u.head > 0 {
				buf = append(buf, u.parts[0][:u.head]...)
				flags := &buf[len(buf)-1]
				*flags &^= 0xc0
				if k == 0 && u.first {
					*flags |= 0x80
				}
				if k == n-1 && u.last {
					*flags |= 0x40
				}
			}
			p := piece{}
			if even {
				buf = r.appendTo(buf, part(u.size, n, k))
				if p.padded = size - (len(buf) - from); p.padded > 0 {
					buf = append(buf, zeros[:p.padded-1]...)
					buf = append(buf, byte(p.padded))
				}
			} else {
				buf = r.appendTo(buf, u.share(size, n, k))
			}
			p.data = buf[from:len(buf):len(buf)]
			c.out = append(c.out, p)
		}
	}
}

var zeros [maxPad]byte

// A reader reads the bytes behind the heads of payloads.
type reader struct {
	parts [][]byte
	head  int
	at    int // in parts[0], behind its head
}

func (r *reader) appendTo(dst []byte, n int) []byte {
	for n > 0 {
		rest := r.parts[0][r.head+r.at:]
		m := min(n, len(rest))
		dst = append(dst, rest[:m]...)
		n, r.at = n-m, r.at+m
		if m == len(rest) {
			r.parts, r.at = r.parts[1:], 0
		}
	}
	return dst
}

// unpadded is p's payload as it was.
func (p piece) unpadded() []byte { return p.data[:len(p.data)-p.padded] }
