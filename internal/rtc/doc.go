// Package rtc is the relay's real-time transport: the one UDP port and the one ICE-TCP port of the same number that all
// sessions share, and a lean server-side Peer (ICE, DTLS, SRTP keys) for sessions that send or receive.
//
// It owns the sockets, ICE, the DTLS handshake, SRTP's cryptography and what SDP says of these. It knows no codec, no stream and
// no HTTP: who publishes is received by a Peer on the socket's reader, who sends to many viewers takes a Peer each and a Batch
// per loop.
package rtc
