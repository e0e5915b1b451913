package serial

import (
	"bytes"
	"errors"
	"fmt"
)

// A Kind is what a reply is.
type Kind uint8

// The kinds of replies.
const (
	Acknowledged  Kind = iota + 1 // a command was accepted, in a socket
	Completed                     // it was carried out; or, with socket 0, the answer to an inquiry
	Refused                       // Code says why
	Addressed                     // the answer to AddressSet: Data[0] is one more than the number of cameras
	NetworkChange                 // a camera was added to or taken from the line: AddressSet is due
)

// A Code says why a camera refused a message. It is the error that Camera returns, wrapped.
type Code uint8

// The codes that VISCA defines.
const (
	BadLength     Code = 0x01
	BadSyntax     Code = 0x02
	BufferFull    Code = 0x03 // two commands are already at work
	Cancelled     Code = 0x04
	NoSocket      Code = 0x05
	NotExecutable Code = 0x41 // not in the state that the camera is in: while it is off, or in this mode
)

// Error returns the code in words.
func (c Code) Error() string {
	switch c {
	case BadLength:
		return "the camera says: message of wrong length"
	case BadSyntax:
		return "the camera says: syntax error"
	case BufferFull:
		return "the camera says: command buffer full"
	case Cancelled:
		return "the camera says: command cancelled"
	case NoSocket:
		return "the camera says: no such socket"
	case NotExecutable:
		return "the camera says: not executable now"
	}
	return fmt.Sprintf("the camera says: error 0x%02x", uint8(c))
}

// A Reply is one packet from a camera.
type Reply struct {
	From   Address // 0 for Addressed, which goes around the line
	Kind   Kind
	Socket int    // of the command that it belongs to, 0 to 15; 0 is for inquiries
	Code   Code   // of Refused
	Data   []byte // of Completed and Addressed; part of the packet that was parsed
}

var errNoReply = errors.New("not a reply to the controller")

// ParseReply parses one packet, header to terminator.
func ParseReply(p []byte) (Reply, error) {
	if len(p) < minPacket || len(p) > maxPacket || bytes.IndexByte(p, terminator) != len(p)-1 {
		return Reply{}, fmt.Errorf("parse reply % x: want %d to %d bytes of which the last alone is ff", p[:min(len(p), maxPacket)], minPacket, maxPacket)
	}
	body := p[1 : len(p)-1]
	if p[0] == 0x80|broadcast {
		if len(body) == 2 && body[0] == addressSet[0] && body[1] >= 1 && body[1] <= maxAddress+1 {
			return Reply{Kind: Addressed, Data: body[1:]}, nil
		}
		return Reply{}, fmt.Errorf("parse reply % x: %w", p, errNoReply)
	}
	if p[0] < 0x90 || p[0]&0x0f != controller { // from a camera: 0x80 | address<<4 | controller
		return Reply{}, fmt.Errorf("parse reply % x: %w", p, errNoReply)
	}
	r := Reply{From: Address(p[0]>>4) - 8, Socket: int(body[0] & 0x0f)}
	switch body[0] >> 4 {
	case 4:
		r.Kind = Acknowledged
		if len(body) != 1 {
			return Reply{}, fmt.Errorf("parse reply % x: an acknowledgement is 3 bytes", p)
		}
	case 5:
		r.Kind, r.Data = Completed, body[1:]
	case 6:
		if len(body) != 2 {
			return Reply{}, fmt.Errorf("parse reply % x: an error is 4 bytes", p)
		}
		r.Kind, r.Code = Refused, Code(body[1])
	case 3:
		if len(body) != 1 || r.Socket != 8 {
			return Reply{}, fmt.Errorf("parse reply % x: %w", p, errNoReply)
		}
		r.Kind, r.Socket = NetworkChange, 0
	default:
		return Reply{}, fmt.Errorf("parse reply % x: %w", p, errNoReply)
	}
	return r, nil
}

// nextPacket cuts the first packet from what was received. It drops what is too long to be one, as a line at another speed gives.
// It returns nil while none is complete; rest is then less than a packet.
func nextPacket(received []byte) (packet, rest []byte) {
	for {
		end := bytes.IndexByte(received, terminator)
		switch {
		case end < 0 && len(received) >= maxPacket:
			return nil, received[:0]
		case end < 0:
			return nil, received
		case end+1 >= minPacket && end < maxPacket:
			return received[:end+1], received[end+1:]
		}
		received = received[end+1:]
	}
}

// nibbles reads a number sent as one nibble a byte, most significant first.
func nibbles(data []byte) (n uint16, err error) {
	for _, b := range data {
		if b > 0x0f {
			return 0, fmt.Errorf("number % x: want 0 to f in each byte", data)
		}
		n = n<<4 | uint16(b)
	}
	return n, nil
}

func parsePower(data []byte) (bool, error) {
	if len(data) != 1 || data[0] != 2 && data[0] != 3 {
		return false, fmt.Errorf("power % x: want 02 or 03", data)
	}
	return data[0] == 2, nil
}

func parseZoom(data []byte) (int, error) {
	if len(data) != 4 {
		return 0, fmt.Errorf("zoom position % x: want 4 bytes", data)
	}
	n, err := nibbles(data)
	return int(n), err
}

func parsePosition(data []byte) (pan, tilt int, err error) {
	if len(data) != 8 {
		return 0, 0, fmt.Errorf("pan and tilt % x: want 8 bytes", data)
	}
	p, err := nibbles(data[:4])
	if err != nil {
		return 0, 0, err
	}
	t, err := nibbles(data[4:])
	return int(int16(p)), int(int16(t)), err
}
