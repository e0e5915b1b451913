package serial

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	line "go.bug.st/serial"
	"golang.org/x/sys/unix"
)

// ErrNoReply is returned when a camera said nothing to a message in time: not connected, off, or at another speed or address.
var ErrNoReply = errors.New("no reply")

// A Config says which port and which camera on it.
type Config struct {
	Port    string        // a device such as "/dev/ttyUSB0"
	Baud    int           // bit/s; 0: 9600, which cameras have unless switched to 38400
	Address Address       // 0: 1
	Timeout time.Duration // for the reply to one message; 0: 1 s
}

// A Camera is one camera on a serial port. Its methods may be called from several goroutines; they take turns, and each waits for at
// most the timeout of Config once it is its turn. A command returns when the camera accepted it, not when the movement ended.
type Camera struct {
	config Config
	log    *slog.Logger

	mu       sync.Mutex
	port     line.Port
	closed   bool
	received []byte
}

// Open opens the port, 8 bits, no parity, one stop bit, no flow control, and sends nothing. The caller closes the Camera.
//
// A port without modem lines, such as an RS-422 adapter may be, is used all the same; a warning says so.
func Open(c Config, log *slog.Logger) (*Camera, error) {
	c.Baud, c.Address, c.Timeout = cmp.Or(c.Baud, 9600), cmp.Or(c.Address, 1), cmp.Or(c.Timeout, time.Second)
	if c.Address > maxAddress || c.Timeout < 0 {
		return nil, fmt.Errorf("open %s: camera address %d, timeout %v: want 1 to %d, more than 0", c.Port, c.Address, c.Timeout, maxAddress)
	}
	port, err := line.Open(c.Port, &line.Mode{BaudRate: c.Baud, DataBits: 8, Parity: line.NoParity, StopBits: line.OneStopBit})
	if err != nil {
		return nil, fmt.Errorf("open %s at %d bit/s: %w", c.Port, c.Baud, err)
	}
	log = log.With("device", c.Port)
	// Some cameras listen only while DTR says that somebody is there.
	switch err := port.SetDTR(true); {
	case errors.Is(err, unix.ENOTTY), errors.Is(err, unix.EINVAL):
		log.Warn("serial port has no modem lines", "err", err)
	case err != nil:
		return nil, errors.Join(fmt.Errorf("set DTR of %s: %w", c.Port, err), port.Close())
	}
	return &Camera{config: c, log: log, port: port}, nil
}

// Close closes the port, after the message that is waited for.
func (c *Camera) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if err := c.port.Close(); err != nil {
		return fmt.Errorf("close %s: %w", c.config.Port, err)
	}
	return nil
}

// AssignAddresses gives the cameras of the line their addresses and returns how many there are, 0 to 7.
func (c *Camera) AssignAddresses() (int, error) {
	r, err := c.exchange(AddressSet(), func(r Reply) bool { return r.Kind == Addressed })
	if err != nil {
		return 0, fmt.Errorf("assign addresses: %w", err)
	}
	return int(r.Data[0]) - 1, nil
}

// Do sends a command and waits until the camera accepts it. A refusal is a Code, silence is ErrNoReply.
func (c *Camera) Do(m Message) error {
	p, err := m.Packet(c.config.Address)
	if err != nil {
		return err
	}
	_, err = c.exchange(p, func(r Reply) bool { return r.From == c.config.Address && r.Kind == Acknowledged })
	return err
}

// Power returns whether the camera is on, rather than in standby.
func (c *Camera) Power() (bool, error) {
	data, err := c.inquire(InquirePower)
	if err != nil {
		return false, fmt.Errorf("inquire power: %w", err)
	}
	return parsePower(data)
}

// Zoom returns the position of the zoom, 0 for wide.
func (c *Camera) Zoom() (int, error) {
	data, err := c.inquire(InquireZoom)
	if err != nil {
		return 0, fmt.Errorf("inquire zoom: %w", err)
	}
	return parseZoom(data)
}

// Position returns where the camera looks, in its own steps, right and up from home.
func (c *Camera) Position() (pan, tilt int, err error) {
	data, err := c.inquire(InquirePosition)
	if err != nil {
		return 0, 0, fmt.Errorf("inquire position: %w", err)
	}
	return parsePosition(data)
}

func (c *Camera) inquire(m Message) ([]byte, error) {
	p, err := m.Packet(c.config.Address)
	if err != nil {
		return nil, err
	}
	// Socket 0 alone: other completions are those of earlier commands.
	r, err := c.exchange(p, func(r Reply) bool {
		return r.From == c.config.Address && r.Kind == Completed && r.Socket == 0
	})
	return r.Data, err
}

// exchange sends a packet and returns the first reply that is wanted.
func (c *Camera) exchange(packet []byte, wanted func(Reply) bool) (Reply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed { // the library would write to the descriptor's number, whoever has it now
		return Reply{}, fmt.Errorf("write to %s: %w", c.config.Port, os.ErrClosed)
	}
	// What came since the last message belongs to none that anybody waits for.
	c.received = nil
	if err := c.port.ResetInputBuffer(); err != nil {
		return Reply{}, fmt.Errorf("flush %s: %w", c.config.Port, err)
	}
	if n, err := c.port.Write(packet); err != nil {
		return Reply{}, fmt.Errorf("write to %s: %w", c.config.Port, err)
	} else if n < len(packet) {
		return Reply{}, fmt.Errorf("write to %s: %d of %d bytes went out", c.config.Port, n, len(packet))
	}
	var odd error // what came that was no reply
	for deadline := time.Now().Add(c.config.Timeout); ; {
		p, err := c.read(deadline)
		if err != nil {
			return Reply{}, errors.Join(err, odd)
		}
		r, err := ParseReply(p)
		switch {
		case err != nil:
			odd = err // an echo of a two-wire line, or noise
		case wanted(r):
			return r, nil
		case r.Kind == Refused && r.From == c.config.Address && r.Code != Cancelled:
			return Reply{}, r.Code
		case r.Kind == NetworkChange:
			c.log.Warn("cameras on the line changed: addresses are to be assigned")
		}
	}
}

// read returns the next packet.
func (c *Camera) read(deadline time.Time) ([]byte, error) {
	for {
		var p []byte
		if p, c.received = nextPacket(c.received); p != nil {
			return p, nil
		}
		left := time.Until(deadline)
		if left <= 0 {
			return nil, fmt.Errorf("%w from camera %d on %s in %v", ErrNoReply, c.config.Address, c.config.Port, c.config.Timeout)
		}
		if err := c.port.SetReadTimeout(left); err != nil {
			return nil, fmt.Errorf("set timeout of %s: %w", c.config.Port, err)
		}
		buf := make([]byte, maxPacket)
		n, err := c.port.Read(buf)
		if err != nil {
			return nil, fmt.Errorf("read from %s: %w", c.config.Port, err)
		}
		c.received = append(c.received, buf[:n]...)
	}
}
