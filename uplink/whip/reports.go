package whip

import (
	"io"

	"github.com/pion/rtcp"
	"github.com/pion/transport/v4/packetio"
)

const (
	reportsLimit = 100_000 // bytes of RTCP that wait for a stream's reader
	streamLimit  = 1_000_000
)

// reportBuffers makes the buffers in which pion puts what comes for each stream, and gives transport-wide reports to take before
// they get there. A report is of all streams but is addressed to one: often to that of the retransmissions, which nobody reads.
func reportBuffers(take func(rtcp.Packet)) func(packetio.BufferPacketType, uint32) io.ReadWriteCloser {
	return func(kind packetio.BufferPacketType, _ uint32) io.ReadWriteCloser {
		b := packetio.NewBuffer()
		if kind != packetio.RTCPBufferPacket {
			b.SetLimitSize(streamLimit)
			return b
		}
		b.SetLimitSize(reportsLimit)
		return &reportBuffer{b, take}
	}
}

type reportBuffer struct {
	*packetio.Buffer
	take func(rtcp.Packet)
}

// Write gets one RTCP packet.
func (r *reportBuffer) Write(b []byte) (int, error) {
	if len(b) < 4 || b[0]&0x1f != rtcp.FormatTCC || b[1] != byte(rtcp.TypeTransportSpecificFeedback) {
		return r.Buffer.Write(b)
	}
	var report rtcp.TransportLayerCC
	if report.Unmarshal(b) == nil {
		r.take(&report)
	}
	return len(b), nil
}
