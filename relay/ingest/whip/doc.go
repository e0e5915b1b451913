// Package whip takes streams in over WHIP (RFC 9725): it answers the offers of publishers, receives their RTP by an rtc.Peer
// each, and publishes it packet by packet to a relay.Hub, on the goroutine that has read it from the socket.
//
// It owns a session from the POST to its end: what may be offered, the order of packets, what is asked for again, where a
// picture begins and whether decoding can begin there, and the times of it all. HTTP is internal/proto/whip's, ICE,
// DTLS and SRTP are internal/rtc's, tokens are judged by the function it is given. It decodes no picture and knows no viewer.
package whip
