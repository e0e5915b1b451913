package usb

import (
	"encoding/binary"
	"slices"
	"time"
	"unicode/utf16"
)

const (
	videoEndpoint = 1
	audioEndpoint = 2
	sampleRate    = 48000

	controlInterface   = 0 // of the pictures
	streamingInterface = 1
	soundStreaming     = 3

	maxPayload = 16 << 10 // of a bulk transfer
	perPacket  = 1024
	maxPackets = 3 * perPacket // in a microframe
)

// desc makes a descriptor: its length, then what is given, numbers as bytes, others little-endian by their size.
func desc(parts ...any) []byte {
	b := []byte{0}
	for _, p := range parts {
		switch v := p.(type) {
		case int:
			b = append(b, byte(v))
		case uint16:
			b = binary.LittleEndian.AppendUint16(b, v)
		case uint32:
			b = binary.LittleEndian.AppendUint32(b, v)
		case []byte:
			b = append(b, v...)
		}
	}
	b[0] = byte(len(b))
	return b
}

// The kinds of descriptors (USB 2.0 table 9-5, UVC 1.1 tables, UAC 1.0 tables ).
const (
	device        = 1
	configuration = 2
	text          = 3
	face          = 4
	endpoint      = 5
	association   = 11
	classFace     = 0x24
	classEndpoint = 0x25
)

func (c *Camera) deviceDescriptor() []byte {
	version := c.Version
	if version == 0 {
		version = 0x0200
	}
	serial := 0
	if c.Serial != "" {
		serial = 3
	}
	return desc(device, version, 0xef, 2, 1, 64, c.Vendor, c.Product, uint16(0x0100), 1, 2, serial, 1)
}

// stringDescriptor returns a text; false where there is none.
func (c *Camera) stringDescriptor(index byte) ([]byte, bool) {
	if index == 0 {
		return desc(text, uint16(0x0409)), true
	}
	if int(index) > 3 {
		return nil, false
	}
	b := []byte(nil)
	for _, v := range utf16.Encode([]rune([]string{c.Maker, c.Name, c.Serial}[index-1])) {
		b = binary.LittleEndian.AppendUint16(b, v)
	}
	return desc(text, b), true
}

func (c *Camera) configurationDescriptor() []byte {
	body := c.videoDescriptors()
	interfaces := 2
	if c.Sound {
		body = append(body, soundDescriptors()...)
		interfaces = 4
	}
	head := desc(configuration, uint16(9+len(body)), interfaces, 1, 0, 0x80, 250)
	return append(head, body...)
}

func (c *Camera) videoDescriptors() []byte {
	const version = uint16(0x0110)
	units := slices.Concat(
		desc(classFace, 2, 1, uint16(0x0201), 0, 0, uint16(0), uint16(0), uint16(0), 3, 0, 0, 0), // camera
		desc(classFace, 3, 2, uint16(0x0101), 0, 1, 0))                                           // into USB
	var formats []byte
	for i, f := range c.Formats {
		formats = append(formats, f.descriptors(i+1)...)
	}
	const inputHeader = 13
	endpoints, pipe := 1, desc(endpoint, 0x80|videoEndpoint, 2, uint16(512), 0)
	if c.Isochronous { // no bandwidth until the host takes the other setting
		endpoints, pipe = 0, slices.Concat(desc(face, streamingInterface, 1, 1, 14, 2, 0, 0),
			desc(endpoint, 0x80|videoEndpoint, 5, uint16(perPacket|(maxPackets/perPacket-1)<<11), 1))
	}
	return slices.Concat(
		desc(association, controlInterface, 2, 14, 3, 0, 0),
		desc(face, controlInterface, 0, 0, 14, 1, 0, 0),
		desc(classFace, 1, version, uint16(13+len(units)), uint32(48_000_000), 1, streamingInterface), units,
		desc(face, streamingInterface, 0, endpoints, 14, 2, 0, 0),
		desc(classFace, 1, len(c.Formats), uint16(inputHeader+len(c.Formats)+len(formats)), 0x80|videoEndpoint, 0, 2, 0, 0, 0, 1,
			make([]byte, len(c.Formats))),
		formats, pipe)
}

// guid is the rest of a format's GUID, after its four characters.
var guid = []byte{0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71}

// descriptors describes format number i with its one size.
func (f Format) descriptors(i int) []byte {
	w, h := uint16(f.Width), uint16(f.Height)
	var intervals []byte
	for _, r := range f.Rates {
		intervals = binary.LittleEndian.AppendUint32(intervals, uint32(10_000_000/r))
	}
	first := uint32(10_000_000 / f.Rates[0])
	colour := desc(classFace, 13, 1, 1, 4)
	whole := func(kind int) []byte {
		return desc(classFace, kind, 1, 0, w, h, uint32(1_000_000), uint32(400_000_000), f.frameSize(), first, len(f.Rates), intervals)
	}
	switch f.FourCC {
	case "MJPG":
		return slices.Concat(desc(classFace, 6, i, 1, 1, 1, 0, 0, 0, 0), whole(7), colour)
	case "H264":
		return slices.Concat(desc(classFace, 16, i, 1, []byte(f.FourCC), guid, 16, 1, 0, 0, 0, 0, 1),
			desc(classFace, 17, 1, 0, w, h, uint32(1_000_000), uint32(400_000_000), first, len(f.Rates), uint32(0), intervals), colour)
	}
	return slices.Concat(desc(classFace, 4, i, 1, []byte("YUY2"), guid, 16, 1, 0, 0, 0, 0), whole(5), colour)
}

