package v4l2

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gantry/internal/testkit/vm"
	"gantry/internal/v4l2/uapi"
	"gantry/media"
)

// encode sends n pictures to vicodec's encoder and checks what comes back. fill returns the next picture, done ends its loan.
func encode(t *testing.T, size Format, memory uapi.Memory, n int, fill func(out *Queue, slot, i int) *Fill, done func(i int)) {
	t.Helper()
	d := open(t, "stateful-encoder")
	if !d.Mem2Mem() {
		t.Fatal("no memory-to-memory device")
	}
	out, in := d.OutputType(), d.CaptureType()
	_, err := d.SetFormat(out, size)
	must(t, err)
	coded, err := d.SetFormat(in, Format{Width: size.Width, Height: size.Height, FourCC: media.NewFourCC("FWHT")})
	must(t, err)
	must(t, d.SetControls(Setting{uapi.CIDGOPSize, 5}))
	must(t, d.Subscribe(uapi.EventEOS, 0))
	pictures, err := d.NewQueue(out, memory, 4)
	must(t, err)
	defer func() { must(t, pictures.Close(t.Context())) }()
	packets, err := d.NewQueue(in, uapi.MemoryMMAP, 4)
	must(t, err)
	defer func() { must(t, packets.Close(t.Context())) }()
	must(t, packets.EnqueueAll())
	must(t, pictures.StreamOn())
	must(t, packets.StreamOn())
	w := waiter(t, d)
	var b Done
	for i := range n {
		f := fill(pictures, i%pictures.Len(), i)
		must(t, pictures.Enqueue(i%pictures.Len(), f))
		next(t, w, packets, &b)
		if b.Used[0] == 0 || b.Used[0] > coded.Planes[0].Size {
			t.Errorf("packet of %d bytes", b.Used[0])
		}
		if b.Time != f.Time {
			t.Errorf("packet's time %v, its picture's %v", b.Time, f.Time)
		}
		packets.Return(b.Index)
		must(t, pictures.Dequeue(&b))
		pictures.Keep(b.Index)
		done(i)
	}
	must(t, d.StopEncoder())
	for {
		next(t, w, packets, &b)
		last := b.Flags&uapi.BufFlagLast != 0
		packets.Keep(b.Index)
		if last {
			break
		}
	}
	if err := packets.Dequeue(&b); !errors.Is(err, unix.EPIPE) {
		t.Errorf("after the last packet: %v", err)
	}
	if e, ok, err := d.NextEvent(); err != nil || !ok || e.Type != uapi.EventEOS {
		t.Errorf("event %+v, %v, %v; want end of stream", e, ok, err)
	}
	must(t, d.StartEncoder())
}

func TestKernelEncodesFromItsOwnMemory(t *testing.T) {
	vm.Guest(t)
	size := Format{Width: 640, Height: 360, FourCC: media.NV12}
	encode(t, size, uapi.MemoryMMAP, 10, func(out *Queue, slot, i int) *Fill {
		data := out.Buffer(slot).Planes[0].Data
		must(t, out.Buffer(slot).CPU(uapi.SyncWrite, func() error {
			for j := range data {
				data[j] = byte(i + j/640)
			}
			return nil
		}))
		return &Fill{Planes: []FillPlane{{Used: 640 * 360 * 3 / 2}}, Time: time.Duration(i+1) * 20 * time.Millisecond, Field: uapi.FieldNone}
	}, func(int) {})
}

// Zero copy: the camera's buffers are the encoder's input. The height is one that the encoder does not round up (multiples of
// 16): else it wants more memory than the camera's picture has.
func TestKernelEncodesTheCamerasMemory(t *testing.T) {
	vm.Guest(t)
	d := open(t, capture[0])
	must(t, d.SelectInput(webcam))
	size, err := d.SetFormat(d.CaptureType(), Format{Width: 640, Height: 480, FourCC: media.NV12})
	must(t, err)
	camera, err := d.NewQueue(d.CaptureType(), uapi.MemoryMMAP, 4)
	must(t, err)
	defer func() { must(t, camera.Close(t.Context())) }()
	must(t, camera.EnqueueAll())
	must(t, camera.StreamOn())
	w := waiter(t, d)
	var b Done
	encode(t, Format{Width: 640, Height: 480, FourCC: media.NV12}, uapi.MemoryDMABUF, 10, func(*Queue, int, int) *Fill {
		next(t, w, camera, &b)
		plane := FillPlane{FD: camera.Buffer(b.Index).Planes[0].FD, Length: size.Planes[0].Size, Used: b.Used[0]}
		return &Fill{Planes: []FillPlane{plane}, Time: b.Time, Field: uapi.FieldNone}
	}, func(int) { camera.Return(b.Index) })
}
