package uapi

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A BufType names a queue of a device.
type BufType uint32

// The queues of video capture devices and of memory-to-memory devices (OUTPUT: into the device).
const (
	VideoCapture       BufType = 1
	VideoOutput        BufType = 2
	VideoCaptureMplane BufType = 9
	VideoOutputMplane  BufType = 10
)

// Multiplanar reports whether the queue's buffers are arrays of planes.
func (t BufType) Multiplanar() bool { return t == VideoCaptureMplane || t == VideoOutputMplane }

// Output reports whether the queue leads into the device.
func (t BufType) Output() bool { return t == VideoOutput || t == VideoOutputMplane }

// A Memory says who owns a queue's buffers.
type Memory uint32

// Buffers of the driver, and buffers imported from others.
const (
	MemoryMMAP   Memory = 1
	MemoryDMABUF Memory = 4
)

// A Field is the order in which lines were scanned (enum v4l2_field).
type Field uint32

// Field orders.
const (
	FieldAny          Field = 0
	FieldNone         Field = 1 // progressive
	FieldTop          Field = 2
	FieldBottom       Field = 3
	FieldInterlaced   Field = 4 // the order follows the standard
	FieldSeqTB        Field = 5
	FieldSeqBT        Field = 6
	FieldAlternate    Field = 7 // one field a buffer
	FieldInterlacedTB Field = 8
	FieldInterlacedBT Field = 9
)

// Capability is struct v4l2_capability.
type Capability struct {
	Driver       [16]byte
	Card         [32]byte
	BusInfo      [32]byte
	Version      uint32
	Capabilities uint32
	DeviceCaps   uint32
	_            [3]uint32
}

// Capabilities (V4L2_CAP_*).
const (
	CapVideoCapture       = 0x00000001
	CapVideoOutput        = 0x00000002
	CapVideoCaptureMplane = 0x00001000
	CapVideoOutputMplane  = 0x00002000
	CapVideoM2MMplane     = 0x00004000
	CapVideoM2M           = 0x00008000
	CapStreaming          = 0x04000000
	CapIOMC               = 0x20000000
	CapDeviceCaps         = 0x80000000
)

// FmtDesc is struct v4l2_fmtdesc.
type FmtDesc struct {
	Index       uint32
	Type        BufType
	Flags       uint32
	Description [32]byte
	PixelFormat uint32
	MbusCode    uint32
	_           [3]uint32
}

// Flags of FmtDesc.
const (
	FmtFlagCompressed = 0x1
	FmtFlagEmulated   = 0x2
)

// PixFormat is struct v4l2_pix_format.
type PixFormat struct {
	Width, Height uint32
	PixelFormat   uint32
	Field         Field
	BytesPerLine  uint32
	SizeImage     uint32
	Colorspace    uint32
	Priv          uint32
	Flags         uint32
	YCbCrEnc      uint32
	Quantization  uint32
	XferFunc      uint32
}

// PixFmtPrivMagic in Priv says that the fields after it are meant.
const PixFmtPrivMagic = 0xfeedcafe

// PlanePixFormat is struct v4l2_plane_pix_format.
type PlanePixFormat struct {
	SizeImage    uint32
	BytesPerLine uint32
	_            [6]uint16
}

// PixFormatMplane is struct v4l2_pix_format_mplane.
type PixFormatMplane struct {
	Width, Height uint32
	PixelFormat   uint32
	Field         Field
	Colorspace    uint32
	Planes        [MaxPlanes]PlanePixFormat
	NumPlanes     uint8
	Flags         uint8
	YCbCrEnc      uint8
	Quantization  uint8
	XferFunc      uint8
	_             [7]uint8
}

// MaxPlanes is how many planes a buffer has at most.
const MaxPlanes = 8

// Format is struct v4l2_format. Pix or PixMplane views its union, as Type says.
type Format struct {
	Type BufType
	fmt  struct {
		_   [0]uintptr // the union holds pointers, and is aligned for them
		raw [200]byte
	}
}

// Pix views the format of a single-planar queue.
func (f *Format) Pix() *PixFormat { return (*PixFormat)(unsafe.Pointer(&f.fmt.raw)) }

// PixMplane views the format of a multi-planar queue.
func (f *Format) PixMplane() *PixFormatMplane {
	return (*PixFormatMplane)(unsafe.Pointer(&f.fmt.raw))
}

// Colour spaces, encodings and quantizations (enum v4l2_colorspace, v4l2_ycbcr_encoding, v4l2_quantization, v4l2_xfer_func).
const (
	ColorspaceSMPTE170M = 1
	ColorspaceREC709    = 3
	Colorspace470M      = 5
	Colorspace470BG     = 6
	ColorspaceJPEG      = 7
	ColorspaceSRGB      = 8
	ColorspaceBT2020    = 10

	YCbCrEncDefault = 0
	YCbCrEnc601     = 1
	YCbCrEnc709     = 2
	YCbCrEncXV601   = 3
	YCbCrEncXV709   = 4
	YCbCrEncBT2020  = 6

	QuantizationDefault = 0
	QuantizationFull    = 1
	QuantizationLimited = 2

	XferFuncSMPTE2084 = 7
)

// RequestBuffers is struct v4l2_requestbuffers.
type RequestBuffers struct {
	Count        uint32
	Type         BufType
	Memory       Memory
	Capabilities uint32
	Flags        uint8
	_            [3]uint8
}

// Capabilities of RequestBuffers. BufCapOrphaned: buffers may be freed while they are mapped or exported (Linux 4.20).
const (
	BufCapMMAP     = 0x01
	BufCapDMABUF   = 0x04
	BufCapOrphaned = 0x10
)

