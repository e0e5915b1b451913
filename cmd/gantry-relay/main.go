// Command gantry-relay takes streams in over WHIP, SRT and RTMP and plays them over WHEP, with a page that lists and one that plays them.
// It also holds the WHEP viewer `gantry-relay watch`.
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
	"syscall"

	"gantry/systemd"
)

// version is set by the linker (scripts/build).
var version = "unknown"

const usage = `gantry-relay takes streams in over WHIP, SRT and RTMP and plays them over WHEP.

    gantry-relay [flags]             run the relay until SIGTERM or Ctrl-C
    gantry-relay check FILE          check a configuration file
    gantry-relay watch [flags] URL   receive a stream and say what comes (gantry-relay watch --help)

A relay serves, on the address of --http:

    POST /whip/{stream}   publish (WHIP, RFC 9725)       GET /               what is on the air
    POST /whep/{stream}   play (WHEP)                    GET /play/{stream}  the player
    GET  /api/v1/streams  the same as JSON               GET /metrics        for Prometheus
    GET  /hls/{stream}/index.m3u8   Low-Latency HLS
    GET  /healthz         200 while all is well          GET /gantry-player.js  the player as a module
    POST /api/v1/streams/{stream}/publishers/{id}        which of a stream's publishers is forwarded (docs/relay.md)

Flags, each also a key of the configuration file (without the dashes; those that may repeat are lists there). A flag wins over
the environment, the environment over the file:

    --config FILE            YAML file; an unknown key or a bad value is an error
    --http ADDR              host:port of the pages and of WHIP and WHEP; port 0 is a free one            (:8080)
    --rtc ADDR               host:port of media, one UDP and one TCP port; port 0 is a free one           (:8189)
    --srt ADDR               UDP host:port that takes SRT callers; empty: off                             (:8890)
    --srt-latency DURATION   within which lost packets are sent again; the larger of both sides' counts   (120ms)
    --srt-passphrase TEXT    10 to 79 characters: callers encrypt with it (AES). Rather use
                             GANTRY_SRT_PASSPHRASE or the file, where srt-passphrases has one for each stream
    --rtmp ADDR              host:port that takes RTMP publishers; empty: off                             (:1935)
    --rtmps ADDR             the same for RTMPS, where there is a certificate                             (:1936)
    --public-address IP      tell peers this address too, as behind a NAT or a port forwarding; may repeat
    --stun-server HOST:PORT  learn the public address from this server and tell it to peers, as behind a NAT
    --ice-lite               leave connectivity checks to the peers (RFC 8445 §2.5): for a relay on a public address
    --trusted-proxy IP       believe X-Forwarded-For of this address, or network, when limiting clients; may repeat
    --publish-token TOKEN    publishers must show one of these; may repeat. Others on the machine can read a
                             process's flags: rather use GANTRY_PUBLISH_TOKEN or the file
    --play-token TOKEN       viewers must show one of these; may repeat. Rather use GANTRY_PLAY_TOKEN or the file
    --state-dir DIR          remember here what the API changed; else, under systemd, in STATE_DIRECTORY, else not at all
    --tls-cert FILE          serve https with this certificate chain (PEM), read again when it changes
    --tls-key FILE           and this key
    --hold DURATION          how long viewers wait for a publisher to return                              (30s)
    --playout-delay DURATION the most that browsers hold pictures back against jitter; 0s: as they like   (500ms)
    --offline WHAT           what they see meanwhile: last, slate, or "slate: WORDS" (H.264 streams)      (last)
    --log LEVEL              debug, info, warn or error                                                   (info)
    --version                print the version

The file's pull names streams that the relay fetches itself (rtsp://, rtsps://, srt://), its restream where streams are sent on to
(srt://, rtmp://, rtmps://, WHIP's https://); /restream is the page, and
/api/v1/streams/{stream}/restream the API, to add and steer others while live. Its recording keeps streams as MP4;
/recordings and /api/v1/recordings list and fetch them.

An address without a host (":8890") has that of --http. Publish with

    srt://HOST:8890?streamid=STREAM            or streamid=publish:STREAM:TOKEN   MPEG-TS: H.264, H.265, AAC, Opus
    srt://HOST:8890?streamid=read:STREAM:PLAY-TOKEN                               receives it
    rtmp://HOST:1935/live/STREAM?token=TOKEN   rtmps://HOST:1936/…                the same and AV1

Environment: GANTRY_PUBLISH_TOKEN, GANTRY_PLAY_TOKEN: tokens, with spaces between. GANTRY_SRT_PASSPHRASE. NOTIFY_SOCKET, WATCHDOG_USEC
and STATE_DIRECTORY: systemd's.

Without a publish token the relay refuses to listen on an address that other machines can reach. Clients show tokens as
"Authorization: Bearer TOKEN" or as ?token=TOKEN. Where play tokens are set, / and /api/v1/streams ask for one too.

Exit status: 0 stopped as asked, 1 an error, 2 wrong flags or configuration.
`

// errUsage is returned for wrong flags, which have been named already.
var errUsage = errors.New("wrong usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	var bad *configError
	switch {
	case err == nil:
	case errors.Is(err, errUsage):
		os.Exit(2)
	case errors.As(err, &bad):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "gantry-relay:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "watch":
			return watchCommand(ctx, args[1:], stdout, stderr)
		case "check":
			return checkCommand(args[1:], stdout, stderr)
		}
	}
	flags := flag.NewFlagSet("gantry-relay", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, "gantry-relay --help explains the flags\n") }
	showVersion := flags.Bool("version", false, "")
	help := flags.Bool("help", false, "")
	load := configFlags(flags)
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp), err == nil && *help: // -h
		fmt.Fprint(stdout, usage)
		return nil
	case err != nil:
		return errUsage
	case *showVersion:
		fmt.Fprintln(stdout, "gantry-relay", version)
		return nil
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "gantry-relay: unknown command %q; there are check and watch\n", flags.Arg(0))
		return errUsage
	}
	cfg, err := load(os.Getenv)
	if err != nil {
		return &configError{err}
	}
	log := slog.New(systemd.LogHandler(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: cfg.Log.Level})))
	return serve(ctx, cfg, log)
}

func checkCommand(args []string, stdout, stderr io.Writer) error {
	if len(args) != 1 || args[0] == "--help" || args[0] == "-h" {
		fmt.Fprintln(stderr, "usage: gantry-relay check FILE")
		return errUsage
	}
	if _, err := loadFile(args[0]); err != nil {
		return &configError{err}
	}
	fmt.Fprintf(stdout, "%s: ok\n", args[0])
	return nil
}
