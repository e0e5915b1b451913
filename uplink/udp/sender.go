// Package udp sends the programme as an MPEG transport stream in UDP datagrams of up to 7 × 188 bytes, to one address or a multicast
// group. It implements uplink.Sender. There is no answer: nobody says whether anything arrives.
package udp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gantry/internal/proto/mpegts"
	"gantry/media"
	"gantry/uplink"
)

// Carries are the codecs that MPEG-TS has here, the sound that it likes best first.
var Carries = []media.Codec{media.H264, media.H265, media.AAC, media.Opus}

const (
	burst  = 4                     // datagrams that leave at once
	spread = 15 * time.Millisecond // over which a large picture's leave, at the most
)

// Config says where to. It is comparable.
type Config struct {
	Addr      string `yaml:"addr"`      // host:port; a multicast group goes to whoever has joined
	Interface string `yaml:"interface"` // network interface for a multicast group; empty: the system's choice
	TTL       int    `yaml:"ttl"`       // of multicast: how many routers it passes
}

// Default returns all but Addr.
func Default() Config { return Config{TTL: 1} }

// SetDefaults makes c what Default returns.
func (c *Config) SetDefaults() { *c = Default() }

// Validate names every key that is wrong and says what is allowed.
func (c Config) Validate() error {
	var errs []error
	addr, err := netip.ParseAddrPort(c.Addr)
	if err != nil || addr.Port() == 0 || addr.Addr().IsUnspecified() {
		errs = append(errs, fmt.Errorf("addr: want address:port, such as 239.1.1.1:5000 or 192.0.2.7:5000, got %q", c.Addr))
	} else if c.Interface != "" && !addr.Addr().IsMulticast() {
		errs = append(errs, errors.New("interface: is for multicast groups alone"))
	}
	if c.TTL < 0 || c.TTL > 255 {
		errs = append(errs, fmt.Errorf("ttl: %d is not from 0 to 255", c.TTL))
	}
	return errors.Join(errs...)
}

// A Sender sends to one address. It implements uplink.Sender and uplink.Reporter.
type Sender struct {
	config  Config
	log     *slog.Logger
	packets atomic.Uint64
	bytes   atomic.Uint64
	dropped atomic.Uint64
}

var (
	_ uplink.Sender   = (*Sender)(nil)
	_ uplink.Reporter = (*Sender)(nil)
)

// New returns a Sender for a valid Config. It opens nothing.
func New(c Config, log *slog.Logger) *Sender { return &Sender{config: c, log: log} }

// Stats implements uplink.Reporter. Dropped counts datagrams that the kernel did not take.
func (s *Sender) Stats() uplink.Stats {
	return uplink.Stats{Remote: s.config.Addr, Packets: s.packets.Load(), Bytes: s.bytes.Load(), Dropped: s.dropped.Load()}
}

// dial opens the socket.
func (c Config) dial() (*net.UDPConn, error) {
	addr, err := netip.ParseAddrPort(c.Addr)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{}
	if addr.Addr().IsMulticast() {
		index := 0
		if c.Interface != "" {
			on, err := net.InterfaceByName(c.Interface)
			if err != nil {
				return nil, fmt.Errorf("interface %s: %w", c.Interface, err)
			}
			index = on.Index
		}
		d.Control = func(_, _ string, raw syscall.RawConn) (err error) {
			failed := raw.Control(func(fd uintptr) { err = multicast(int(fd), addr.Addr().Is4(), index, c.TTL) })
			return errors.Join(failed, err)
		}
	}
	conn, err := d.Dial("udp", c.Addr)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

func multicast(fd int, v4 bool, index, ttl int) error {
	if !v4 {
		err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, ttl)
		if index != 0 {
			err = errors.Join(err, unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, index))
		}
		return err
	}
	err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, ttl)
	if index != 0 {
		err = errors.Join(err, unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(index)}))
	}
	return err
}

// Run implements uplink.Sender.
func (s *Sender) Run(ctx context.Context, p uplink.Program) error {
	conn, err := s.config.dial()
	if err != nil {
		return fmt.Errorf("send to %s: %w", s.config.Addr, err)
	}
	defer conn.Close()
	var unit datagrams
	ts, err := mpegts.NewWriter(&unit, p.Tracks)
	if err != nil {
		return err
	}
	begun := false
	for {
		pkt, err := p.Packets.Pull(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		unit.reset()
		if err := ts.Write(pkt); err != nil {
			return fmt.Errorf("send to %s: %w", s.config.Addr, err)
		}
		s.send(ctx, conn, &unit)
		if !begun {
			begun = true
			if p.Connected != nil {
				p.Connected()
			}
		}
	}
}

// send sends one access unit's datagrams, a large one's spread over some time: a burst at line rate is what switches and
// receivers lose.
func (s *Sender) send(ctx context.Context, conn *net.UDPConn, unit *datagrams) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	bursts := (len(unit.ends) + burst - 1) / burst
	from := 0
	for i, end := range unit.ends {
		if i > 0 && i%burst == 0 {
			<-pause.C
			pause.Reset(min(spread/time.Duration(bursts), time.Millisecond))
			if ctx.Err() != nil {
				return
			}
		}
		n, err := conn.Write(unit.data[from:end])
		from = end
		if err != nil { // nobody listens there now (ICMP), or the kernel has no room: there is no connection to lose
			s.dropped.Add(1)
			continue
		}
		s.packets.Add(1)
		s.bytes.Add(uint64(n))
	}
}

// datagrams gathers one access unit's.
type datagrams struct {
	data []byte
	ends []int
}

func (d *datagrams) Write(b []byte) (int, error) {
	d.data = append(d.data, b...)
	d.ends = append(d.ends, len(d.data))
	return len(b), nil
}

func (d *datagrams) reset() { d.data, d.ends = d.data[:0], d.ends[:0] }
