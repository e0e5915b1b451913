// Package whep plays streams of the relay's Hub to WHEP clients (draft-ietf-wish-whep): browsers and players.
//
// It owns the negotiation and the fan-out. A fan is one loop that serves some viewers of one stream; it takes packets from
// one Subscription, keeps them in a history that all its viewers share, and for each viewer writes an RTP header, encrypts
// header and payload into the loop's own send buffer, and lets a rtc.Batch send many viewers' packets by one system call:
//
//	Hub ─Subscription─▶ fan: history ─▶ each viewer: header, seal ─▶ Batch ─▶ UDP
//	                     ▲ tasks: join, leave, path, NACK, PLI ◀─ SRTCP, ICE
//
// All of a fan's state belongs to its loop; others hand it tasks. No lock, goroutine or allocation is spent on a packet and
// viewer. The package knows no token and no publisher's protocol; ICE, DTLS and the ciphers are internal/rtc's.
package whep
