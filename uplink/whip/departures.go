package whip

import (
	"time"

	"github.com/pion/rtcp"

	"gantry/internal/linkrate"
)

// remembered is how many packets' departures are kept: two seconds of 20 Mbit/s. A power of two.
const remembered = 4096

// tick is the unit of a report's reference time.
const tick = 64 * time.Millisecond

// departures remembers when packets left, by their transport-wide sequence numbers, and turns the receiver's reports into
// arrivals (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).
type departures struct {
	packets   [remembered]departure
	begun     bool
	reference uint32        // of the last report, 24 bits
	zero      time.Duration // reference time of the last report, without wraps
	arrivals  []linkrate.Arrival
	missing   []missing // of the last report
}

// A missing packet is one that a report calls lost.
type missing struct {
	lane *lane
	seq  uint16
}

type departure struct {
	at       time.Duration
	bytes    int
	seq      uint16 // transport-wide
	lane     *lane  // nil: of what is not sent again
	original uint16 // sequence number in its history
	out      bool   // and nothing said of it
}

func (d *departures) add(p departure) {
	p.out = true
	d.packets[p.seq%remembered] = p
}

// report returns what p says of packets for the first time, in the order of their sequence numbers. The slice is valid until the
// next call.
func (d *departures) report(p *rtcp.TransportLayerCC) []linkrate.Arrival {
	if d.begun {
		d.zero += time.Duration(int32((p.ReferenceTime-d.reference)<<8)>>8) * tick
	}
	d.begun, d.reference = true, p.ReferenceTime
	d.arrivals, d.missing = d.arrivals[:0], d.missing[:0]
	seq, left, at, deltas := p.BaseSequenceNumber, int(p.PacketStatusCount), d.zero, p.RecvDeltas
	status := func(symbol uint16) {
		if left == 0 {
			return
		}
		left--
		one := &d.packets[seq%remembered]
		known := one.out && one.seq == seq
		seq++
		a := linkrate.Arrival{Sent: one.at, Bytes: one.bytes, Lost: symbol == rtcp.TypeTCCPacketNotReceived}
		if !a.Lost {
			if symbol == rtcp.TypeTCCPacketReceivedWithoutDelta || len(deltas) == 0 {
				return // it came, and nobody knows when
			}
			at += time.Duration(deltas[0].Delta) * time.Microsecond
			a.Arrived, deltas = at, deltas[1:]
		}
		if known {
			one.out = false
			switch {
			case one.lane == nil:
			case a.Lost:
				d.missing = append(d.missing, missing{one.lane, one.original})
			default:
				one.lane.history.arrived(one.original)
			}
			d.arrivals = append(d.arrivals, a)
		}
	}
	for _, chunk := range p.PacketChunks {
		switch c := chunk.(type) {
		case *rtcp.RunLengthChunk:
			for range min(int(c.RunLength), left) {
				status(c.PacketStatusSymbol)
			}
		case *rtcp.StatusVectorChunk:
			for _, s := range c.SymbolList {
				status(s)
			}
		}
	}
	return d.arrivals
}
