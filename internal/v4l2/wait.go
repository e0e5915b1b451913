package v4l2

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Events say what a device is ready for.
type Events int16

// What poll(2) tells of a device.
const (
	Readable Events = unix.POLLIN  // a captured or coded buffer is done
	Writable Events = unix.POLLOUT // a buffer into the device is free again
	Urgent   Events = unix.POLLPRI // an event waits (Device.NextEvent)
	// Failed: the device is gone, or no queue streams, or one broke; DQBUF tells which.
	Failed Events = unix.POLLERR | unix.POLLHUP | unix.POLLNVAL
)

// A Waiter waits for one device. One goroutine uses it at a time; goroutines that wait for the same device have one each.
type Waiter struct {
	dev  *Device
	wake int // eventfd: the context ended
}

// NewWaiter returns a Waiter; the caller closes it.
func (d *Device) NewWaiter() (*Waiter, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return &Waiter{dev: d, wake: fd}, nil
}

// Close frees the Waiter. Nobody may be waiting.
func (w *Waiter) Close() error { return unix.Close(w.wake) }

// Wait blocks until the device is ready for one of want, or failed, and says for what; none after the limit (below 0: no
// limit). It returns the cause when ctx ends.
func (w *Waiter) Wait(ctx context.Context, want Events, limit time.Duration) (Events, error) {
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	if ctx.Done() != nil {
		signalled := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			unix.Write(w.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
			close(signalled)
		})
		defer func() {
			if !stop() {
				<-signalled
				unix.Read(w.wake, make([]byte, 8))
			}
		}()
	}
	deadline := time.Now().Add(limit)
	fds := []unix.PollFd{{Fd: int32(w.dev.fd), Events: int16(want)}, {Fd: int32(w.wake), Events: unix.POLLIN}}
	for {
		timeout := -1
		if limit >= 0 {
			timeout = int(max(0, time.Until(deadline)+time.Millisecond-1) / time.Millisecond)
		}
		_, err := unix.Poll(fds, timeout)
		if errors.Is(err, unix.EINTR) { // Go preempts threads by signals
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("poll %s: %w", w.dev.path, err)
		}
		if fds[1].Revents != 0 {
			return 0, context.Cause(ctx)
		}
		return Events(fds[0].Revents), nil
	}
}
