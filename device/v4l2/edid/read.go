package edid

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// maxBlocks is what E-EDID can address: a base block and 255 extensions.
const maxBlocks = 256

// An Info is what an EDID says, as far as people want to know.
type Info struct {
	Vendor   string // three letters
	Product  int
	Name     string
	Modes    []Mode // detailed timings, the preferred one first
	VICs     []int  // further modes, by CTA-861's numbers
	HDMI     bool   // not merely DVI: sound can be sent
	MaxClock int    // kHz that the HDMI block allows; 0: it does not say
}

// Check says what is wrong with data: its length, header, number of extensions and the checksum of each block.
func Check(data []byte) error {
	if len(data) == 0 || len(data)%BlockSize != 0 || len(data)/BlockSize > maxBlocks {
		return fmt.Errorf("%d bytes are not 1 to %d whole blocks of %d: an EDID is binary, not text", len(data), maxBlocks, BlockSize)
	}
	if !bytes.Equal(data[:len(header)], header) {
		return errors.New("no EDID: it does not begin with 00 ff ff ff ff ff ff 00")
	}
	if n := int(data[126]); n+1 != len(data)/BlockSize {
		return fmt.Errorf("block 0 announces %d more blocks, %d follow", n, len(data)/BlockSize-1)
	}
	for i := range len(data) / BlockSize {
		block := data[i*BlockSize : (i+1)*BlockSize]
		if s := sum(block); s != 0 {
			return fmt.Errorf("block %d: checksum %#02x, want %#02x", i, block[BlockSize-1], block[BlockSize-1]-s)
		}
	}
	return nil
}

// Parse checks data and reads it.
func Parse(data []byte) (Info, error) {
	if err := Check(data); err != nil {
		return Info{}, err
	}
	id := binary.BigEndian.Uint16(data[8:])
	info := Info{Product: int(binary.LittleEndian.Uint16(data[10:]))}
	info.Vendor = string([]byte{byte(id>>10&31) + '@', byte(id>>5&31) + '@', byte(id&31) + '@'})
	for at := 54; at < 126; at += 18 {
		info.descriptor(data[at : at+18])
	}
	for at := BlockSize; at < len(data); at += BlockSize {
		if data[at] == 0x02 {
			info.cta(data[at : at+BlockSize])
		}
	}
	return info, nil
}

// descriptor reads 18 bytes: a timing, or text.
func (i *Info) descriptor(d []byte) {
	if d[0] == 0 && d[1] == 0 {
		if d[3] == 0xfc {
			i.Name = readText(d[5:])
		}
		return
	}
	if m := readDetailed(d); m.Width > 0 && m.Height > 0 {
		i.Modes = append(i.Modes, m)
	}
}

func readText(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s))
}

func readDetailed(d []byte) Mode {
	return Mode{
		Clock: int(binary.LittleEndian.Uint16(d)) * 10,
		Width: int(d[2]) | int(d[4])>>4<<8, HBlank: int(d[3]) | int(d[4])&15<<8,
		Height: int(d[5]) | int(d[7])>>4<<8, VBlank: int(d[6]) | int(d[7])&15<<8,
		HFront: int(d[8]) | int(d[11])>>6<<8, HSync: int(d[9]) | int(d[11])>>4&3<<8,
		VFront: int(d[10])>>4 | int(d[11])>>2&3<<4, VSync: int(d[10])&15 | int(d[11])&3<<4,
		Positive: d[17]&0x1e == 0x1e,
		Wide:     (int(d[12])|int(d[14])>>4<<8)*9 == (int(d[13])|int(d[14])&15<<8)*16,
	}
}

// cta reads a CTA-861 extension (CTA-861-G §7.5).
func (i *Info) cta(b []byte) {
	end := int(b[2])
	if end < 4 || end > BlockSize-1 {
		if end != 0 {
			return // timings elsewhere than in the block
		}
		end = BlockSize - 1
	}
	for p := b[4:end]; len(p) > 0; {
		tag, n := p[0]>>5, int(p[0]&31)
		if n+1 > len(p) {
			return
		}
		i.block(tag, p[1:n+1])
		p = p[n+1:]
	}
	if b[2] == 0 {
		return
	}
	for at := end; at+18 <= BlockSize-1; at += 18 {
		i.descriptor(b[at : at+18])
	}
}

func (i *Info) block(tag byte, body []byte) {
	switch {
	case tag == 2:
		for _, v := range body {
			if v > 128 && v < 193 { // of the first 64, the top bit says native
				v &= 0x7f
			}
			i.VICs = append(i.VICs, int(v))
		}
	case tag == 3 && len(body) >= 5 && body[0] == 0x03 && body[1] == 0x0c && body[2] == 0x00:
		i.HDMI = true
		if len(body) >= 7 {
			i.MaxClock = int(body[6]) * 5000
		}
	}
}

// String describes the EDID in one line.
func (i Info) String() string {
	kind := "DVI"
	if i.HDMI {
		kind = "HDMI"
	}
	s := fmt.Sprintf("%s %q, %s", i.Vendor, i.Name, kind)
	if len(i.Modes) > 0 {
		s += ", prefers " + i.Modes[0].String()
	}
	return s
}
