// Package whip takes streams in over WHIP (RFC 9725): it answers the offers of publishers, receives their RTP through
// pion/webrtc, and publishes it packet by packet to a relay.Hub.
//
// It owns a session from the POST to its end: what may be offered, the order of packets, what is asked for again, where a
// picture begins and whether decoding can begin there, and the times of it all. HTTP is internal/proto/whip's, ports and ICE
// are the caller's (Configure), tokens are judged by the function it is given. It decodes no picture and knows no viewer.
package whip
