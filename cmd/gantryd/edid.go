package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"gantry/device/v4l2"
	"gantry/device/v4l2/edid"
)

const edidUsage = `gantryd edid reads and sets what an HDMI input tells the sender about itself: senders choose their mode by it.

    gantryd edid presets                        list the EDIDs that gantryd makes
    gantryd edid show WHAT                      describe a preset, a file or a device's EDID
    gantryd edid get DEVICE FILE                save a device's EDID; - is standard output
    gantryd edid set DEVICE PRESET|FILE         set it; the sender starts anew with what it now may send
    gantryd edid clear DEVICE                   clear it; the sender sees no display

DEVICE is named as video.v4l2.device in the configuration: /dev/video0, usb:PLACE, bus:PLACE or name:NAME.

Flags, before the command's name:

    --input N    the connector's number  (the one that is selected)

video.v4l2.edid in the configuration sets an EDID each time the device starts; what is set here holds until then, or until the
box restarts.
`

// edidCommand runs "gantryd edid".
func edidCommand(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("gantryd edid", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	input := flags.Int("input", -1, "")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, edidUsage)
		return exitOK
	} else if err != nil {
		return wrongUsage(stderr, err.Error())
	}
	args = flags.Args()
	wanted := map[string]int{"presets": 1, "show": 2, "get": 3, "set": 3, "clear": 2}
	if len(args) == 0 || wanted[args[0]] != len(args) {
		return wrongUsage(stderr, fmt.Sprintf("edid: what is %q? gantryd edid --help lists the commands", args))
	}
	return fail(stderr, edidDo(args, *input, stdout))
}

func edidDo(args []string, input int, stdout io.Writer) error {
	switch args[0] {
	case "presets":
		for _, name := range edid.Presets() {
			if err := showEDID(name, input, stdout); err != nil {
				return err
			}
		}
		return nil
	case "show":
		return showEDID(args[1], input, stdout)
	case "get":
		data, err := v4l2.ReadEDID(args[1], input)
		if err == nil && data == nil {
			err = fmt.Errorf("%s has no EDID set", args[1])
		}
		if err != nil {
			return err
		}
		if args[2] == "-" {
			_, err = stdout.Write(data)
			return err
		}
		return os.WriteFile(args[2], data, 0o644)
	case "set":
		data, err := v4l2.LoadEDID(args[2])
		if err != nil {
			return err
		}
		return v4l2.WriteEDID(args[1], input, data)
	}
	return v4l2.WriteEDID(args[1], input, nil)
}

// showEDID describes a preset, a file, or what a device has.
func showEDID(what string, input int, w io.Writer) error {
	load := v4l2.LoadEDID
	if strings.HasPrefix(what, "/dev/") || strings.HasPrefix(what, "bus:") || strings.HasPrefix(what, "name:") {
		load = func(name string) ([]byte, error) { return v4l2.ReadEDID(name, input) }
	}
	data, err := load(what)
	if err != nil {
		return err
	}
	if data == nil {
		_, err = fmt.Fprintf(w, "%s: none; the sender sees no display\n", what)
		return err
	}
	info, err := edid.Parse(data)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	var modes []string
	for _, m := range info.Modes {
		modes = append(modes, m.String())
	}
	_, err = fmt.Fprintf(w, "%s: %v\n    %d bytes; timings %s; CTA modes %v\n", what, info, len(data), strings.Join(modes, ", "), info.VICs)
	return err
}
