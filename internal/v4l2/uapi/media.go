package uapi

import (
	"runtime"
	"unsafe"
)

// MediaDeviceInfo is struct media_device_info of linux/media.h.
type MediaDeviceInfo struct {
	Driver        [16]byte
	Model         [32]byte
	Serial        [40]byte
	BusInfo       [32]byte
	MediaVersion  uint32
	HWRevision    uint32
	DriverVersion uint32
	_             [31]uint32
}

// MediaTopology is struct media_v2_topology. With null pointers the kernel fills in the numbers only.
type MediaTopology struct {
	Version       Uint64
	NumEntities   uint32
	_             uint32
	entities      Uint64
	NumInterfaces uint32
	_             uint32
	interfaces    Uint64
	NumPads       uint32
	_             uint32
	pads          Uint64
	NumLinks      uint32
	_             uint32
	links         Uint64
}

// MediaEntity is struct media_v2_entity.
type MediaEntity struct {
	ID       uint32
	Name     [64]byte
	Function uint32
	Flags    uint32
	_        [5]uint32
}

// MediaInterface is struct media_v2_interface, whose union holds a device node's numbers.
type MediaInterface struct {
	ID           uint32
	Type         uint32
	Flags        uint32
	_            [9]uint32
	Major, Minor uint32
	_            [14]uint32
}

// MediaPad is struct media_v2_pad.
type MediaPad struct {
	ID       uint32
	EntityID uint32
	Flags    uint32
	Index    uint32
	_        [4]uint32
}

// MediaLink is struct media_v2_link: between pads (data), or from an interface to its entity.
type MediaLink struct {
	ID       uint32
	SourceID uint32
	SinkID   uint32
	Flags    uint32
	_        [6]uint32
}

// Flags of MediaPad and MediaLink.
const (
	MediaPadSink   = 0x1
	MediaPadSource = 0x2

	MediaLinkEnabled   = 0x1
	MediaLinkImmutable = 0x2
	MediaLinkKind      = 0xf << 28 // mask
	MediaLinkData      = 0
	MediaLinkInterface = 1 << 28
)

// MediaPadDesc is struct media_pad_desc.
type MediaPadDesc struct {
	Entity uint32
	Index  uint16
	_      uint16
	Flags  uint32
	_      [2]uint32
}

// MediaLinkDesc is struct media_link_desc.
type MediaLinkDesc struct {
	Source, Sink MediaPadDesc
	Flags        uint32
	_            [2]uint32
}

// SubdevFormat is struct v4l2_subdev_format with its struct v4l2_mbus_framefmt.
type SubdevFormat struct {
	Which         uint32
	Pad           uint32
	Width, Height uint32
	Code          uint32
	Field         Field
	Colorspace    uint32
	YCbCrEnc      uint16
	Quantization  uint16
	XferFunc      uint16
	Flags         uint16
	_             [10]uint16
	_             [8]uint32
}

// SubdevActive in SubdevFormat.Which: the format that the hardware uses.
const SubdevActive = 1

var (
	_ = [1]struct{}{}[unsafe.Sizeof(MediaDeviceInfo{})-256]
	_ = [1]struct{}{}[unsafe.Sizeof(MediaTopology{})-72]
	_ = [1]struct{}{}[unsafe.Sizeof(MediaEntity{})-96]
	_ = [1]struct{}{}[unsafe.Sizeof(MediaInterface{})-112]
	_ = [1]struct{}{}[unsafe.Sizeof(MediaPad{})-32]
	_ = [1]struct{}{}[unsafe.Sizeof(MediaLink{})-40]
	_ = [1]struct{}{}[unsafe.Sizeof(MediaLinkDesc{})-52]
	_ = [1]struct{}{}[unsafe.Sizeof(SubdevFormat{})-88]
)

func mediaIoctl[T any](fd int, name string, nr uintptr, arg *T) error {
	return call(fd, name, request(read|write, '|', nr, unsafe.Sizeof(*arg)), unsafe.Pointer(arg))
}

// GetMediaDeviceInfo asks what the media device is.
func GetMediaDeviceInfo(fd int) (MediaDeviceInfo, error) {
	var i MediaDeviceInfo
	return i, mediaIoctl(fd, "MEDIA_IOC_DEVICE_INFO", 0, &i)
}

// A MediaGraph is where GTopology writes to. It is a heap object, so that the kernel finds the arrays in place.
type MediaGraph struct {
	Entities   []MediaEntity
	Interfaces []MediaInterface
	Pads       []MediaPad
	Links      []MediaLink
}

// GTopology fills t's numbers, and the arrays of g where g is not nil; they must be long enough (ENOSPC).
func GTopology(fd int, t *MediaTopology, g *MediaGraph) error {
	if g != nil {
		at := func(p unsafe.Pointer) Uint64 { return NewUint64(uint64(uintptr(p))) }
		t.entities, t.interfaces = at(unsafe.Pointer(unsafe.SliceData(g.Entities))), at(unsafe.Pointer(unsafe.SliceData(g.Interfaces)))
		t.pads, t.links = at(unsafe.Pointer(unsafe.SliceData(g.Pads))), at(unsafe.Pointer(unsafe.SliceData(g.Links)))
		t.NumEntities, t.NumInterfaces = uint32(len(g.Entities)), uint32(len(g.Interfaces))
		t.NumPads, t.NumLinks = uint32(len(g.Pads)), uint32(len(g.Links))
	}
	err := mediaIoctl(fd, "MEDIA_IOC_G_TOPOLOGY", 4, t)
	runtime.KeepAlive(g)
	return err
}

// SetupLink enables or disables a data link.
func SetupLink(fd int, l *MediaLinkDesc) error { return mediaIoctl(fd, "MEDIA_IOC_SETUP_LINK", 3, l) }

// SubdevGFmt reads the format of the pad f.Pad.
func SubdevGFmt(fd int, f *SubdevFormat) error {
	return ioctl(fd, "VIDIOC_SUBDEV_G_FMT", read|write, 4, f)
}

// SubdevSFmt sets the format of a pad; the driver changes f to the nearest that it can do.
func SubdevSFmt(fd int, f *SubdevFormat) error {
	return ioctl(fd, "VIDIOC_SUBDEV_S_FMT", read|write, 5, f)
}
