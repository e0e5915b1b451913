// Package serial controls cameras over RS-232 and RS-422 by VISCA, Sony's camera control protocol: power, pan and tilt, zoom, presets
// and what the camera says of them. Encoding and parsing are pure; Camera does them over a serial port.
//
// It is for a program that links it: no setting of gantryd's configuration uses it yet. It knows no picture and no sound, and not VISCA
// over IP, which wraps the same messages in other packets. It was tested against a camera imitated over a pseudo-terminal, not
// against a real one.
package serial

import "fmt"

// An Address is a camera's place on the line, 1 to 7. The controller is 0.
type Address uint8

const (
	controller  = 0
	broadcast   = 8
	maxAddress  = 7
	terminator  = 0xff
	maxPacket   = 16 // bytes, with header and terminator
	minPacket   = 3
	maxPreset   = 127
	maxPan      = 24 // speeds
	maxTilt     = 20
	maxZoom     = 8
	maxPosition = 0x4000 // of the zoom, where the optical range ends
)

// A Message is what a packet carries: a command or an inquiry, without header and terminator.
type Message []byte

// Messages without a parameter.
var (
	PowerOn         = Message{0x01, 0x04, 0x00, 0x02}
	PowerOff        = Message{0x01, 0x04, 0x00, 0x03} // standby: the camera still answers
	Home            = Message{0x01, 0x06, 0x04}       // pan and tilt to the middle
	InquirePower    = Message{0x09, 0x04, 0x00}
	InquireZoom     = Message{0x09, 0x04, 0x47}
	InquirePosition = Message{0x09, 0x06, 0x12}

	addressSet = Message{0x30, 0x01}
)

// Drive returns the command to pan and tilt until the next one. Speeds are those of VISCA: pan -24 (left) to 24 (right), tilt -20 (down)
// to 20 (up), 0 to stop.
func Drive(pan, tilt int) (Message, error) {
	if pan < -maxPan || pan > maxPan || tilt < -maxTilt || tilt > maxTilt {
		return nil, fmt.Errorf("drive %d, %d: want pan -%d to %d and tilt -%d to %d", pan, tilt, maxPan, maxPan, maxTilt, maxTilt)
	}
	// A speed of 0 is not allowed, also beside "stop".
	panWay, tiltWay := byte(3), byte(3)
	switch {
	case pan < 0:
		panWay = 1
	case pan > 0:
		panWay = 2
	}
	switch {
	case tilt > 0:
		tiltWay = 1
	case tilt < 0:
		tiltWay = 2
	}
	return Message{0x01, 0x06, 0x01, byte(max(pan, -pan, 1)), byte(max(tilt, -tilt, 1)), panWay, tiltWay}, nil
}

// Zoom returns the command to zoom until the next one: -8 (fast to wide) to 8 (fast to tele), 0 to stop.
func Zoom(speed int) (Message, error) {
	m := Message{0x01, 0x04, 0x07, 0x00}
	switch {
	case speed < -maxZoom || speed > maxZoom:
		return nil, fmt.Errorf("zoom speed %d: want -%d to %d", speed, maxZoom, maxZoom)
	case speed > 0:
		m[3] = 0x20 | byte(speed-1)
	case speed < 0:
		m[3] = 0x30 | byte(-speed-1)
	}
	return m, nil
}

// ZoomTo returns the command to zoom to a position, 0 (wide) to 0x4000 (the end of what the optics do).
func ZoomTo(position int) (Message, error) {
	if position < 0 || position > maxPosition {
		return nil, fmt.Errorf("zoom to %d: want 0 to %d", position, maxPosition)
	}
	p := position
	return Message{0x01, 0x04, 0x47, byte(p>>12) & 15, byte(p>>8) & 15, byte(p>>4) & 15, byte(p) & 15}, nil
}

// RecallPreset returns the command to go to a stored view, 0 to 127. Many cameras have fewer and answer with NotExecutable or a syntax error.
func RecallPreset(n int) (Message, error) { return preset(0x02, n) }

// StorePreset returns the command to store the view of now.
func StorePreset(n int) (Message, error) { return preset(0x01, n) }

func preset(what byte, n int) (Message, error) {
	if n < 0 || n > maxPreset {
		return nil, fmt.Errorf("preset %d: want 0 to %d", n, maxPreset)
	}
	return Message{0x01, 0x04, 0x3f, what, byte(n)}, nil
}

// Packet returns the bytes that send m to a camera.
func (m Message) Packet(to Address) ([]byte, error) {
	if to < 1 || to > maxAddress {
		return nil, fmt.Errorf("camera address %d: want 1 to %d", to, maxAddress)
	}
	return m.packet(byte(to)), nil
}

func (m Message) packet(to byte) []byte {
	p := append([]byte{0x80 | controller<<4 | to}, m...)
	return append(p, terminator)
}

// AddressSet returns the packet that gives the cameras of a line their addresses in order of their place, the first 1.
func AddressSet() []byte { return addressSet.packet(broadcast) }
