package usb

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
)

// The messages of USB/IP (Documentation/usb/usbip_protocol.rst of Linux), after a device was handed over: 48 bytes of header,
// big-endian, then data, then the packets of an isochronous transfer.
const (
	cmdSubmit = 1
	cmdUnlink = 2
	retSubmit = 3
	retUnlink = 4

	headerLen = 48
	packetLen = 16
	maxLen    = 1 << 20

	stalled   = -32  // EPIPE
	unlinked  = -104 // ECONNRESET
	noPackets = 0xffffffff
)

// A request is one transfer that the host asks for.
type request struct {
	seq     uint32
	in      bool
	ep      uint32
	length  int // of the host's buffer
	setup   [8]byte
	data    []byte // from the host
	packets []isoPacket
}

// An isoPacket is a part of an isochronous transfer.
type isoPacket struct{ offset, length uint32 }

// serve answers the host until the connection ends.
func (d *dev) serve() {
	for {
		r, unlink, err := d.read()
		if err != nil {
			return
		}
		switch {
		case unlink != 0:
			d.unlink(r.seq, unlink)
		case r.ep == 0:
			data, ok := d.control(r)
			switch {
			case !ok:
				d.reply(r, stalled)
			case r.in:
				d.reply(r, 0, data[:min(len(data), r.length)])
			default:
				d.reply(r, 0)
			}
		default:
			d.submit(r)
		}
	}
}

// read reads one message: a request, or the number of one that is to be taken back.
func (d *dev) read() (r *request, unlink uint32, err error) {
	var h [headerLen]byte
	if _, err := io.ReadFull(d.conn, h[:]); err != nil {
		return nil, 0, err
	}
	u := func(at int) uint32 { return binary.BigEndian.Uint32(h[at:]) }
	r = &request{seq: u(4), in: u(12) == 1, ep: u(16), length: int(u(24))}
	switch u(0) {
	case cmdUnlink:
		return r, u(20), nil
	case cmdSubmit:
	default:
		return nil, 0, errors.New("unknown message")
	}
	copy(r.setup[:], h[40:])
	packets := u(32)
	if r.length > maxLen || packets != noPackets && packets > maxLen/packetLen {
		return nil, 0, errors.New("message too long")
	}
	if !r.in {
		r.data = make([]byte, r.length)
		if _, err := io.ReadFull(d.conn, r.data); err != nil {
			return nil, 0, err
		}
	}
	if packets != noPackets && packets > 0 {
		b := make([]byte, packets*packetLen)
		if _, err := io.ReadFull(d.conn, b); err != nil {
			return nil, 0, err
		}
		for ; len(b) > 0; b = b[packetLen:] {
			r.packets = append(r.packets, isoPacket{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])})
		}
	}
	return r, 0, nil
}

// reply ends a request with data; that of an isochronous one has a part for each packet.
func (d *dev) reply(r *request, status int32, parts ...[]byte) {
	data := slices.Concat(parts...)
	actual := len(data)
	if !r.in && status == 0 {
		actual = len(r.data)
	}
	b := header(retSubmit, r.seq, uint32(status), uint32(actual), 0, uint32(len(r.packets)))
	b = append(b, data...)
	for i, p := range r.packets {
		b = binary.BigEndian.AppendUint32(b, p.offset)
		b = binary.BigEndian.AppendUint32(b, p.length)
		b = binary.BigEndian.AppendUint32(b, uint32(len(parts[i])))
		b = binary.BigEndian.AppendUint32(b, 0)
	}
	d.send(b)
}

func header(command, seq uint32, rest ...uint32) []byte {
	b := make([]byte, 0, headerLen)
	for _, v := range append([]uint32{command, seq, 0, 0, 0}, rest...) {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return append(b, make([]byte, headerLen-len(b))...)
}

func (d *dev) send(b []byte) {
	d.write.Lock()
	defer d.write.Unlock()
	_, _ = d.conn.Write(b) // an error ends serve as well
}

// answer ends a request of an endpoint with data, unless it was taken back meanwhile. It and unlink tell the host in the order in which
// they decide: vhci_hcd gives up on a device that answers what it has taken back.
func (d *dev) answer(r *request, parts ...[]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pending[r.seq] == r {
		delete(d.pending, r.seq)
		d.reply(r, 0, parts...)
	}
}

// unlink takes a request back, if it was not answered yet.
func (d *dev) unlink(seq, which uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	status := int32(0)
	if r := d.pending[which]; r != nil {
		delete(d.pending, which)
		d.pipe(r.ep).remove(r)
		status = unlinked
	}
	d.send(header(retUnlink, seq, uint32(status)))
}
