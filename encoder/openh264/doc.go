// Package openh264 codes H.264 with Cisco's library in the form that pion/mediadevices brings along, so that a box with no
// FFmpeg has an encoder. It takes 4:2:0 and 4:2:2 pictures and converts them in plain Go; it does not scale, and knows
// Constrained Baseline only.
//
// The library's wrapper has no timestamps, writes no colour into the stream and skips pictures unless told otherwise; this
// package makes up for all three. One thing remains: the wrapper forgets its output buffer, width × height bytes at first,
// whenever a coded picture is larger than all before.
package openh264
