// Package whip is the signalling that WHIP (RFC 9725) and WHEP clients and servers share: ICE fragments in HTTP bodies
// (RFC 8840), Link header fields (RFC 8288), and the server's HTTP half of both protocols.
//
// It reads and writes HTTP and text only. It knows no peer connection, no media and no stream registry: the server half
// works against interfaces declared here, the client half is in uplink/whip.
package whip