// frameSize is the most that a picture takes.
func (f Format) frameSize() uint32 { return uint32(2 * f.Width * f.Height) }

func soundDescriptors() []byte {
	units := slices.Concat(
		desc(classFace, 2, 3, uint16(0x0201), 0, 2, uint16(3), 0, 0), // microphone, left and right
		desc(classFace, 3, 4, uint16(0x0101), 0, 3, 0))
	packet := uint16(4 * (sampleRate/1000 + 1))
	return slices.Concat(
		desc(association, 2, 2, 1, 0, 0, 0),
		desc(face, 2, 0, 0, 1, 1, 0, 0),
		desc(classFace, 1, uint16(0x0100), uint16(9+len(units)), 1, soundStreaming), units,
		desc(face, soundStreaming, 0, 0, 1, 2, 0, 0),
		desc(face, soundStreaming, 1, 1, 1, 2, 0, 0),
		desc(classFace, 1, 4, 1, uint16(1)),
		desc(classFace, 2, 1, 2, 2, 16, 1, sampleRate&0xff, sampleRate>>8&0xff, sampleRate>>16),
		desc(endpoint, 0x80|audioEndpoint, 5, packet, 4, 0, 0), // isochronous, asynchronous, each millisecond
		desc(classEndpoint, 1, 0, 0, uint16(0)))
}

// Requests (USB 2.0 table 9-4, UVC 1.1 table A-8).
const (
	getDescriptor = 6
	setCurrent    = 0x01
	getCurrent    = 0x81
	getLength     = 0x85
	getInfo       = 0x86
	getDefault    = 0x87

	toInterface   = 0x21 // of a class
	fromInterface = 0xa1
)

// control answers a request to endpoint 0; false stalls it.
func (d *dev) control(r *request) ([]byte, bool) {
	kind, what, value, index := r.setup[0], r.setup[1], binary.LittleEndian.Uint16(r.setup[2:]), binary.LittleEndian.Uint16(r.setup[4:])
	switch {
	case kind == 0x80 && what == getDescriptor:
		switch value >> 8 {
		case device:
			return d.camera.deviceDescriptor(), true
		case configuration:
			return d.camera.configurationDescriptor(), true
		case text:
			return d.camera.stringDescriptor(byte(value))
		}
		return nil, false
	case (kind == toInterface || kind == fromInterface) && index&0xff == streamingInterface:
		return d.streaming(what, r.data)
	case kind&0x60 != 0: // any other request of a class
		return nil, false
	case kind == 0x02: // the endpoint is cleared: the host has stopped to stream
		d.halt(uint32(index & 0xf))
	case kind == 0x01 && index == soundStreaming: // another setting of the interface
		d.halt(audioEndpoint)
	case kind == 0x01 && index == streamingInterface:
		d.halt(videoEndpoint)
	}
	return make([]byte, 2), true // set configuration, get status and so on
}

func (d *dev) halt(ep uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pipe(ep).stop()
}

// streaming negotiates: what the host proposes is completed, what it commits to holds.
func (d *dev) streaming(what byte, data []byte) ([]byte, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch what {
	case setCurrent:
		d.probe = d.parameters(data)
		d.video.stop()
		return nil, true
	case getLength:
		return []byte{byte(len(d.probe)), 0}, true
	case getInfo:
		return []byte{3}, true
	case getDefault:
		return d.parameters(nil), true
	}
	return d.probe, true // current, least, most, step
}

// parameters are those of UVC 1.1 table 4-75 as the device makes them of what the host asks.
func (d *dev) parameters(asked []byte) []byte {
	b := make([]byte, 34)
	copy(b, asked)
	i := min(max(int(b[2]), 1), len(d.camera.Formats))
	f := d.camera.Formats[i-1]
	b[2], b[3] = byte(i), 1
	interval := binary.LittleEndian.Uint32(b[4:])
	if !slices.ContainsFunc(f.Rates, func(r int) bool { return uint32(10_000_000/r) == interval }) {
		interval = uint32(10_000_000 / f.Rates[0])
	}
	binary.LittleEndian.PutUint32(b[4:], interval)
	binary.LittleEndian.PutUint32(b[18:], f.frameSize())
	payload := uint32(maxPayload)
	if d.camera.Isochronous {
		payload = maxPackets
	}
	binary.LittleEndian.PutUint32(b[22:], payload)
	binary.LittleEndian.PutUint32(b[26:], 48_000_000)
	return b
}

// chosen returns what the host has committed to.
func (d *dev) chosen() (Format, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.camera.Formats[d.probe[2]-1], time.Duration(binary.LittleEndian.Uint32(d.probe[4:])) * 100
}
