// Package uevent hears from the kernel, and from udev where it runs, that a device has come: netlink(7), family
// NETLINK_KOBJECT_UEVENT.
//
// It says that something of a subsystem came, not what: who wants to know looks in /sys. So a message that is lost, late or forged
// (only root can send one) costs one look. It opens no device.
package uevent

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// An Event is what a message says.
type Event struct {
	Action    string // "add", "remove", "change", "bind", …
	Path      string // in /sys: "/devices/…/video4linux/video0"
	Subsystem string // "video4linux", "sound", "usb"
	Node      string // in /dev, where there is one: "video0"
}

const (
	kernelGroup = 1 << 0 // as it happens
	udevGroup   = 1 << 1 // when udev has set the node's permissions and made its links

	libudevMagic  = 0xfeedcafe
	libudevHeader = 24 // magic words, then where the properties begin and their length

	largest = 8 << 10 // the kernel's own limit is 2 KiB, udev's 8
)

var errFormat = errors.New("not a uevent")

// Parse reads a message of the kernel ("add@/devices/…", then KEY=VALUE, each ended by a zero byte) or of udev (a header, then the
// same).
func Parse(msg []byte) (e Event, err error) {
	if rest, ok := bytes.CutPrefix(msg, []byte("libudev\x00")); ok {
		if len(msg) < libudevHeader || binary.BigEndian.Uint32(rest) != libudevMagic {
			return Event{}, errFormat
		}
		at, n := uint64(binary.NativeEndian.Uint32(msg[16:])), uint64(binary.NativeEndian.Uint32(msg[20:]))
		if at < libudevHeader || at+n > uint64(len(msg)) {
			return Event{}, errFormat
		}
		msg = msg[at : at+n]
	} else {
		head, rest, ok := bytes.Cut(msg, []byte{0})
		if !ok || !bytes.Contains(head, []byte("@/")) {
			return Event{}, errFormat
		}
		msg = rest
	}
	for part := range bytes.SplitSeq(msg, []byte{0}) {
		key, value, _ := bytes.Cut(part, []byte("="))
		switch string(key) {
		case "ACTION":
			e.Action = string(value)
		case "DEVPATH":
			e.Path = string(value)
		case "SUBSYSTEM":
			e.Subsystem = string(value)
		case "DEVNAME":
			e.Node = string(bytes.TrimPrefix(value, []byte("/dev/"))) // udev gives the whole path
		}
	}
	if e.Action == "" || e.Path == "" || e.Subsystem == "" {
		return Event{}, errFormat
	}
	return e, nil
}

// A Listener tells when devices come. Any goroutine may call Came.
type Listener struct {
	file *os.File

	mu   sync.Mutex
	came map[string]chan struct{} // by subsystem
}

// Listen begins to listen; what comes from now on is told. The caller calls Run.
func Listen() (*Listener, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("listen for devices: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup | udevGroup}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen for devices: %w", err)
	}
	return &Listener{file: os.NewFile(uintptr(fd), "uevent"), came: map[string]chan struct{}{}}, nil
}

// Came delivers a value after a device of the subsystem has come or changed; several in a row may be one value. There is one
// channel for each subsystem, always the same, for one receiver.
func (l *Listener) Came(subsystem string) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.came[subsystem]
	if c == nil {
		c = make(chan struct{}, 1)
		l.came[subsystem] = c
	}
	return c
}

// tell wakes who waits for a subsystem; for all of them when it is empty.
func (l *Listener) tell(subsystem string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s, c := range l.came {
		if s != subsystem && subsystem != "" {
			continue
		}
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Run listens until ctx ends, and then closes the Listener.
func (l *Listener) Run(ctx context.Context) error {
	defer l.file.Close()
	stop := context.AfterFunc(ctx, func() { l.file.Close() })
	defer stop()
	buf := make([]byte, largest)
	for {
		n, err := l.file.Read(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS): // more than the socket holds: nobody knows what was among it
			l.tell("")
			continue
		case err != nil:
			return fmt.Errorf("listen for devices: %w", err)
		}
		if e, err := Parse(buf[:n]); err == nil && e.Action != "remove" {
			l.tell(e.Subsystem)
		}
	}
}
