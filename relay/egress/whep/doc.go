// Package whep plays streams of the relay's Hub to WHEP clients (draft-ietf-wish-whep): browsers and players.
//
// It owns the negotiation and the fan-out. A fan is one loop that serves some viewers of one stream; it takes packets from
// one Subscription, keeps them in a history that all its viewers share, and for each viewer writes an RTP header, encrypts
// header and payload into the loop's own send buffer, and lets a rtc.Batch send many viewers' packets by one system call:
//
//	Hub ─Subscription─▶ fan: history ─▶ each viewer: header, seal ─▶ Batch ─▶ UDP
//	                     ▲ tasks: join, leave, path, NACK, PLI ◀─ SRTCP, ICE
//
// What a viewer's path carries is estimated here and not by internal/linkrate, for the questions differ. That control steers an encoder
// which obeys: it fills the path, sees the queue that its own rate makes, and lets the rate grow until there is one. A viewer's
// stream has the rate that its publisher gave it; nothing can be steered but which layer is sent, mostly far below what the path
// carries, and growth that is never put to the test tells nothing. So the estimate here is a measurement, by the
// dispersion of pictures and probes, in some ten kilobytes for each of a thousand viewers, without allocations.
//
// All of a fan's state belongs to its loop; others hand it tasks. No lock, goroutine or allocation is spent on a packet and
// viewer. The package knows no token and no publisher's protocol; ICE, DTLS and the ciphers are internal/rtc's.
package whep