// CreateBuffers is struct v4l2_create_buffers.
type CreateBuffers struct {
	Index        uint32
	Count        uint32
	Memory       Memory
	Format       Format
	Capabilities uint32
	Flags        uint32
	_            [6]uint32
}

// A Timecode is struct v4l2_timecode.
type Timecode struct {
	Type, Flags                     uint32
	Frames, Seconds, Minutes, Hours uint8
	UserBits                        [4]uint8
}

// Buffer is struct v4l2_buffer. M is its union: the offset to map (MMAP), the descriptor (DMABUF), or the address of Length
// planes.
type Buffer struct {
	Index     uint32
	Type      BufType
	BytesUsed uint32
	Flags     uint32
	Field     Field
	Timestamp unix.Timeval
	Timecode  Timecode
	Sequence  uint32
	Memory    Memory
	M         uintptr
	Length    uint32
	_         uint32
	RequestFD int32
}

// Time returns the timestamp.
func (b *Buffer) Time() time.Duration {
	return time.Duration(b.Timestamp.Sec)*time.Second + time.Duration(b.Timestamp.Usec)*time.Microsecond
}

// SetTime sets the timestamp, in whole microseconds.
func (b *Buffer) SetTime(t time.Duration) { b.Timestamp = unix.NsecToTimeval(int64(t)) }

// SetPlanes points b at p, which must stay reachable and in place until the ioctl has returned: let a heap object hold both.
func (b *Buffer) SetPlanes(p []Plane) {
	b.M = uintptr(unsafe.Pointer(unsafe.SliceData(p)))
	b.Length = uint32(len(p))
}

// Plane is struct v4l2_plane. M is its union: the offset to map (MMAP) or the descriptor (DMABUF).
type Plane struct {
	BytesUsed  uint32
	Length     uint32
	M          uintptr
	DataOffset uint32
	_          [11]uint32
}

// Flags of Buffer.
const (
	BufFlagMapped        = 0x00000001
	BufFlagQueued        = 0x00000002
	BufFlagDone          = 0x00000004
	BufFlagKeyframe      = 0x00000008
	BufFlagPframe        = 0x00000010
	BufFlagBframe        = 0x00000020
	BufFlagError         = 0x00000040
	BufFlagTimecode      = 0x00000100
	BufFlagLast          = 0x00100000
	BufFlagTimestampMask = 0x0000e000
	BufFlagMonotonic     = 0x00002000
	BufFlagTimestampCopy = 0x00004000
	BufFlagTimestampSOE  = 0x00010000 // start of exposure, else the end of the frame
)

// ExportBuffer is struct v4l2_exportbuffer.
type ExportBuffer struct {
	Type  BufType
	Index uint32
	Plane uint32
	Flags uint32
	FD    int32
	_     [11]uint32
}

// A Fract is struct v4l2_fract.
type Fract struct{ Num, Den uint32 }

// StreamParm is struct v4l2_streamparm; capture and output share the fields up to the interval.
type StreamParm struct {
	Type         BufType
	Capability   uint32
	Mode         uint32
	TimePerFrame Fract
	ExtendedMode uint32
	Buffers      uint32
	_            [44]uint32
}

// CapTimePerFrame in StreamParm.Capability: the interval can be set.
const CapTimePerFrame = 0x1000

// FrameSize is struct v4l2_frmsizeenum. Discrete sizes stand in MinWidth and MaxWidth (height!): use Discrete.
type FrameSize struct {
	Index       uint32
	PixelFormat uint32
	Type        uint32
	MinWidth    uint32
	MaxWidth    uint32
	StepWidth   uint32
	MinHeight   uint32
	MaxHeight   uint32
	StepHeight  uint32
	_           [2]uint32
}

// Discrete returns the one size of a FrameSize of type EnumDiscrete.
func (f *FrameSize) Discrete() (width, height uint32) { return f.MinWidth, f.MaxWidth }

// FrameInterval is struct v4l2_frmivalenum. A discrete interval stands in Min.
type FrameInterval struct {
	Index         uint32
	PixelFormat   uint32
	Width, Height uint32
	Type          uint32
	Min, Max      Fract
	Step          Fract
	_             [2]uint32
}

// Types of FrameSize and FrameInterval.
const (
	EnumDiscrete   = 1
	EnumContinuous = 2
	EnumStepwise   = 3
)

// A Rect is struct v4l2_rect.
type Rect struct {
	Left, Top     int32
	Width, Height uint32
}

// Selection is struct v4l2_selection.
type Selection struct {
	Type   BufType
	Target uint32
	Flags  uint32
	R      Rect
	_      [9]uint32
}

// Targets of Selection.
const (
	SelCrop           = 0x0000
	SelCropDefault    = 0x0001
	SelCropBounds     = 0x0002
	SelCompose        = 0x0100
	SelComposeDefault = 0x0101
	SelComposeBounds  = 0x0102
)

// EncoderCmd is struct v4l2_encoder_cmd.
type EncoderCmd struct {
	Cmd   uint32
	Flags uint32
	_     [8]uint32
}

// DecoderCmd is struct v4l2_decoder_cmd.
type DecoderCmd struct {
	Cmd   uint32
	Flags uint32
	Raw   [16]uint32
}

// Commands of encoders and decoders: stop drains, the last buffer carries BufFlagLast.
const (
	CmdStart = 0
	CmdStop  = 1
)

// Flags of DMABUFSync.
const (
	SyncRead  uint64 = 1
	SyncWrite uint64 = 2
	SyncStart uint64 = 0
	SyncEnd   uint64 = 4
)
