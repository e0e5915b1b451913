// Package whip sends a programme to a WHIP server (RFC 9725): it negotiates one session over HTTP, packs access units into
// RTP, paces them, answers retransmission requests, reports the capture clock, and hands the receiver's wishes (key frames,
// bitrate) back upstream.
//
// It knows no encoder and no configuration file, and it does not retry: Run is one session. ICE, DTLS and SRTP are pion's, the
// bandwidth estimate is internal/linkrate's; the HTTP client, packing, pacing, retransmission and reports are here, because they
// are what tells a sender that feels live from one that does not.
//
// The path of a picture:
//
//	Program.Packets → transmitter (RTP payloads) → pacer (sequence numbers, header extensions, history) → pion → UDP
//	Program.Feedback ← feedback (PLI, FIR, TWCC, REMB, receiver reports) ← RTCP
package whip
