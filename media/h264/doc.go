// Package h264 reads and mends H.264 byte streams (ITU-T H.264 Annex B) where mediacommon's codec package stops: it walks
// NAL units without allocating, finds key frames, keeps parameter sets and puts them before each IDR picture, reads what a
// receiver must know from an SPS, and notices pictures that are not in display order.
//
// It is pure: no codec library, no network, no clock. Bytes that it is given are never written to.
package h264
