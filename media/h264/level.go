package h264

// levels is H.264 table A-1: the limits of each level, without 1b.
var levels = []struct {
	idc                         uint8
	perSecond, perFrame, buffer int // macroblocks
	bitrate                     int // kbit/s of Baseline, Main and Extended
}{
	{10, 1485, 99, 396, 64}, {11, 3000, 396, 900, 192}, {12, 6000, 396, 2376, 384}, {13, 11880, 396, 2376, 768},
	{20, 11880, 396, 2376, 2000}, {21, 19800, 792, 4752, 4000}, {22, 20250, 1620, 8100, 4000},
	{30, 40500, 1620, 8100, 10000}, {31, 108000, 3600, 18000, 14000}, {32, 216000, 5120, 20480, 20000},
	{40, 245760, 8192, 32768, 20000}, {41, 245760, 8192, 32768, 50000}, {42, 522240, 8704, 34816, 50000},
	{50, 589824, 22080, 110400, 135000}, {51, 983040, 36864, 184320, 240000}, {52, 2073600, 36864, 184320, 240000},
	{60, 4177920, 139264, 696320, 240000}, {61, 8355840, 139264, 696320, 480000}, {62, 16711680, 139264, 696320, 800000},
}

// Level returns the lowest level_idc that holds such a stream with a few reference pictures, but at least 3.1: every WebRTC
// receiver takes that (RFC 7742 §6.2), and it leaves small pictures room for more bits later. It returns 62 for anything
// larger.
func Level(width, height int, fps float64, bitrate int) uint8 {
	mbs := ((width + 15) / 16) * ((height + 15) / 16)
	for _, l := range levels {
		if l.idc >= 31 && mbs <= l.perFrame && float64(mbs)*fps <= float64(l.perSecond) && bitrate <= 1000*l.bitrate &&
			4*mbs <= l.buffer {
			return l.idc
		}
	}
	return 62
}

// MaxBitrate returns how many bit/s a stream of that profile_idc and level_idc may have, 0 for an unknown level.
func MaxBitrate(profile, level uint8) int {
	for _, l := range levels {
		if l.idc == level {
			if profile >= 100 { // High and above: cpbBrVclFactor 1250 (H.264 table A-2)
				return 1250 * l.bitrate
			}
			return 1000 * l.bitrate
		}
	}
	return 0
}
