// Package webui is the box's own page: what goes in, what is made of it, where it goes, and what is wrong, live and in words;
// the same as JSON and as server-sent events. All that it changes is which destinations are connected, and which input is used.
//
// It knows no pipeline: whoever serves it implements Box. It asks nobody for a password, so it belongs on a loopback address;
// requests that name another host are refused, so that no foreign web page can read it through the browser (DNS rebinding), and
// so are posts that another page had the browser make.
package webui

import (
	"embed"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"time"

	"gantry/internal/health"
)

// A Box is what the page shows and steers. Its methods are called from any goroutine, and are quick.
type Box interface {
	Status() Status
	// StartUplink and StopUplink say whether a destination shall be connected; to say it again changes nothing. They return
	// ErrNoUplink for a name that is not in Status.
	StartUplink(name string) error
	StopUplink(name string) error
}

// ErrNoUplink: there is no destination of this name.
var ErrNoUplink = errors.New("no such destination")

// A Status is what a box does at one moment. Texts are for people; a field that is empty or 0 is not known.
type Status struct {
	Version string             `json:"version"`
	Time    time.Time          `json:"time"`   // of the box's clock, UTC
	Uptime  float64            `json:"uptime"` // seconds
	Health  []health.Condition `json:"health"` // the worst first
	Video   Video              `json:"video"`
	Encoder Encoder            `json:"encoder"`
	// Renditions are the further encodes of the same pictures.
	Renditions []Encoder `json:"renditions,omitempty"`
	CPU        float64   `json:"cpu"`  // processors that the process keeps busy
	CPUs       int       `json:"cpus"` // that there are

	Audio   Audio    `json:"audio"`
	Uplinks []Uplink `json:"uplinks"`
}

// Video is the input for pictures.
type Video struct {
	Name    string  `json:"name"`
	Signal  bool    `json:"signal"` // its pictures go out, not the slate
	Reason  string  `json:"reason,omitempty"`
	Format  string  `json:"format,omitempty"`
	Rate    float64 `json:"rate"`    // pictures a second, measured
	Frames  uint64  `json:"frames"`  // from the source
	Slates  uint64  `json:"slates"`  // pictures that stood in for it
	Dropped uint64  `json:"dropped"` // lost by the device, or not encoded in time

	Codec    string `json:"codec,omitempty"`    // of a source that comes coded
	BFrames  bool   `json:"b_frames,omitempty"` // which it has
	Decoding bool   `json:"decoding,omitempty"` // because somebody needs pictures
}

// Encoder is the encoder for pictures.
type Encoder struct {
	Rendition string  `json:"rendition,omitempty"` // empty: the main one
	Name      string  `json:"name,omitempty"`
	Reason    string  `json:"reason,omitempty"` // why there is none
	Codec     string  `json:"codec,omitempty"`
	Width     int     `json:"width,omitempty"`
	Height    int     `json:"height,omitempty"`
	Ceiling   int     `json:"ceiling"` // bit/s that are configured
	Target    int     `json:"target"`  // bit/s that the paths carry
	Bitrate   float64 `json:"bitrate"` // bit/s, measured
	Rate      float64 `json:"rate"`    // pictures a second, measured
	Took      float64 `json:"took"`    // seconds that a picture is in the encoder, on average
	KeyFrames uint64  `json:"key_frames"`
}

// Audio is the input for sound and its encoder.
type Audio struct {
	Name    string  `json:"name,omitempty"` // empty: there is no sound
	Reason  string  `json:"reason,omitempty"`
	Format  string  `json:"format,omitempty"`
	Codec   string  `json:"codec,omitempty"`
	Bitrate float64 `json:"bitrate"`          // bit/s, measured
	Passed  bool    `json:"passed,omitempty"` // it is what a coded source for pictures brings: it has no levels

	Inputs   []Level `json:"inputs"`  // of the source's channels
	Outputs  []Level `json:"outputs"` // of what is coded: left and right
	Clipped  uint64  `json:"clipped"` // runs of 10 ms or so that touched full scale
	Silence  float64 `json:"silence"` // seconds that stood in for missing sound
	Drift    float64 `json:"drift"`   // by how much the card's clock is fast, in millionths
	Offset   float64 `json:"offset"`  // seconds by which the sound is later than the pictures, as far as is known
	Overruns uint64  `json:"overruns"`
}

// Level is what a meter shows of one channel, in dB of full scale; -120 is silence.
type Level struct {
	Peak float64 `json:"peak"`
	RMS  float64 `json:"rms"`
}

