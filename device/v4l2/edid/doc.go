// Package edid writes and reads EDIDs: the 128-byte blocks by which a receiver tells the sender at the other end of an HDMI
// cable what it takes (VESA E-EDID 1.4, CTA-861). A sender chooses its mode by them, so they are how a box gets 1080p60 out of
// a camera that would send 4K.
//
// It knows no device: setting an EDID is device/v4l2's.
package edid
