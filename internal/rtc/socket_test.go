package rtc

import (
	"net"
	"testing"
	"time"
)

// Sockets that send from the same address take nothing of what arrives there, whoever sends it.
func TestSendersReceiveNothing(t *testing.T) {
	s, err := openSocket("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	p := &Port{sockets: []*socket{s}}
	var batches []*Batch
	for range 4 {
		b, err := p.NewBatch()
		if err != nil {
			t.Fatal(err)
		}
		batches = append(batches, b)
	}
	if !s.out.open() {
		t.Log("this kernel does not share addresses: senders share the descriptor")
	}
	var clients []*net.UDPConn
	for i := range 40 {
		c, err := net.DialUDP("udp4", nil, s.LocalAddr().(*net.UDPAddr))
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
		if _, err := c.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 100)
	_ = s.SetReadDeadline(time.Now().Add(5 * time.Second))
	for i := range clients {
		if _, _, err := s.ReadFromAddrPort(buf); err != nil {
			t.Fatalf("packet %d: %v", i, err)
		}
	}
	// And what they send comes from the address that is read.
	path := UDPPath(clients[7].LocalAddr().(*net.UDPAddr).AddrPort())
	for _, b := range batches {
		b.To(&path, 0)
		b.Put(len(append(b.Room(5), "hello"...)))
		b.Flush()
		_ = clients[7].SetReadDeadline(time.Now().Add(5 * time.Second))
		if n, err := clients[7].Read(buf); err != nil || string(buf[:n]) != "hello" {
			t.Fatalf("%q, %v", buf[:n], err)
		}
	}
	for _, b := range batches {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, c := range clients {
		_ = c.Close()
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	again, err := net.ListenUDP("udp4", s.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatalf("the address is still taken: %v", err)
	}
	_ = again.Close()
}
