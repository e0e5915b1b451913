package uapi

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// request makes an ioctl number as linux/ioctl.h does: direction, size of the argument, type, number.
func request(dir, typ, nr, size uintptr) uintptr { return dir<<30 | size<<16 | typ<<8 | nr }

const (
	write = 1 // to the kernel
	read  = 2 // from the kernel
)

// ioctl calls VIDIOC number nr with arg, whose size and direction are part of the request.
func ioctl[T any](fd int, name string, dir, nr uintptr, arg *T) error {
	return call(fd, name, request(dir, 'V', nr, unsafe.Sizeof(*arg)), unsafe.Pointer(arg))
}

func call(fd int, name string, req uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR: // Go preempts threads by signals
		default:
			return os.NewSyscallError(name, errno)
		}
	}
}

// QueryCap asks what the device is and can do.
func QueryCap(fd int) (Capability, error) {
	var c Capability
	return c, ioctl(fd, "VIDIOC_QUERYCAP", read, 0, &c)
}

// EnumFmt describes the format d.Index of the queue d.Type; EINVAL past the last.
func EnumFmt(fd int, d *FmtDesc) error { return ioctl(fd, "VIDIOC_ENUM_FMT", read|write, 2, d) }

// GFmt reads the format of the queue f.Type.
func GFmt(fd int, f *Format) error { return ioctl(fd, "VIDIOC_G_FMT", read|write, 4, f) }

// SFmt sets the format; the driver changes f to the nearest that it can do.
func SFmt(fd int, f *Format) error { return ioctl(fd, "VIDIOC_S_FMT", read|write, 5, f) }

// TryFmt is SFmt that changes nothing in the device.
func TryFmt(fd int, f *Format) error { return ioctl(fd, "VIDIOC_TRY_FMT", read|write, 64, f) }

// ReqBufs allocates r.Count buffers, or frees all when it is 0; the driver corrects the count.
func ReqBufs(fd int, r *RequestBuffers) error {
	return ioctl(fd, "VIDIOC_REQBUFS", read|write, 8, r)
}

// CreateBufs adds buffers, of c.Format, to a queue.
func CreateBufs(fd int, c *CreateBuffers) error {
	return ioctl(fd, "VIDIOC_CREATE_BUFS", read|write, 92, c)
}

// QueryBuf describes the buffer b.Index of the queue b.Type.
func QueryBuf(fd int, b *Buffer) error { return ioctl(fd, "VIDIOC_QUERYBUF", read|write, 9, b) }

// QBuf gives a buffer to the driver.
func QBuf(fd int, b *Buffer) error { return ioctl(fd, "VIDIOC_QBUF", read|write, 15, b) }

// DQBuf takes a finished buffer back; EAGAIN when there is none, EPIPE after the last of a stream.
func DQBuf(fd int, b *Buffer) error { return ioctl(fd, "VIDIOC_DQBUF", read|write, 17, b) }

// ExpBuf exports one plane of an MMAP buffer as a DMABUF file descriptor, e.FD.
func ExpBuf(fd int, e *ExportBuffer) error { return ioctl(fd, "VIDIOC_EXPBUF", read|write, 16, e) }

// StreamOn starts a queue.
func StreamOn(fd int, t BufType) error { return ioctl(fd, "VIDIOC_STREAMON", write, 18, &t) }

// StreamOff stops a queue and takes all its buffers from the driver.
func StreamOff(fd int, t BufType) error { return ioctl(fd, "VIDIOC_STREAMOFF", write, 19, &t) }

// GParm reads the frame interval.
func GParm(fd int, p *StreamParm) error { return ioctl(fd, "VIDIOC_G_PARM", read|write, 21, p) }

// SParm sets the frame interval; the driver changes p to what it does.
func SParm(fd int, p *StreamParm) error { return ioctl(fd, "VIDIOC_S_PARM", read|write, 22, p) }

// GStd reads the analogue standard that is set.
func GStd(fd int) (Std, error) {
	var s Std
	return s, ioctl(fd, "VIDIOC_G_STD", read, 23, &s)
}

// SStd sets the analogue standard.
func SStd(fd int, s Std) error { return ioctl(fd, "VIDIOC_S_STD", write, 24, &s) }

// QueryStd detects the analogue standard on the input.
func QueryStd(fd int) (Std, error) {
	var s Std
	return s, ioctl(fd, "VIDIOC_QUERYSTD", read, 63, &s)
}

// EnumStd describes the standard s.Index of the current input; EINVAL past the last.
func EnumStd(fd int, s *Standard) error { return ioctl(fd, "VIDIOC_ENUMSTD", read|write, 25, s) }

// EnumInput describes the input i.Index, with its signal status; EINVAL past the last.
func EnumInput(fd int, i *Input) error { return ioctl(fd, "VIDIOC_ENUMINPUT", read|write, 26, i) }

// GInput returns the index of the selected input.
func GInput(fd int) (int32, error) {
	var i int32
	return i, ioctl(fd, "VIDIOC_G_INPUT", read, 38, &i)
}

// SInput selects an input.
func SInput(fd int, i int32) error { return ioctl(fd, "VIDIOC_S_INPUT", read|write, 39, &i) }

// GCtrl reads a control.
func GCtrl(fd int, c *Control) error { return ioctl(fd, "VIDIOC_G_CTRL", read|write, 27, c) }

// SCtrl sets a control; the driver may round the value.
func SCtrl(fd int, c *Control) error { return ioctl(fd, "VIDIOC_S_CTRL", read|write, 28, c) }

