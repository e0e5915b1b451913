package srt

import (
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	gosrt "github.com/datarhei/gosrt"

	"gantry/internal/linkrate"
	"gantry/internal/proto/mpegts"
	"gantry/media"
	"gantry/uplink"
)

// A peer is one SRT connection and what is on its way to it.
type peer struct {
	conn    gosrt.Conn
	ts      *mpegts.Writer
	gone    chan struct{} // closed when the connection has ended
	needKey bool          // video is dropped until a key frame
	tracks  []media.Track
	full    uint64 // packets dropped for gosrt's full queue
	est     linkrate.Estimator
	stats   gosrt.Statistics
}

func newPeer(conn gosrt.Conn, p uplink.Program, latency time.Duration) (*peer, error) {
	ts, err := mpegts.NewWriter(conn, p.Tracks)
	if err != nil {
		return nil, err
	}
	l := &peer{conn: conn, ts: ts, gone: make(chan struct{}), needKey: true, tracks: p.Tracks, est: linkrate.Estimator{Latency: latency}}
	go l.drain()
	return l, nil
}

// drain reads what nobody should send, to learn of the end: gosrt tells readers only.
func (l *peer) drain() {
	defer close(l.gone)
	buf := make([]byte, 2048)
	for {
		if _, err := l.conn.Read(buf); err != nil {
			return
		}
	}
}

func (l *peer) ended() bool {
	select {
	case <-l.gone:
		return true
	default:
		return false
	}
}

// write sends one packet and tells whether the peer now waits for a key frame. gosrt's Write says io.EOF when its queue is
// full as well as when the connection has ended; the first costs pictures up to the next key frame and no more.
func (l *peer) write(p *media.Packet) (wantKey bool) {
	video := l.tracks[p.Track].Codec.Video()
	if video && l.needKey {
		if !p.Key {
			return true
		}
		l.needKey = false
	}
	if err := l.ts.Write(p); err != nil && !l.ended() {
		if !errors.Is(err, io.EOF) {
			l.conn.Close()
			return false
		}
		l.full++
		l.needKey = l.needKey || video
		return video
	}
	return false
}

func (l *peer) sample(at time.Duration) uplink.Stats {
	l.conn.Stats(&l.stats)
	a, now := &l.stats.Accumulated, &l.stats.Instantaneous
	s := uplink.Stats{
		RTT:      time.Duration(now.MsRTT * float64(time.Millisecond)),
		Remote:   l.conn.RemoteAddr().String(),
		Buffered: time.Duration(now.MsSendBuf) * time.Millisecond,
		Packets:  a.PktSent, Retransmitted: a.PktRetrans, Dropped: a.PktSendDrop + l.full, Bytes: a.ByteSentUnique,
	}
	s.Estimate = l.est.Next(linkrate.Sample{At: at, RTT: s.RTT, Buffered: s.Buffered, Bytes: a.ByteSentUnique, Pending: now.ByteSendBuf,
		Packets: a.PktSent, Repeats: a.PktRetrans, Lost: a.ByteSendDrop, Dropped: s.Dropped})
	return s
}

func (l *peer) close() {
	l.conn.Close()
	<-l.gone
}

// peers are the connections of one Sender.
type peers struct {
	mu   sync.Mutex
	list []*peer
}

func (ps *peers) add(l *peer) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.list = append(ps.list, l)
}

// write sends to all and tells whether one of them waits for a key frame.
func (ps *peers) write(p *media.Packet) (wantKey bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.list = slices.DeleteFunc(ps.list, func(l *peer) bool {
		if l.ended() {
			l.close()
			return true
		}
		wantKey = l.write(p) || wantKey
		return false
	})
	return wantKey
}

// sample adds up counters and takes the worst of the rest.
func (ps *peers) sample(at time.Duration) uplink.Stats {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	all := uplink.Stats{Peers: len(ps.list)}
	for _, l := range ps.list {
		s := l.sample(at)
		all.Packets += s.Packets
		all.Retransmitted += s.Retransmitted
		all.Dropped += s.Dropped
		all.Bytes += s.Bytes
		all.Remote, all.Loss = s.Remote, max(all.Loss, s.Loss)
		all.RTT, all.Buffered = max(all.RTT, s.RTT), max(all.Buffered, s.Buffered)
		if s.Estimate > 0 && (all.Estimate == 0 || s.Estimate < all.Estimate) {
			all.Estimate = s.Estimate
		}
	}
	return all
}

func (ps *peers) close() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, l := range ps.list {
		l.close()
	}
	ps.list = nil
}
