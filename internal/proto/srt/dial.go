package srt

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	gosrt "github.com/datarhei/gosrt"
	"github.com/datarhei/gosrt/packet"
)

// gosrt's caller reads its socket in a goroutine that ends by handing its reason to whoever reads or writes next, or to Close if
// it is at that already. Of calls that fail, where there is nobody, some come too early with Close (nearly all that are given up
// at once, one in ten that get no answer), and the goroutine stays for ever with 50 KB. It looks whether it shall end whenever a
// packet comes or its read deadline passes, so the socket is closed safely only after that.
const (
	readDeadline = 3 * time.Second // gosrt's own
	margin       = 100 * time.Millisecond
)

// Dial calls an SRT listener as gosrt.DialWithContext does, and leaves no goroutine behind: neither when it fails nor after the
// Conn's Close, which waits for them. A call that fails for lack of an answer or because ctx ends returns at once, and gosrt's
// part of it is gone three seconds later; a refusal takes these three seconds to return.
func Dial(ctx context.Context, addr string, c gosrt.Config) (gosrt.Conn, error) {
	l := &lingering{failing: make(chan struct{})}
	c.Logger = l
	type result struct {
		conn gosrt.Conn
		err  error
	}
	done := make(chan result, 1)
	begun := time.Now()
	go func() {
		c, err := gosrt.DialWithContext(ctx, "srt", addr, c)
		l.connected.Store(err == nil)
		done <- result{c, err}
	}()
	var r result
	select {
	case r = <-done:
	case <-l.failing:
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if time.Since(begun) >= c.ConnectionTimeout {
			return nil, errors.New("no answer in time")
		}
		r = <-done
	}
	if r.err != nil {
		return nil, r.err
	}
	return &conn{Conn: r.conn}, nil
}

// A lingering is the gosrt.Logger of one call. It logs nothing: it is the one place at which gosrt lets others in between its
// decision to end and the closing of the socket, and it waits there while the call is not connected.
type lingering struct {
	failing   chan struct{} // closed when the call has failed
	connected atomic.Bool
}

func (l *lingering) Print(topic string, _ uint32, _ int, message func() string) {
	if topic == "dial" && !l.connected.Load() && message() == "closing socket" { // once in a call
		close(l.failing)
		<-time.After(readDeadline + margin)
	}
}

func (l *lingering) HasTopic(topic string) bool { return topic == "dial" }
func (l *lingering) Listen() <-chan gosrt.Log   { return nil }
func (l *lingering) Close()                     {}

// A conn is a connected caller.
type conn struct {
	gosrt.Conn
	ended atomic.Bool // the goroutine has handed over why
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.note(err)
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.note(err)
	return n, err
}

func (c *conn) note(err error) {
	var socket *net.OpError
	if errors.Is(err, gosrt.ErrClientClosed) || errors.As(err, &socket) {
		c.ended.Store(true)
	}
}

// Close ends the connection and fetches the reason.
func (c *conn) Close() error {
	err := c.Conn.Close()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	nothing := packet.NewPacket(nil)
	nothing.Header().IsControlPacket = true
	defer nothing.Decommission()
	for begun := time.Now(); !c.ended.Load() && time.Since(begun) < readDeadline; <-tick.C {
		c.note(c.Conn.WritePacket(nothing)) // looks for the reason first; control packets are not for users to send
	}
	return err
}
