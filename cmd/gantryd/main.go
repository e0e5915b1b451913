// Command gantryd puts a camera on the air: it captures, encodes and publishes, as one YAML file says. It alone knows which
// devices, encoders and protocols exist.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"gantry/encoder/libav"
	"gantry/encoder/openh264"
	"gantry/internal/config"
	"gantry/systemd"
)

// version is set by the linker (scripts/build).
var version = "unknown"

const usage = `gantryd captures, encodes and publishes, as its configuration file says.

    gantryd --config FILE    run until SIGTERM or Ctrl-C; SIGHUP reads the file again
    gantryd check FILE       say what is wrong with a configuration file
    gantryd edid …           read and set what an HDMI input tells the sender: gantryd edid --help
    gantryd probe [--json]   say what inputs and encoders this machine has; each encoder is tried out

Flags:

    --config FILE    YAML file; an unknown key or a bad value is an error  (/etc/gantry/gantryd.yaml)
    --pprof ADDR     serve Go profiles on this loopback host:port          (off)
    --version        print the version

The file's video.source is the input: a test picture, a capture card, USB dongle or webcam, an RTSP camera, a file or MPEG-TS over UDP;
docs/inputs.md describes them. What comes coded is passed through to the destinations that can have it so.

The file's uplinks are the destinations, over WHIP, SRT, RTMP, RTSP or UDP, or the disk, or what heals a relay's recording;
docs/destinations.md describes them. Each can be started and
stopped on the page, or by POST to /api/v1/uplinks/NAME/start or stop there.

Where encoder.backend is auto, each encoder for the codec codes 30 pictures of the input's size and rate at the start; the best
that works is used, and the next takes over where one stops producing.

A file that SIGHUP finds to be bad is reported and changes nothing. A good one changes what differs: bitrate and GOP in the
running encoder, source, encoder or destinations one by one; the address of the page takes a restart.

Exit status: 0 stopped as asked, 1 an error, in the configuration too, 2 wrong usage.
`

const (
	exitOK = iota
	exitError
	exitUsage
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process: it returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "edid" {
		return edidCommand(args[1:], stdout, stderr)
	}
	command := ""
	if len(args) > 0 && (args[0] == "check" || args[0] == "probe") {
		command, args = args[0], args[1:]
	}
	flags := flag.NewFlagSet("gantryd", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	file := flags.String("config", "/etc/gantry/gantryd.yaml", "")
	pprof := flags.String("pprof", "", "")
	asJSON := flags.Bool("json", false, "")
	showVersion := flags.Bool("version", false, "")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return exitOK
	case err != nil:
		return wrongUsage(stderr, err.Error())
	case *showVersion:
		fmt.Fprintln(stdout, describeBuild())
		return exitOK
	}
	switch command {
	case "check":
		if flags.NArg() != 1 || flags.NFlag() != 0 {
			return wrongUsage(stderr, "check takes the name of one file")
		}
		return check(flags.Arg(0), stdout, stderr)
	case "probe":
		if flags.NArg() != 0 {
			return wrongUsage(stderr, "probe takes no argument but --json")
		}
		return fail(stderr, probe(ctx, *asJSON, stdout))
	}
	if flags.NArg() != 0 || *asJSON {
		return wrongUsage(stderr, fmt.Sprintf("what is %q? There are the commands check, edid and probe", args))
	}
	if *pprof != "" {
		if err := checkLoopback(*pprof); err != nil {
			return wrongUsage(stderr, "--pprof: "+err.Error())
		}
	}
	level := new(slog.LevelVar)
	log := slog.New(systemd.LogHandler(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})))
	return fail(stderr, serve(ctx, *file, *pprof, level, log))
}

func wrongUsage(stderr io.Writer, text string) int {
	fmt.Fprintf(stderr, "gantryd: %s\nTry gantryd --help.\n", text)
	return exitUsage
}

func fail(stderr io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	var places config.Errors
	if errors.As(err, &places) { // these name the file themselves
		fmt.Fprintln(stderr, places)
	} else {
		fmt.Fprintf(stderr, "gantryd: %v\n", err)
	}
	return exitError
}

func check(file string, stdout, stderr io.Writer) int {
	if _, err := load(file); err != nil {
		return fail(stderr, err)
	}
	fmt.Fprintf(stdout, "%s is good\n", file)
	return exitOK
}

// describeBuild says what was built in: which licence applies to the binary depends on it.
func describeBuild() string {
	text := fmt.Sprintf("gantryd %s (%s, %s/%s)", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	for _, part := range []struct{ name, missing string }{{"FFmpeg", libav.Missing()}, {"openh264", openh264.Missing()}} {
		if part.missing == "" {
			text += ", with " + part.name
		} else {
			text += ", without " + part.name + ": " + part.missing
		}
	}
	return text
}
