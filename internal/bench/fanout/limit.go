package main

import (
	"bufio"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"time"
	"unsafe"

	"github.com/pion/rtp/codecs"
	"golang.org/x/sys/unix"

	"gantry/internal/bench/load"
)

// limit is the least that fanning out can cost here: one thread that encrypts each packet for each receiver with AES-GCM and
// sends the packets of a picture by UDP_SEGMENT, many receivers by one sendmmsg. It knows no session, no loss, no clock but the
// pictures' own. It reads the receivers' addresses from its standard input, one a line.
func limit(ctx context.Context, file string) error {
	runtime.LockOSThread()
	picture, err := load.NewPicture(ctx, 0, 0, file) // it is there
	if err != nil {
		return err
	}
	var names []unix.RawSockaddrInet4
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		a, err := netip.ParseAddrPort(in.Text())
		if err != nil {
			return err
		}
		n := unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: a.Addr().As4()}
		binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&n.Port))[:], a.Port())
		names = append(names, n)
	}
	var key [16]byte
	_, _ = rand.Read(key[:])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 8<<20)
	s := &bareSender{fd: fd, gcm: gcm, names: names, buf: make([]byte, 256<<10)}
	pack := &codecs.H264Payloader{}
	ticker := time.NewTicker(time.Second / time.Duration(picture.Rate))
	defer ticker.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		stamp := uint32(time.Now().UnixMicro()) // its RTP time, which is not encrypted
		payloads := pack.Payload(1200-12, load.Stamped(picture.Units[i%len(picture.Units)], time.Now()))
		if err := s.send(payloads, load.VideoType, stamp); err != nil {
			return err
		}
		if err := s.send(load.Silence, load.SoundType, stamp); err != nil { // as the publisher does
			return err
		}
	}
}

// bareSender is a plain loop on purpose: it shares no code with the relay that it is compared to.
type bareSender struct {
	fd    int
	gcm   cipher.AEAD
	names []unix.RawSockaddrInet4
	buf   []byte
	seq   uint64
	nonce [12]byte
	heads [64]struct {
		unix.Msghdr
		n uint32
	}
	iovs [64]unix.Iovec
	ctls [64][unix.SizeofCmsghdr + 8]byte
}

// send sends one picture, or sound, to everybody.
func (s *bareSender) send(payloads [][]byte, kind byte, ts uint32) error {
	used, n := 0, 0
	first := s.seq
	for r := range s.names {
		s.seq = first
		size, total, count, closed := 0, 0, 0, true
		for i, payload := range payloads {
			need := 12 + len(payload) + 16
			if used+need > len(s.buf) || n == len(s.heads) && (closed || need > size || total+need > 65000) {
				s.end(n-1, size, total, count)
				if err := s.flush(n); err != nil {
					return err
				}
				used, n, closed = 0, 0, true
			}
			if closed || need > size || count == 64 || total+need > 65000 {
				if n > 0 && count > 0 {
					s.end(n-1, size, total, count)
				}
				s.iovs[n].Base = &s.buf[used]
				s.heads[n].Name, s.heads[n].Namelen = (*byte)(unsafe.Pointer(&s.names[r])), unix.SizeofSockaddrInet4
				size, total, count, closed = need, 0, 0, false
				n++
			}
			b := s.buf[used : used+12]
			s.seq++
			b[0], b[1] = 0x80, kind
			if i == len(payloads)-1 {
				b[1] |= 0x80
			}
			binary.BigEndian.PutUint16(b[2:], uint16(s.seq))
			binary.BigEndian.PutUint32(b[4:], ts)
			binary.BigEndian.PutUint32(b[8:], uint32(r))
			binary.BigEndian.PutUint32(s.nonce[:], uint32(r))
			binary.BigEndian.PutUint64(s.nonce[4:], s.seq)
			s.gcm.Seal(b, s.nonce[:], payload, b)
			used, total, count = used+need, total+need, count+1
			closed = need < size
		}
		if count > 0 {
			s.end(n-1, size, total, count)
		}
		if n == len(s.heads) {
			if err := s.flush(n); err != nil {
				return err
			}
			used, n = 0, 0
		}
	}
	return s.flush(n)
}

func (s *bareSender) end(i, size, total, count int) {
	h := &s.heads[i]
	s.iovs[i].SetLen(total)
	h.Iov = &s.iovs[i]
	h.SetIovlen(1)
	h.Control = nil
	h.SetControllen(0)
	if count > 1 {
		c := (*unix.Cmsghdr)(unsafe.Pointer(&s.ctls[i]))
		c.Level, c.Type = unix.SOL_UDP, unix.UDP_SEGMENT
		c.SetLen(unix.CmsgLen(2))
		*(*uint16)(unsafe.Pointer(&s.ctls[i][unix.SizeofCmsghdr])) = uint16(size)
		h.Control = &s.ctls[i][0]
		h.SetControllen(unix.CmsgSpace(2))
	}
}

func (s *bareSender) flush(n int) error {
	for done := 0; done < n; {
		k, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.heads[done])), uintptr(n-done), 0, 0, 0)
		if errno != 0 {
			return fmt.Errorf("sendmmsg: %w", errno)
		}
		done += int(k)
	}
	return nil
}
