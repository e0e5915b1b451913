// Package load makes viewers and publishers by the hundred for benchmarks and tests of the relay: lean WHEP clients on plain
// sockets that one loop reads, and a WHIP publisher with a prepared picture.
//
// Its viewers do as much of ICE, DTLS and SRTP as it takes to be sent media and to measure it; they decode nothing. The
// package knows nothing of the relay it is pointed at but its URLs.
package load
