package uapi

import (
	"testing"
	"unsafe"
)

// The numbers are what a C compiler makes of linux/videodev2.h and linux/dma-buf.h on a 64-bit machine.
func TestRequestNumbers(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("numbers of 64-bit machines")
	}
	for _, c := range []struct {
		name          string
		dir, typ, nr  uintptr
		size, request uintptr
	}{
		{"VIDIOC_QUERYCAP", read, 'V', 0, unsafe.Sizeof(Capability{}), 0x80685600},
		{"VIDIOC_S_FMT", read | write, 'V', 5, unsafe.Sizeof(Format{}), 0xc0d05605},
		{"VIDIOC_CREATE_BUFS", read | write, 'V', 92, unsafe.Sizeof(CreateBuffers{}), 0xc100565c},
		{"VIDIOC_DQBUF", read | write, 'V', 17, unsafe.Sizeof(Buffer{}), 0xc0585611},
		{"VIDIOC_STREAMON", write, 'V', 18, 4, 0x40045612},
		{"VIDIOC_DQEVENT", read, 'V', 89, unsafe.Sizeof(Event{}), 0x80885659},
		{"VIDIOC_QUERY_DV_TIMINGS", read, 'V', 99, unsafe.Sizeof(DVTimings{}), 0x80845663},
		{"VIDIOC_S_EXT_CTRLS", read | write, 'V', 72, unsafe.Sizeof(ExtControls{}), 0xc0205648},
		{"VIDIOC_QUERY_EXT_CTRL", read | write, 'V', 103, unsafe.Sizeof(ExtCtrlInfo{}), 0xc0e85667},
		{"DMA_BUF_IOCTL_SYNC", write, 'b', 0, 8, 0x40086200},
	} {
		if got := request(c.dir, c.typ, c.nr, c.size); got != c.request {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.request)
		}
	}
}

func TestUnions(t *testing.T) {
	var f Format
	f.Pix().Width, f.Pix().XferFunc = 1, 2
	if p := f.PixMplane(); p.Width != 1 {
		t.Errorf("multi-planar view of the width: %d", p.Width)
	}
	c := ExtControl{}
	c.SetValue(-5)
	if c.Value() != -5 || c.Value64() != -5 {
		t.Errorf("control: %d, %d", c.Value(), c.Value64())
	}
	if u := NewUint64(0x123456789a); u.Value() != 0x123456789a {
		t.Errorf("64-bit number: %#x", u.Value())
	}
	b := Buffer{}
	b.SetTime(1500001000)
	if b.Time() != 1500001000 {
		t.Errorf("timestamp: %v", b.Time())
	}
}
