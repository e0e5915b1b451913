package edid

import (
	"encoding/binary"
	"maps"
	"slices"
)

// BlockSize is the length of one block in bytes.
const BlockSize = 128

// Presets returns the names that Preset knows.
func Presets() []string { return slices.Sorted(maps.Keys(presets)) }

// Preset returns the two blocks of a preset: an HDMI sink that takes its modes and stereo sound.
func Preset(name string) (data []byte, ok bool) {
	vics, ok := presets[name]
	if !ok {
		return nil, false
	}
	modes := make([]Mode, len(vics))
	for i, vic := range vics {
		modes[i] = cta[vic]
	}
	return build("Gantry"+name, modes), true
}

// build writes an EDID whose preferred mode is the first one.
func build(name string, modes []Mode) []byte {
	out := make([]byte, 2*BlockSize)
	base(out[:BlockSize], name, modes)
	extension(out[BlockSize:], modes)
	for block := range slices.Chunk(out, BlockSize) {
		block[BlockSize-1] = -sum(block[:BlockSize-1])
	}
	return out
}

// sum is what must be 0 over a whole block.
func sum(block []byte) (s byte) {
	for _, b := range block {
		s += b
	}
	return s
}

var header = []byte{0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00}

// base writes block 0 (E-EDID 1.4 §3).
func base(b []byte, name string, modes []Mode) {
	copy(b, header)
	binary.BigEndian.PutUint16(b[8:], vendor("GNT"))
	binary.LittleEndian.PutUint16(b[10:], uint16(modes[0].VIC)) // product code: one a preset
	b[16], b[17] = 1, 2026-1990                                 // week and year of making
	b[18], b[19] = 1, 3                                         // EDID 1.3, which HDMI asks for
	b[20] = 0x80                                                // digital
	b[21], b[22] = 160, 90                                      // cm; some senders think little of sinks without a size
	b[23] = 120                                                 // gamma 2.2
	b[24] = 0x0e                                                // sRGB; the first detailed timing is the preferred one
	copy(b[25:35], chromaticity[:])
	b[35] = 0x20 // 640x480 at 60, which every sink takes
	for i := 38; i < 54; i++ {
		b[i] = 0x01 // no standard timings
	}
	detailed(b[54:72], modes[0])
	second := modes[len(modes)-1]
	for _, m := range modes[1:] {
		if m.Height == 720 {
			second = m
			break
		}
	}
	detailed(b[72:90], second)
	limits(b[90:108], modes)
	text(b[108:126], 0xfc, name)
	b[126] = 1 // one extension
}

// chromaticity of BT.709 (E-EDID 1.4 §3.7): red .640 .330, green .300 .600, blue .150 .060, white .3127 .3290.
var chromaticity = [10]byte{0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54}

// vendor packs a manufacturer's three letters.
func vendor(id string) uint16 {
	return uint16(id[0]-'@')<<10 | uint16(id[1]-'@')<<5 | uint16(id[2]-'@')
}

// detailed writes an 18-byte timing (E-EDID 1.4 §3.10.2).
func detailed(d []byte, m Mode) {
	binary.LittleEndian.PutUint16(d, uint16(m.Clock/10))
	d[2], d[3], d[4] = byte(m.Width), byte(m.HBlank), byte(m.Width>>8<<4|m.HBlank>>8)
	d[5], d[6], d[7] = byte(m.Height), byte(m.VBlank), byte(m.Height>>8<<4|m.VBlank>>8)
	d[8], d[9] = byte(m.HFront), byte(m.HSync)
	d[10] = byte(m.VFront&15<<4 | m.VSync&15)
	d[11] = byte(m.HFront>>8<<6 | m.HSync>>8<<4 | m.VFront>>4<<2 | m.VSync>>4)
	width, height := 1600, 900 // mm
	if !m.Wide {
		width = 1200
	}
	d[12], d[13], d[14] = byte(width), byte(height), byte(width>>8<<4|height>>8)
	d[17] = 0x18 // separate syncs
	if m.Positive {
		d[17] |= 0x06
	}
}

// limits writes the range of rates that the modes span (E-EDID 1.4 §3.10.3.3).
func limits(d []byte, modes []Mode) {
	minV, maxV, minH, maxH, clock := 255, 0, 255, 0, 0
	for _, m := range modes {
		v := m.Rate()
		h := float64(m.Clock) / float64(m.Width+m.HBlank) // kHz
		minV, maxV = min(minV, int(v)), max(maxV, int(v+0.999))
		minH, maxH = min(minH, int(h)), max(maxH, int(h+0.999))
		clock = max(clock, m.Clock)
	}
	d[3] = 0xfd
	d[5], d[6], d[7], d[8] = byte(minV), byte(maxV), byte(minH), byte(maxH)
	d[9] = byte((clock + 9999) / 10000)
	d[10], d[11] = 0, 0x0a
	for i := 12; i < 18; i++ {
		d[i] = ' '
	}
}

// text writes a descriptor of up to 13 letters.
func text(d []byte, tag byte, s string) {
	d[3] = tag
	s = s[:min(len(s), 13)]
	copy(d[5:], s)
	for i := len(s); i < 13; i++ {
		d[5+i] = ' '
		if i == len(s) {
			d[5+i] = '\n'
		}
	}
}

// extension writes the CTA-861 block (CTA-861-G §7.5).
func extension(b []byte, modes []Mode) {
	b[0], b[1] = 0x02, 3
	b[3] = 0xf1 // underscan, basic audio, YCbCr 4:4:4 and 4:2:2; one native timing, the preferred one
	p := b[4:4]
	block := func(tag byte, body ...byte) { p = append(append(p, tag<<5|byte(len(body))), body...) }

	var vics, hdmi []byte
	clock := 0
	for _, m := range modes {
		vics = append(vics, byte(m.VIC))
		if h := hdmiVICs[m.VIC]; h != 0 {
			hdmi = append(hdmi, byte(h))
		}
		clock = max(clock, m.Clock)
	}
	block(2, vics...)
	block(1, 0x09, 0x07, 0x07) // LPCM, two channels, 32 to 48 kHz, 16 to 24 bits
	block(4, 0x01, 0, 0)       // front left and right
	block(7, 0x00, 0xca)       // video capability: the range can be chosen, nothing is overscanned
	vendor := []byte{0x03, 0x0c, 0x00, 0x10, 0x00, 0x00, byte((clock + 4999) / 5000)}
	if len(hdmi) > 0 { // HDMI 1.4b §8.3.2: the 4K modes
		vendor = append(vendor, 0x20, 0x00, byte(len(hdmi)<<5))
		vendor = append(vendor, hdmi...)
	}
	block(3, vendor...)

	b[2] = byte(4 + len(p)) // where detailed timings begin
	at := int(b[2])
	for _, m := range modes[1:] {
		if at+18 > BlockSize-1 {
			break
		}
		if m.HFront >= 1024 || m.VIC == 1 { // does not fit, is an established timing
			continue
		}
		detailed(b[at:at+18], m)
		at += 18
	}
}
