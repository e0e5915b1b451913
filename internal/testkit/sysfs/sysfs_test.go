package sysfs

import (
	"bytes"
	"testing"
)

// What Dump writes, Load reads as the same.
func TestDump(t *testing.T) {
	const text = `sys/class/sound/card1 -> ../../devices/usb1/1-1/1-1:1.0/sound/card1
sys/devices/usb1/1-1/1-1:1.0/sound/card1/id = Mic
sys/devices/usb1/1-1/idVendor = 1d6b
sys/devices/usb1/1-1/product = a = b
`
	m, err := parse([]byte("# made up\n\n" + text))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Dump(&out, m, "sound"); err != nil || out.String() != text {
		t.Errorf("%s%v", out.String(), err)
	}
	if _, err := parse([]byte("what\n")); err == nil {
		t.Error("a line without a meaning was taken")
	}
}
