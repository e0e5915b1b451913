package rtc

import (
	"fmt"
	"sync"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

const (
	// replayWindow is how many packets back a retransmission may reach that is sent as the same packet again, without RTX.
	replayWindow = 4096
	// maxEarly bounds what is kept of media that comes before the handshake is done: a key frame's packets can overtake its end.
	maxEarly = 256
)

// inbound decrypts what a Peer receives, on the goroutine that has read it: no queue, no goroutine of its own.
type inbound struct {
	events Events

	mu     sync.Mutex
	open   *srtp.Context // nil before the handshake is done
	early  [][]byte
	plain  []byte
	header rtp.Header
}

// unlock begins to decrypt with keys, what came early first.
func (in *inbound) unlock(keys Keys) error {
	open, err := keys.open()
	if err != nil {
		return fmt.Errorf("make SRTP context: %w", err)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.open = open
	for _, b := range in.early {
		in.take(b)
	}
	in.early = nil
	return nil
}

// receive takes a packet of SRTP or SRTCP (RFC 5761 §4).
func (in *inbound) receive(b []byte) {
	if len(b) < 8 {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.open != nil:
		in.take(b)
	case in.events.RTP != nil && len(in.early) < maxEarly:
		in.early = append(in.early, append([]byte(nil), b...))
	}
}

// take decrypts b and hands it on. What is forged, replayed or damaged is dropped.
func (in *inbound) take(b []byte) {
	if b[1] >= 192 && b[1] <= 223 {
		if plain, err := in.open.DecryptRTCP(in.plain[:0], b, nil); err == nil {
			in.plain = plain
			in.events.RTCP(plain)
		}
		return
	}
	if in.events.RTP == nil {
		return
	}
	in.header = rtp.Header{Extensions: in.header.Extensions[:0], CSRC: in.header.CSRC[:0]}
	if plain, err := in.open.DecryptRTP(in.plain[:0], b, &in.header); err == nil {
		in.plain = plain
		in.events.RTP(plain, &in.header)
	}
}
