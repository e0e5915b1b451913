// Package usb is a USB camera made of software, for tests that run in a guest of internal/testkit/vm: a program that speaks USB/IP with
// the kernel's virtual host controller (vhci_hcd), so that the kernel's own uvcvideo and snd-usb-audio find a device, read its
// descriptors and stream from it, and lose it when it is unplugged.
//
// Its pictures come over a bulk or an isochronous endpoint, its sound over an isochronous one. It has no controls and no still pictures.
//
// It knows nothing of Gantry's own way to capture.
package usb

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A Camera is what a device says of itself and what it sends. It is not changed while it is plugged in.
type Camera struct {
	Vendor, Product uint16
	Version         uint16 // of USB, in BCD; 0: 2.00
	Maker, Name     string
	Serial          string // empty: it has none
	Formats         []Format
	// Picture returns picture n since the stream began, in the format that the driver chose. It is called at the format's rate. After
	// nil the camera hangs until the driver begins to stream anew.
	Picture func(f Format, n int) []byte
	// Isochronous sends pictures as most cameras and dongles do, at a guaranteed rate; else they come over a bulk endpoint.
	Isochronous bool
	// Sound adds a microphone: a tone of 1 kHz, 48 kHz, two channels, by the same clock as the pictures.
	Sound bool
}

// A Format is one kind of pictures.
type Format struct {
	FourCC        string // "MJPG", "YUYV" or "H264"
	Width, Height int
	Rates         []int // pictures a second, the default first
}

// A Plugged is a Camera in a port.
type Plugged struct {
	Place string // on the bus: "1-1"
	d     *dev
}

const controller = "/sys/devices/platform/vhci_hcd.0"

const anyPort = -1

// Plug plugs the camera into any free port and returns at once: the kernel then finds the device by itself. The test's end
// unplugs it.
func (c *Camera) Plug(t testing.TB) *Plugged {
	t.Helper()
	return c.PlugInto(t, anyPort)
}

// PlugInto is Plug with the port's number, from 0.
func (c *Camera) PlugInto(t testing.TB, port int) *Plugged {
	t.Helper()
	p, err := c.plug(port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Unplug)
	return p
}

func (c *Camera) plug(port int) (*Plugged, error) {
	port, err := freePort(port)
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(pair[1])
	file := os.NewFile(uintptr(pair[0]), "usbip")
	conn, err := net.FileConn(file)
	file.Close()
	if err != nil {
		return nil, err
	}
	const highSpeed = 3 // enum usb_device_speed
	line := fmt.Sprintf("%d %d %d %d", port, pair[1], 1<<16|(port+1), highSpeed)
	if err := os.WriteFile(controller+"/attach", []byte(line), 0); err != nil {
		conn.Close()
		return nil, fmt.Errorf("plug into port %d: %w", port, err)
	}
	d := newDev(c, conn)
	d.work.Go(d.serve)
	return &Plugged{Place: fmt.Sprintf("%s-%d", bus(), port+1), d: d}, nil
}

// Unplug takes the camera out and waits until the kernel has noticed, ten seconds at most. A second call does nothing.
func (p *Plugged) Unplug() {
	p.d.once.Do(func() {
		p.d.conn.Close()
		p.d.end()
		p.d.work.Wait()
		for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(time.Millisecond) {
			if _, err := os.Lstat("/sys/bus/usb/devices/" + p.Place); err != nil {
				return
			}
		}
	})
}

// Streams tells how often the driver began to stream so far.
func (p *Plugged) Streams() int {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	return p.d.streams
}

// bus returns the number of the controller's USB 2 bus.
func bus() string {
	hubs, _ := filepath.Glob(controller + "/usb*/speed")
	for _, h := range hubs {
		if speed, _ := os.ReadFile(h); strings.TrimSpace(string(speed)) == "480" {
			return strings.TrimPrefix(filepath.Base(filepath.Dir(h)), "usb")
		}
	}
	return "?"
}

// freePort waits until a port is free: it is not at once after its device was unplugged.
func freePort(want int) (int, error) {
	for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(time.Millisecond) {
		status, err := os.ReadFile(controller + "/status")
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(status)) {
			f := strings.Fields(line)
			const free = "004" // VDEV_ST_NULL
			if len(f) < 3 || f[0] != "hs" || f[2] != free {
				continue
			}
			if port, err := strconv.Atoi(f[1]); err == nil && (port == want || want == anyPort) {
				return port, nil
			}
		}
	}
	return 0, fmt.Errorf("no free port, or not number %d", want)
}

// A dev is the software behind one plug.
type dev struct {
	camera *Camera
	conn   net.Conn
	work   sync.WaitGroup
	once   sync.Once
	quit   chan struct{}
	write  sync.Mutex

	mu      sync.Mutex
	probe   []byte // the streaming parameters that were set last
	streams int
	pending map[uint32]*request // of the endpoints with data, by number
	video   pipe
	audio   pipe
}

func newDev(c *Camera, conn net.Conn) *dev {
	d := &dev{camera: c, conn: conn, quit: make(chan struct{}), pending: map[uint32]*request{}}
	d.probe = d.parameters(nil)
	return d
}

// end stops the streams.
func (d *dev) end() {
	close(d.quit)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.video.stop()
	d.audio.stop()
}
