package udp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// Config describes one stream. It is comparable.
type Config struct {
	Addr      string `yaml:"addr"`      // host:port to receive at: an address of this machine, a multicast group, or empty host for any
	Interface string `yaml:"interface"` // network interface on which a group is joined; empty: the system's choice
}

// Default returns no address: what is received from is for people to say.
func Default() Config { return Config{} }

// SetDefaults makes c what Default returns.
func (c *Config) SetDefaults() { *c = Default() }

// Validate names every key that is wrong and says what is allowed.
func (c Config) Validate() error {
	if c == (Config{}) {
		return nil // not in use
	}
	var errs []error
	addr, err := c.address()
	if err != nil {
		errs = append(errs, fmt.Errorf("addr: %q is not address:port, such as 239.1.1.1:5000 or 0.0.0.0:5000", c.Addr))
	}
	if c.Interface != "" && err == nil && !addr.Addr().IsMulticast() {
		errs = append(errs, errors.New("interface: is for multicast groups alone"))
	}
	return errors.Join(errs...)
}

// address parses Addr; names are not looked up.
func (c Config) address() (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(c.Addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if host == "" {
		host = "::"
	}
	addr, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
	if err == nil && addr.Port() == 0 {
		err = errors.New("port 0")
	}
	return addr, err
}

// URL names the stream as other programs do.
func (c Config) URL() string { return "udp://" + c.Addr }

func (c Config) listen() (*net.UDPConn, error) {
	addr, err := c.address()
	if err != nil {
		return nil, err
	}
	var conn *net.UDPConn
	if at := net.UDPAddrFromAddrPort(addr); addr.Addr().IsMulticast() {
		var on *net.Interface
		if c.Interface != "" {
			if on, err = net.InterfaceByName(c.Interface); err != nil {
				return nil, fmt.Errorf("interface %s: %w", c.Interface, err)
			}
		}
		conn, err = net.ListenMulticastUDP("udp", on, at)
	} else {
		var any net.PacketConn
		if any, err = (&net.ListenConfig{}).ListenPacket(context.Background(), "udp", at.String()); err == nil {
			conn = any.(*net.UDPConn)
		}
	}
	if err != nil {
		return nil, err
	}
	_ = conn.SetReadBuffer(socketRoom) // as much as there is
	return conn, nil
}