// GExtCtrls reads several controls.
func GExtCtrls(fd int, c *ExtControls) error {
	return ioctl(fd, "VIDIOC_G_EXT_CTRLS", read|write, 71, c)
}

// SExtCtrls sets several controls, all or none.
func SExtCtrls(fd int, c *ExtControls) error {
	return ioctl(fd, "VIDIOC_S_EXT_CTRLS", read|write, 72, c)
}

// TryExtCtrls is SExtCtrls that changes nothing in the device.
func TryExtCtrls(fd int, c *ExtControls) error {
	return ioctl(fd, "VIDIOC_TRY_EXT_CTRLS", read|write, 73, c)
}

// QueryExtCtrl describes the control q.ID, or the next one with CtrlNext.
func QueryExtCtrl(fd int, q *ExtCtrlInfo) error {
	return ioctl(fd, "VIDIOC_QUERY_EXT_CTRL", read|write, 103, q)
}

// QueryMenu describes the entry m.Index of the menu control m.ID; EINVAL where the menu has a hole.
func QueryMenu(fd int, m *MenuItem) error { return ioctl(fd, "VIDIOC_QUERYMENU", read|write, 37, m) }

// EnumFrameSizes describes the size f.Index of the layout f.PixelFormat; EINVAL past the last.
func EnumFrameSizes(fd int, f *FrameSize) error {
	return ioctl(fd, "VIDIOC_ENUM_FRAMESIZES", read|write, 74, f)
}

// EnumFrameIntervals describes the interval f.Index of one layout and size; EINVAL past the last.
func EnumFrameIntervals(fd int, f *FrameInterval) error {
	return ioctl(fd, "VIDIOC_ENUM_FRAMEINTERVALS", read|write, 75, f)
}

// GSelection reads a rectangle: crop, compose and their bounds.
func GSelection(fd int, s *Selection) error {
	return ioctl(fd, "VIDIOC_G_SELECTION", read|write, 94, s)
}

// SSelection sets a rectangle; the driver changes s to what it does.
func SSelection(fd int, s *Selection) error {
	return ioctl(fd, "VIDIOC_S_SELECTION", read|write, 95, s)
}

// GDVTimings reads the digital timings that are set.
func GDVTimings(fd int, t *DVTimings) error {
	return ioctl(fd, "VIDIOC_G_DV_TIMINGS", read|write, 88, t)
}

// SDVTimings sets the digital timings; EBUSY while buffers are allocated.
func SDVTimings(fd int, t *DVTimings) error {
	return ioctl(fd, "VIDIOC_S_DV_TIMINGS", read|write, 87, t)
}

// QueryDVTimings detects the timings of the signal: ENOLINK no signal, ENOLCK not stable, ERANGE out of what the device does.
func QueryDVTimings(fd int, t *DVTimings) error {
	return ioctl(fd, "VIDIOC_QUERY_DV_TIMINGS", read, 99, t)
}

// EnumDVTimings describes the timings e.Index that the device knows; EINVAL past the last.
func EnumDVTimings(fd int, e *DVTimingsEnum) error {
	return ioctl(fd, "VIDIOC_ENUM_DV_TIMINGS", read|write, 98, e)
}

// GetDVTimingsCap reads the limits of the device's digital timings.
func GetDVTimingsCap(fd int, c *DVTimingsCap) error {
	return ioctl(fd, "VIDIOC_DV_TIMINGS_CAP", read|write, 100, c)
}

// GEDID reads e.Blocks blocks of 128 bytes, from e.StartBlock, into the memory at e.Data; ENODATA when there is none.
func GEDID(fd int, e *EDID) error { return ioctl(fd, "VIDIOC_G_EDID", read|write, 40, e) }

// SEDID writes the EDID; no blocks clears it and pulls hot-plug detect low.
func SEDID(fd int, e *EDID) error { return ioctl(fd, "VIDIOC_S_EDID", read|write, 41, e) }

// SubscribeEvent asks for events of a type.
func SubscribeEvent(fd int, s *EventSubscription) error {
	return ioctl(fd, "VIDIOC_SUBSCRIBE_EVENT", write, 90, s)
}

// UnsubscribeEvent ends a subscription.
func UnsubscribeEvent(fd int, s *EventSubscription) error {
	return ioctl(fd, "VIDIOC_UNSUBSCRIBE_EVENT", write, 91, s)
}

// DQEvent takes the oldest event; ENOENT when there is none.
func DQEvent(fd int, e *Event) error { return ioctl(fd, "VIDIOC_DQEVENT", read, 89, e) }

// EncCmd orders an encoder to start or stop (drain).
func EncCmd(fd int, c *EncoderCmd) error { return ioctl(fd, "VIDIOC_ENCODER_CMD", read|write, 77, c) }

// TryEncCmd asks whether the encoder knows the command.
func TryEncCmd(fd int, c *EncoderCmd) error {
	return ioctl(fd, "VIDIOC_TRY_ENCODER_CMD", read|write, 78, c)
}

// DecCmd orders a decoder to start or stop (drain).
func DecCmd(fd int, c *DecoderCmd) error { return ioctl(fd, "VIDIOC_DECODER_CMD", read|write, 96, c) }

// DMABUFSync brackets access to a DMABUF by the processor: SyncStart, and SyncEnd after it, each with SyncRead, SyncWrite.
func DMABUFSync(fd int, flags uint64) error {
	arg := flags
	return call(fd, "DMA_BUF_IOCTL_SYNC", request(write, 'b', 0, unsafe.Sizeof(arg)), unsafe.Pointer(&arg))
}
