package uapi

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Input is struct v4l2_input.
type Input struct {
	Index        uint32
	Name         [32]byte
	Type         uint32
	AudioSet     uint32
	Tuner        uint32
	Std          Std
	Status       uint32
	Capabilities uint32
	_            [4]uint32
}

// Status and capabilities of Input.
const (
	InStNoPower  = 0x00000001
	InStNoSignal = 0x00000002
	InStNoColor  = 0x00000004
	InStNoHLock  = 0x00000100
	InStNoVLock  = 0x00000400
	InStNoStdLoc = 0x00000800
	InStNoSync   = 0x00010000
	InStNoEqu    = 0x00020000
	InStNoCarr   = 0x00040000
	InStMacrovis = 0x01000000
	InStNoAccess = 0x02000000

	InCapDVTimings = 0x2
	InCapStd       = 0x4
)

// A Std is a set of analogue standards (v4l2_std_id).
type Std uint64

// Std525 are the standards of 525 lines at 60 fields (NTSC, PAL-M, PAL-60); their bottom field comes first.
const Std525 Std = 0x0000f900

// The standards that a configuration can name (V4L2_STD_PAL, _NTSC, _SECAM, _ALL).
const (
	StdPAL   Std = 0x000000ff
	StdNTSC  Std = 0x0000b000
	StdSECAM Std = 0x00ff0000
	StdAll   Std = 0x00ffffff
)

// Standard is struct v4l2_standard.
type Standard struct {
	Index       uint32
	_           uint32
	ID          Std
	Name        [24]byte
	FramePeriod Fract
	FrameLines  uint32
	_           [5]uint32
}

// A Uint64 is a 64-bit number inside a packed structure, where it is not aligned.
type Uint64 struct{ low, high uint32 }

// Value returns the number.
func (u Uint64) Value() uint64 { return uint64(u.high)<<32 | uint64(u.low) }

// NewUint64 packs v.
func NewUint64(v uint64) Uint64 { return Uint64{uint32(v), uint32(v >> 32)} }

// DVTimings is struct v4l2_dv_timings with its only member in use, struct v4l2_bt_timings: lengths in pixels and lines.
type DVTimings struct {
	Type          uint32
	Width, Height uint32
	Interlaced    uint32
	Polarities    uint32
	PixelClock    Uint64 // Hz
	HFrontPorch   uint32
	HSync         uint32
	HBackPorch    uint32
	VFrontPorch   uint32
	VSync         uint32
	VBackPorch    uint32
	ILVFrontPorch uint32 // of the second field
	ILVSync       uint32
	ILVBackPorch  uint32
	Standards     uint32
	Flags         uint32
	PictureAspect Fract
	CEA861VIC     uint8
	HDMIVIC       uint8
	_             [46]uint8
	_             uint32
}

// Type and flags of DVTimings.
const (
	DVBT656_1120        = 0
	DVFlReducedBlanking = 0x1
	DVFlCanReduceFPS    = 0x2
	DVFlReducedFPS      = 0x4
	DVFlHalfLine        = 0x8
)

// DVTimingsEnum is struct v4l2_enum_dv_timings.
type DVTimingsEnum struct {
	Index   uint32
	Pad     uint32
	_       [2]uint32
	Timings DVTimings
}

// DVTimingsCap is struct v4l2_dv_timings_cap.
type DVTimingsCap struct {
	Type          uint32
	Pad           uint32
	_             [2]uint32
	MinWidth      uint32
	MaxWidth      uint32
	MinHeight     uint32
	MaxHeight     uint32
	MinPixelClock Uint64
	MaxPixelClock Uint64
	Standards     uint32
	Capabilities  uint32
	_             [22]uint32
}

// EDID is struct v4l2_edid.
type EDID struct {
	Pad        uint32
	StartBlock uint32
	Blocks     uint32 // of 128 bytes
	_          [5]uint32
	Data       *byte
}

// EventSubscription is struct v4l2_event_subscription.
type EventSubscription struct {
	Type  uint32
	ID    uint32
	Flags uint32
	_     [5]uint32
}

// Types of events.
const (
	EventEOS          = 2
	EventCtrl         = 3
	EventFrameSync    = 4
	EventSourceChange = 5
)

// SrcChResolution in Event.SourceChange: size, rate or layout changed, or the signal went or came.
const SrcChResolution = 1

