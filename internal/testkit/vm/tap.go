package vm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// A link is a tap device of the host, up and addressed. It is not persistent: it vanishes with the last descriptor of file.
type link struct {
	file        *os.File
	name        string
	host, guest netip.Addr
}

// newLink makes a tap device with a /30 that no interface of the host uses.
func newLink() (*link, error) {
	host, guest, err := freeSubnet()
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w (the guest's network needs root and the tun driver)", err)
	}
	ifr, _ := unix.NewIfreq("gantry%d") // the kernel numbers it
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make a tap device: %w (the guest's network needs root)", err)
	}
	l := &link{file: os.NewFile(uintptr(fd), "tap"), name: ifr.Name(), host: host, guest: guest}
	if err := l.up(); err != nil {
		l.file.Close()
		return nil, fmt.Errorf("bring up %s: %w", l.name, err)
	}
	return l, nil
}

// up gives the host's end its address and switches it on.
func (l *link) up() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	ifr, err := unix.NewIfreq(l.name)
	if err != nil {
		return err
	}
	address := l.host.As4()
	if err := ifr.SetInet4Addr(address[:]); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(s, unix.SIOCSIFADDR, ifr); err != nil {
		return fmt.Errorf("set address: %w", err)
	}
	if err := ifr.SetInet4Addr([]byte{255, 255, 255, 252}); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(s, unix.SIOCSIFNETMASK, ifr); err != nil {
		return fmt.Errorf("set netmask: %w", err)
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("switch on: %w", err)
	}
	return nil
}

// freeSubnet picks a random /30 of 198.18.0.0/15 beside those in use; two machines that start at once hardly meet in 32768.
func freeSubnet() (host, guest netip.Addr, err error) {
	used, err := net.InterfaceAddrs()
	if err != nil {
		return host, guest, err
	}
next:
	for range 100 {
		base := uint32(198)<<24 | 18<<16 | uint32(rand.IntN(1<<15))<<2
		at := func(i uint32) netip.Addr {
			return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, base+i)))
		}
		for _, a := range used {
			if n, ok := a.(*net.IPNet); ok && n.Contains(at(1).AsSlice()) {
				continue next
			}
		}
		return at(1), at(2), nil
	}
	return host, guest, errors.New("find a free /30 in 198.18.0.0/15: all tried ones are in use")
}
