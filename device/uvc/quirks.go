package uvc

// A Quirk is something wrong with all devices of one USB id, and where that was found.
type Quirk struct {
	ID     string // vendor and product, in small letters
	Name   string
	Wrong  string // what it does
	Answer string // what Gantry or the kernel does about it, or a person can
	Source string // an address, or a file of Linux
}

// String says it in a line.
func (q Quirk) String() string {
	return q.Name + ": " + q.Wrong + "; " + q.Answer + " (" + q.Source + ")"
}

// Quirks are what is known, each of a source that names the id. Nothing in it was seen on a device here: docs/hardware.md.
var Quirks = []Quirk{
	{"534d:2109", "MacroSilicon MS2109", "its sound says mono at 96 kHz and is stereo at 48 kHz",
		"corrected, by newer kernels already", "https://github.com/BertoldVdb/ms-tools/issues/19, Linux sound/usb/quirks-table.h"},
	{"534d:0021", "MacroSilicon MS2100/MS2106", "its sound begins in the middle of a sample, left and right swapped",
		"the kernel aligns it", "Linux sound/usb/quirks.c"},
	{"345f:2109", "MacroSilicon MS2109S", "it has no serial number, so that two of them cannot be told apart",
		"name it by its place, usb:PLACE", "https://github.com/steve-m/hsdaoh-rp2350/issues/3"},
	{"046d:0825", "Logitech C270", "all have the serial number 200901010001",
		"name two of them by their places, usb:PLACE", "https://github.com/paukstelis/octoprint_deploy/issues/203"},
	{"0fd9:0066", "Elgato Cam Link 4K", "with kernels from before the fix of 2021 each pixel format but its first gives no picture",
		"set format to the first that gantryd probe lists, or take a newer kernel", "https://github.com/AdamGleave/elgato-camlink-workaround/issues/3"},
	{"0fd9:0066", "Elgato Cam Link 4K", "it offers one size only, that of the signal when it was plugged in or the signal changed, and which format comes first differs with it",
		"leave width, height and rate at 0", "https://github.com/xkahn/camlink/issues/2"},
	{"0fd9:0066", "Elgato Cam Link 4K", "it may stop to send, as it comes with pictures over a bulk endpoint",
		"the stream is begun anew after two seconds; Elgato's program for Windows sets it to isochronous", "https://github.com/obsproject/obs-studio/pull/4005"},
	{"0fd9:009c", "Elgato 4K X", "once its stream was closed it may send empty pictures until it is reset",
		"plug it in again, or run usbreset", "https://github.com/13bm/elgato4k-linux/issues/8"},
	{"046d:082d", "Logitech C920", "it has H.264 of its own beside MJPG and YUYV",
		"format: H264 passes that on", "https://github.com/labgrid-project/labgrid/pull/517"},
	{"046d:0892", "Logitech C920, newer ones", "its H.264 is UVC 1.5, which Linux does not take",
		"capture MJPG", "https://github.com/labgrid-project/labgrid/pull/517"},
	{"09da:2690", "Redragon Live Camera", "the kernel's log fills with \"cannot get freq at ep\" and the device is not stable",
		"options uvcvideo quirks=0x80 in /etc/modprobe.d", "https://github.com/linuxmint/mintreport/issues/130"},
}
