package udp

import (
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"
)

const (
	tsPacket  = 188
	mpegTSRTP = 33 // RTP payload type of MPEG-TS (RFC 3551 §6)
	largest   = 8 * tsPacket
)

// datagrams reads the payload of one sender's datagrams: of the first that sends, until it falls silent.
type datagrams struct {
	conn  *net.UDPConn
	from  netip.AddrPort
	heard time.Time
	watch atomic.Bool // silence is an error
	stop  atomic.Bool
	buf   [2048]byte
}

// Read returns the MPEG-TS packets of one datagram; b has room for eight.
func (d *datagrams) Read(b []byte) (int, error) {
	for {
		if d.stop.Load() {
			return 0, io.EOF
		}
		if d.watch.Load() {
			_ = d.conn.SetReadDeadline(time.Now().Add(silent))
			if d.stop.Load() {
				return 0, io.EOF
			}
		}
		n, from, err := d.conn.ReadFromUDPAddrPort(d.buf[:])
		if err != nil {
			return 0, err
		}
		now := time.Now()
		if from != d.from && d.from.IsValid() && now.Sub(d.heard) < silent {
			continue // somebody else
		}
		payload := transport(d.buf[:n])
		if payload == nil {
			continue
		}
		d.from, d.heard = from, now
		return copy(b, payload), nil
	}
}

// transport returns the MPEG-TS packets of a datagram, nil where it has none.
func transport(b []byte) []byte {
	if len(b) > 12 && b[0]>>6 == 2 && b[1]&0x7f == mpegTSRTP && b[0] != 0x47 {
		var p rtp.Packet
		if p.Unmarshal(b) != nil {
			return nil
		}
		b = p.Payload
	}
	if len(b) < tsPacket || b[0] != 0x47 || len(b) > largest {
		return nil
	}
	return b
}
