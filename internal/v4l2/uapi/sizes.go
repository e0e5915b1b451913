package uapi

import "unsafe"

// The compiler's proof that the structures are as long as the kernel's. An index out of range is a wrong size; the ioctl
// numbers contain the sizes, so the kernel would refuse the call (ENOTTY).
const (
	word64 = (unsafe.Sizeof(uintptr(0)) - 4) / 4 // 1 where pointers have 64 bits, else 0

	sizeFormat        = 204 + 4*word64
	sizeCreateBuffers = 248 + 8*word64
	sizeBuffer        = 68 + 20*word64
	sizePlane         = 60 + 4*word64
	sizeEDID          = 36 + 4*word64
	sizeEvent         = 128 + 8*word64
	sizeExtControls   = 24 + 8*word64
)

var (
	_ = [1]struct{}{}[unsafe.Sizeof(Capability{})-104]
	_ = [1]struct{}{}[unsafe.Sizeof(FmtDesc{})-64]
	_ = [1]struct{}{}[unsafe.Sizeof(PixFormat{})-48]
	_ = [1]struct{}{}[unsafe.Sizeof(PlanePixFormat{})-20]
	_ = [1]struct{}{}[unsafe.Sizeof(PixFormatMplane{})-192]
	_ = [1]struct{}{}[unsafe.Sizeof(Format{})-sizeFormat]
	_ = [1]struct{}{}[unsafe.Sizeof(RequestBuffers{})-20]
	_ = [1]struct{}{}[unsafe.Sizeof(CreateBuffers{})-sizeCreateBuffers]
	_ = [1]struct{}{}[unsafe.Sizeof(Buffer{})-sizeBuffer]
	_ = [1]struct{}{}[unsafe.Sizeof(Plane{})-sizePlane]
	_ = [1]struct{}{}[unsafe.Sizeof(ExportBuffer{})-64]
	_ = [1]struct{}{}[unsafe.Sizeof(StreamParm{})-204]
	_ = [1]struct{}{}[unsafe.Sizeof(FrameSize{})-44]
	_ = [1]struct{}{}[unsafe.Sizeof(FrameInterval{})-52]
	_ = [1]struct{}{}[unsafe.Sizeof(Selection{})-64]
	_ = [1]struct{}{}[unsafe.Sizeof(EncoderCmd{})-40]
	_ = [1]struct{}{}[unsafe.Sizeof(DecoderCmd{})-72]
	_ = [1]struct{}{}[unsafe.Sizeof(Input{})-80]
	_ = [1]struct{}{}[unsafe.Sizeof(Standard{})-72]
	_ = [1]struct{}{}[unsafe.Sizeof(DVTimings{})-132]
	_ = [1]struct{}{}[unsafe.Sizeof(DVTimingsEnum{})-148]
	_ = [1]struct{}{}[unsafe.Sizeof(DVTimingsCap{})-144]
	_ = [1]struct{}{}[unsafe.Sizeof(EDID{})-sizeEDID]
	_ = [1]struct{}{}[unsafe.Sizeof(EventSubscription{})-32]
	_ = [1]struct{}{}[unsafe.Sizeof(Event{})-sizeEvent]
	_ = [1]struct{}{}[unsafe.Sizeof(Control{})-8]
	_ = [1]struct{}{}[unsafe.Sizeof(ExtControl{})-20]
	_ = [1]struct{}{}[unsafe.Sizeof(ExtControls{})-sizeExtControls]
	_ = [1]struct{}{}[unsafe.Sizeof(ExtCtrlInfo{})-232]
	_ = [1]struct{}{}[unsafe.Sizeof(MenuItem{})-44]
)

// The members whose place differs by architecture or comes after padding.
var (
	_ = [1]struct{}{}[unsafe.Offsetof(Buffer{}.Timestamp)-(20+4*word64)]
	_ = [1]struct{}{}[unsafe.Offsetof(Event{}.u)-8]
	_ = [1]struct{}{}[unsafe.Offsetof(Input{}.Std)-48]
	_ = [1]struct{}{}[unsafe.Offsetof(Standard{}.ID)-8]
	_ = [1]struct{}{}[unsafe.Offsetof(DVTimings{}.PixelClock)-20]
	_ = [1]struct{}{}[unsafe.Offsetof(ExtCtrlInfo{}.Min)-40]
)