// Event is struct v4l2_event.
type Event struct {
	Type      uint32
	_         uint32
	u         [16]uint32
	Pending   uint32
	Sequence  uint32
	Timestamp unix.Timespec
	ID        uint32
	_         [9]uint32
}

// SourceChange returns the changes of an EventSourceChange.
func (e *Event) SourceChange() uint32 { return e.u[0] }

// Ctrl returns what an EventCtrl says: changes, and the control's new value as far as it is an integer.
func (e *Event) Ctrl() (changes uint32, value int32) { return e.u[0], int32(e.u[2]) }

// Time returns when the event happened, on CLOCK_MONOTONIC.
func (e *Event) Time() time.Duration { return time.Duration(e.Timestamp.Nano()) }

// Control is struct v4l2_control.
type Control struct {
	ID    uint32
	Value int32
}

// ExtControl is struct v4l2_ext_control.
type ExtControl struct {
	ID   uint32
	Size uint32 // of the data that the value points at, 0 for numbers
	_    uint32
	v    [2]uint32
}

// Value returns a control of type integer, boolean, menu or bitmask.
func (c *ExtControl) Value() int32 { return int32(c.v[0]) }

// Value64 returns a control of type 64-bit integer.
func (c *ExtControl) Value64() int64 { return int64(uint64(c.v[1])<<32 | uint64(c.v[0])) }

// SetValue sets a number; a 64-bit control takes it whole.
func (c *ExtControl) SetValue(v int64) { c.v = [2]uint32{uint32(v), uint32(v >> 32)} }

// ExtControls is struct v4l2_ext_controls.
type ExtControls struct {
	Which     uint32
	Count     uint32
	ErrorIdx  uint32
	RequestFD int32
	_         uint32
	Controls  *ExtControl
}

// SetControls points c at list.
func (c *ExtControls) SetControls(list []ExtControl) {
	c.Count, c.Controls = uint32(len(list)), unsafe.SliceData(list)
}

// ExtCtrlInfo is struct v4l2_query_ext_ctrl.
type ExtCtrlInfo struct {
	ID             uint32
	Type           uint32
	Name           [32]byte
	Min, Max       int64
	Step           uint64
	Default        int64
	Flags          uint32
	ElemSize       uint32
	Elems          uint32
	Dimensions     uint32
	DimensionSizes [4]uint32
	_              [32]uint32
}

// MenuItem is struct v4l2_querymenu; Name holds the 64-bit value of an integer menu.
type MenuItem struct {
	ID    uint32
	Index uint32
	Name  [32]byte
	_     uint32
}

// Types and flags of controls, and CtrlNext for QueryExtCtrl.
const (
	CtrlInteger     = 1
	CtrlBoolean     = 2
	CtrlMenu        = 3
	CtrlButton      = 4
	CtrlInteger64   = 5
	CtrlString      = 7
	CtrlBitmask     = 8
	CtrlIntegerMenu = 9

	CtrlFlagDisabled  = 0x01
	CtrlFlagReadOnly  = 0x04
	CtrlFlagInactive  = 0x10
	CtrlFlagWriteOnly = 0x40
	CtrlFlagVolatile  = 0x80

	CtrlNext         = 0x80000000
	CtrlNextCompound = 0x40000000
)

// Controls of codecs (V4L2_CID_MPEG_VIDEO_*) and receivers.
const (
	CIDBitrateMode      = 0x009909ce
	CIDBitrate          = 0x009909cf
	CIDBFrames          = 0x009909ca
	CIDGOPSize          = 0x009909cb
	CIDBitratePeak      = 0x009909d0
	CIDRepeatSeqHeader  = 0x009909e2
	CIDForceKeyFrame    = 0x009909e5
	CIDHeaderMode       = 0x009909d8
	CIDH264IPeriod      = 0x00990a66
	CIDH264Level        = 0x00990a67
	CIDH264Profile      = 0x00990a6b
	CIDHEVCProfile      = 0x00990b67
	CIDHEVCLevel        = 0x00990b68
	CIDFWHTIFrameQP     = 0x00990a22
	CIDFWHTPFrameQP     = 0x00990a23
	CIDDVRxPowerPresent = 0x00a00964
	CIDMinCaptureBufs   = 0x00980927
	CIDMinOutputBufs    = 0x00980928
)
