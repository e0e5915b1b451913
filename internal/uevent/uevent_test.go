package uevent

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// kernelSays is a message as Linux 6.1 sends it for a camera's node.
const kernelSays = "add@/devices/platform/vhci_hcd.0/usb1/1-1/1-1:1.0/video4linux/video0\x00ACTION=add\x00" +
	"DEVPATH=/devices/platform/vhci_hcd.0/usb1/1-1/1-1:1.0/video4linux/video0\x00SUBSYSTEM=video4linux\x00MAJOR=81\x00MINOR=7\x00" +
	"DEVNAME=video0\x00SEQNUM=1234\x00"

// udevSays wraps properties as udev 252 does.
func udevSays(properties string) []byte {
	b := append([]byte("libudev\x00"), 0xfe, 0xed, 0xca, 0xfe)
	b = binary.NativeEndian.AppendUint32(b, 40)
	b = binary.NativeEndian.AppendUint32(b, 40)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(properties)))
	return append(append(b, make([]byte, 16)...), properties...)
}

func TestParse(t *testing.T) {
	want := Event{"add", "/devices/platform/vhci_hcd.0/usb1/1-1/1-1:1.0/video4linux/video0", "video4linux", "video0"}
	_, properties, _ := strings.Cut(kernelSays, "\x00")
	for name, msg := range map[string][]byte{
		"kernel": []byte(kernelSays),
		"udev":   udevSays(strings.Replace(properties, "DEVNAME=", "DEVNAME=/dev/", 1)),
	} {
		if got, err := Parse(msg); err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	short := udevSays(properties)
	for name, msg := range map[string][]byte{
		"nothing": {}, "a word": []byte("add"), "no path": []byte("add\x00ACTION=add\x00"), "only a head": []byte("add@/x\x00"),
		"cut off": short[:len(short)-1], "a header alone": short[:12], "another magic": append([]byte("libudev\x00\x00\x00\x00\x00"), short[12:]...),
	} {
		if got, err := Parse(msg); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(kernelSays))
	f.Add(udevSays("ACTION=add\x00DEVPATH=/x\x00SUBSYSTEM=sound\x00"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		if e, err := Parse(msg); err == nil && (e.Action == "" || e.Path == "" || e.Subsystem == "") {
			t.Errorf("%+v", e)
		}
	})
}

// The kernel sends a uevent for a network interface that comes, in its network namespace; root may ask for one again.
func TestListen(t *testing.T) {
	l, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	net, none := l.Came("net"), l.Came("video4linux")
	if l.Came("net") != net {
		t.Error("another channel for the same subsystem")
	}
	if err := os.WriteFile("/sys/class/net/lo/uevent", []byte("change"), 0); err != nil && !errors.Is(err, os.ErrPermission) && !errors.Is(err, unix.EROFS) {
		t.Error(err)
	} else if err == nil {
		select {
		case <-net:
		case <-time.After(10 * time.Second):
			t.Error("no event")
		}
		select {
		case <-none:
			t.Error("an event of another subsystem")
		default:
		}
	}
	l.tell("")
	select {
	case <-none:
	default:
		t.Error("after a loss nobody is told to look")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