// Uplink is one destination.
type Uplink struct {
	Name    string     `json:"name"`
	State   string     `json:"state"` // stopped, standby, waiting, connecting or connected
	Since   time.Time  `json:"since"`
	Reason  string     `json:"reason,omitempty"` // why the last connection ended
	Next    *time.Time `json:"next,omitempty"`   // when the next try is due
	Carries int        `json:"carries"`          // bit/s that the path is said to carry
	Dropped uint64     `json:"dropped"`          // packets that waited too long
	Backup  string     `json:"backup_of,omitempty"`
	Codecs  string     `json:"codecs,omitempty"` // of what it is sent

	Pictures string   `json:"pictures,omitempty"` // of a source that comes coded: "passed through", or "re-encoded: " and why
	Layers   []string `json:"layers,omitempty"`   // renditions that it gets
	Paused   []string `json:"paused,omitempty"`   // those of them that its path has no room for now
	Bitrate  float64  `json:"bitrate"`            // bit/s that leave, measured
	Sent     Sent     `json:"sent"`
}

// Sent is what a destination's protocol reports.
type Sent struct {
	Remote        string  `json:"remote,omitempty"`
	Peers         int     `json:"peers,omitempty"` // who receives, where several can
	RTT           float64 `json:"rtt"`             // seconds
	Loss          float64 `json:"loss"`            // share of packets, lately, before they were sent again
	Buffered      float64 `json:"buffered"`        // seconds of media that are sent and not acknowledged
	Packets       uint64  `json:"packets"`
	Bytes         uint64  `json:"bytes"`
	Retransmitted uint64  `json:"retransmitted"`
	Dropped       uint64  `json:"dropped"` // packets given up as too late, or not taken by the path
	Paths         []Path  `json:"paths,omitempty"`
}

// Path is one of several networks by which a destination is sent to at once.
type Path struct {
	Name      string  `json:"name"` // of the interface
	Connected bool    `json:"connected"`
	Remote    string  `json:"remote,omitempty"`
	RTT       float64 `json:"rtt"`  // seconds
	Loss      float64 `json:"loss"` // share of packets, lately
	Bytes     uint64  `json:"bytes"`
	Carries   int     `json:"carries"` // bit/s that it is believed to; 0: not known
}

const (
	eventEvery  = time.Second
	maxWatchers = 16 // open event streams at a time
	writeLimit  = 5 * time.Second
)

//go:embed static
var static embed.FS

// Handler serves the page at /, the Status at /api/v1/status and every second at /api/v1/events, and metrics, if not nil, at
// /metrics. Where the box is a Snapshotter, /snapshot.jpg?width=N is its newest picture; where it is a Chooser, a PUT to /api/v1/source
// chooses its input. A POST to /api/v1/uplinks/NAME/start or stop steers a destination. Event streams end with their request's context.
func Handler(box Box, metrics http.Handler) http.Handler {
	files, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // the folder is embedded
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(files))
	mux.HandleFunc("GET /api/v1/status", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(box.Status())
	})
	watchers := make(chan struct{}, maxWatchers)
	mux.HandleFunc("GET /api/v1/events", func(w http.ResponseWriter, r *http.Request) {
		select {
		case watchers <- struct{}{}:
			defer func() { <-watchers }()
			events(box, w, r)
		default:
			w.Header().Set("Retry-After", "10")
			http.Error(w, "too many event streams are open", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("POST /api/v1/uplinks/{name}/start", steer(box.StartUplink))
	mux.HandleFunc("POST /api/v1/uplinks/{name}/stop", steer(box.StopUplink))
	if from, ok := box.(Snapshotter); ok {
		mux.Handle("GET /snapshot.jpg", newSnapshots(from))
	}
	if c, ok := box.(Chooser); ok {
		mux.HandleFunc("GET /api/v1/source", choose(c))
		mux.HandleFunc("PUT /api/v1/source", choose(c))
	}
	if metrics != nil {
		mux.Handle("GET /metrics", metrics)
	}
	return guard(http.NewCrossOriginProtection().Handler(mux))
}

func steer(do func(name string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch err := do(r.PathValue("name")); {
		case errors.Is(err, ErrNoUplink):
			http.Error(w, err.Error(), http.StatusNotFound)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}
}

// guard adds what a browser must know, and refuses hosts that are not this machine.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "+
			"base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		if !local(r.Host) {
			http.Error(w, "this page is served to this machine only, by the name localhost or its address", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// events sends the Status at once and then every second (HTML §9.2).
func events(box Box, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(w)
	tick := time.NewTicker(eventEvery)
	defer tick.Stop()
	for {
		data, err := json.Marshal(box.Status())
		if err != nil {
			return
		}
		_ = control.SetWriteDeadline(time.Now().Add(writeLimit))
		if _, err := w.Write(append(append([]byte("data: "), data...), "\n\n"...)); err != nil {
			return
		}
		if err := control.Flush(); err != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}
