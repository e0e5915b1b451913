// Package rtc is the relay's real-time transport: the one UDP port and the one ICE-TCP port of the same number that all
// sessions share, and a lean server-side Peer (ICE, DTLS, SRTP keys) for sessions that only send.
//
// It owns the sockets, ICE, the DTLS handshake and SRTP's cryptography. It knows no codec, no stream and no HTTP: who
// publishes with pion/webrtc takes the ports by Configure, who sends to many viewers takes a Peer each and a Batch per loop.
package rtc
