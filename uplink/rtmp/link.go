package rtmp

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gantry/internal/linkrate"
	"gantry/media"
	"gantry/uplink"
)

// unsentAtMost is how many bytes the kernel takes beyond what is on its way: what waits longer waits in the Queue, which
// knows how to drop to a key frame.
const unsentAtMost = 64 << 10

// latency is how old what TCP holds may grow before the link counts as congested.
const latency = 500 * time.Millisecond

// delayedAck is for how long a receiver may wait before it acknowledges a last segment, as Linux does (RFC 1122 §4.2.3.2). It
// shows where little is sent.
const delayedAck = 40 * time.Millisecond

// A link is the TCP connection below RTMP and TLS.
type link struct {
	mu      sync.Mutex
	conn    *net.TCPConn
	written uint64 // bytes handed to it so far
	marks   []mark // of what is not acknowledged
}

// mark notes when how much had been written.
type mark struct {
	at    time.Time
	bytes uint64
}

func (l *link) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	tcp := conn.(*net.TCPConn)
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentAtMost)
		})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		l.conn.Close() // the library dials again to authenticate
	}
	l.conn = tcp
	return tcp, nil
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		l.conn.Close()
	}
}

func (l *link) remote() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn.RemoteAddr().String()
}

func (l *link) deadline(d time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn.SetWriteDeadline(time.Now().Add(d))
}

// wrote notes how many bytes have been handed to TCP since the start.
func (l *link) wrote(bytes uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.written = bytes
	l.marks = append(l.marks, mark{time.Now(), bytes})
}

// sample reads the kernel's statistics.
func (l *link) sample(at time.Duration) (linkrate.Sample, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	raw, err := l.conn.SyscallConn()
	if err != nil {
		return linkrate.Sample{}, err
	}
	var info *unix.TCPInfo
	var infoErr error
	if err := raw.Control(func(fd uintptr) { info, infoErr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); err != nil {
		return linkrate.Sample{}, err
	}
	if infoErr != nil {
		return linkrate.Sample{}, infoErr
	}
	acked := min(info.Bytes_acked, l.written)
	for len(l.marks) > 0 && l.marks[0].bytes <= acked {
		l.marks = l.marks[1:]
	}
	// What came behind a hole has arrived, though it is not acknowledged (RFC 2018).
	pending := l.written - acked
	pending -= min(uint64(info.Sacked)*uint64(info.Snd_mss), pending)
	s := linkrate.Sample{At: at, RTT: time.Duration(info.Rtt) * time.Microsecond, Bytes: l.written, Pending: pending,
		Packets: uint64(info.Segs_out), Repeats: uint64(info.Total_retrans)}
	if len(l.marks) > 0 {
		s.Buffered = time.Since(l.marks[0].at)
	}
	return s, nil
}

// watch samples the link until ended is closed.
func (s *Sender) watch(l *link, p uplink.Program, ended <-chan struct{}) {
	est := linkrate.Estimator{Latency: latency, Slack: delayedAck, Exact: true}
	tick := time.NewTicker(linkrate.SampleEvery)
	defer tick.Stop()
	start := time.Now()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
		}
		sample, err := l.sample(time.Since(start))
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		stats := &uplink.Stats{Remote: l.remote(), RTT: sample.RTT, Buffered: sample.Buffered, Bytes: s.past + sample.Bytes - sample.Pending,
			Estimate: est.Next(sample)}
		s.stats.Store(stats)
		if stats.Estimate > 0 {
			p.Feedback(media.Feedback{Bitrate: stats.Estimate})
		}
	}
}
