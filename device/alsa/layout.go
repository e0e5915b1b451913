package alsa

import (
	"encoding/binary"
	"math"

	kernel "github.com/gen2brain/alsa"
)

// A layout is how a card lays out samples.
type layout struct {
	name   string
	format kernel.PcmFormat
	bytes  int // a sample
	// read converts whole samples of src to dst, which has room for them.
	read func(dst []float32, src []byte)
}

// layouts are those that are taken, the best first. All are little-endian, as the hardware is that runs this.
var layouts = []layout{
	{"S32", kernel.SNDRV_PCM_FORMAT_S32_LE, 4, func(dst []float32, src []byte) {
		for i := range dst {
			dst[i] = float32(int32(binary.LittleEndian.Uint32(src[4*i:]))) / (1 << 31)
		}
	}},
	{"S24", kernel.SNDRV_PCM_FORMAT_S24_LE, 4, func(dst []float32, src []byte) {
		for i := range dst { // the upper byte may hold anything
			dst[i] = float32(int32(binary.LittleEndian.Uint32(src[4*i:])<<8)) / (1 << 31)
		}
	}},
	{"S24_3", kernel.SNDRV_PCM_FORMAT_S24_3LE, 3, func(dst []float32, src []byte) {
		for i := range dst {
			s := src[3*i : 3*i+3]
			dst[i] = float32(int32(uint32(s[0])<<8|uint32(s[1])<<16|uint32(s[2])<<24)) / (1 << 31)
		}
	}},
	{"FLOAT", kernel.SNDRV_PCM_FORMAT_FLOAT_LE, 4, func(dst []float32, src []byte) {
		for i := range dst {
			v := math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
			if v != v { // not a number would stay in every filter after it
				v = 0
			}
			dst[i] = min(max(v, -1), 1)
		}
	}},
	{"S16", kernel.SNDRV_PCM_FORMAT_S16_LE, 2, func(dst []float32, src []byte) {
		for i := range dst {
			dst[i] = float32(int16(binary.LittleEndian.Uint16(src[2*i:]))) / (1 << 15)
		}
	}},
}

func layoutOf(name string) *layout {
	for i := range layouts {
		if layouts[i].name == name {
			return &layouts[i]
		}
	}
	return nil
}
