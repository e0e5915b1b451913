package record

import (
	"encoding/json"
	"errors"
	"html/template"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gantry/internal/recording"
	"gantry/relay"
	"gantry/relay/access"
)

const (
	// Prefix is the path of the API.
	Prefix = "/api/v1/recordings"
	// Page is the path of the page.
	Page = "/recordings"

	maxUploads = 4
	maxClip    = 32 << 20         // bytes: a second at 250 Mbit/s
	patience   = 30 * time.Second // with an upload of which nothing comes
)

// Recorded is a stream in the body of Prefix.
type Recorded struct {
	Name  string    `json:"name"`
	Files int       `json:"files"`
	Bytes int64     `json:"bytes"`
	Gaps  int       `json:"gaps"`
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
}

// Recordings is the body of Prefix/STREAM.
type Recordings struct {
	Files []recording.File `json:"files,omitempty"` // unless gaps alone are asked for
	Gaps  []recording.Gap  `json:"gaps"`
}

// ServeHTTP answers one request. All want a publish token.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Cache-Control", "no-store")
	if r.URL.Path == Page {
		s.page(w, r)
		return
	}
	stream := strings.Trim(strings.TrimPrefix(r.URL.Path, Prefix), "/")
	name := ""
	if dir, last := path.Split(stream); recording.ValidName(last) {
		stream, name = strings.TrimSuffix(dir, "/"), last
	}
	if err := s.authorize(access.Token(r), stream); err != nil {
		w.Header().Set("WWW-Authenticate", "Bearer")
		problem(w, http.StatusUnauthorized, err.Error())
		return
	}
	reading := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case stream != "" && !relay.ValidName(stream):
		problem(w, http.StatusNotFound, relay.ErrName.Error())
	case reading && stream == "":
		s.all(w)
	case reading && name == "":
		s.list(w, stream, r.URL.Query().Has("gaps"))
	case reading:
		s.file(w, r, stream, name)
	case r.Method == http.MethodPut && stream != "" && name == "":
		s.put(w, r, stream)
	default:
		w.Header().Set("Allow", "GET, HEAD, PUT")
		problem(w, http.StatusMethodNotAllowed, "GET lists and fetches, PUT to a stream puts a clip into a gap")
	}
}

func (s *Server) summary() ([]Recorded, error) {
	names, err := s.streams()
	list := []Recorded{}
	for _, name := range names {
		f := s.folder(name)
		files, e := f.Files()
		gaps, e2 := f.Gaps()
		if err = errors.Join(err, e, e2); len(files) == 0 {
			continue
		}
		of := Recorded{Name: name, Files: len(files), Gaps: len(gaps), From: files[0].From, To: files[len(files)-1].To}
		for _, f := range files {
			of.Bytes += f.Size
		}
		list = append(list, of)
	}
	return list, err
}

func (s *Server) all(w http.ResponseWriter) {
	list, err := s.summary()
	if err != nil {
		s.failed(w, err)
		return
	}
	reply(w, http.StatusOK, map[string]any{"streams": list, "warning": s.disk.Warning()})
}

func (s *Server) list(w http.ResponseWriter, stream string, gapsOnly bool) {
	f := s.folder(stream)
	files, err := f.Files()
	gaps, err2 := f.Gaps()
	if err := errors.Join(err, err2); err != nil {
		s.failed(w, err)
		return
	}
	if gapsOnly {
		files = nil
	}
	reply(w, http.StatusOK, Recordings{files, gaps})
}

func (s *Server) file(w http.ResponseWriter, r *http.Request, stream, name string) {
	f, err := os.Open(filepath.Join(s.dir(stream), name))
	if err != nil {
		problem(w, http.StatusNotFound, "there is no such recording")
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		s.failed(w, err)
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // as long as it takes
	w.Header().Set("Content-Type", "video/mp4")
	w.Header().Set("Content-Disposition", `inline; filename="`+strings.ReplaceAll(stream, "/", "_")+"-"+name+`"`)
	http.ServeContent(w, r, name, info.ModTime(), f)
}

// put takes a clip that a box has recorded and we have not. The same clip again changes nothing.
func (s *Server) put(w http.ResponseWriter, r *http.Request, stream string) {
	select {
	case s.uploads <- struct{}{}:
		defer func() { <-s.uploads }()
	default:
		w.Header().Set("Retry-After", "5")
		problem(w, http.StatusServiceUnavailable, "others are being healed")
		return
	}
	if !s.config.wants(stream) {
		problem(w, http.StatusConflict, "this stream is not recorded here")
		return
	}
	body := &patient{http.MaxBytesReader(w, r.Body, maxClip), http.NewResponseController(w)}
	clip, err := io.ReadAll(body)
	if err != nil {
		status := http.StatusBadRequest
		if errors.As(err, new(*http.MaxBytesError)) {
			status = http.StatusRequestEntityTooLarge
		}
		problem(w, status, "the clip did not come whole: "+err.Error())
		return
	}
	taken, err := s.disk.Paste(folderName(stream), s.folder(stream), clip)
	switch {
	case err == nil:
		s.count.healed.Add(uint64(taken))
		s.count.bytes.Add(uint64(len(clip)))
		reply(w, http.StatusOK, map[string]int{"pictures": taken})
	case errors.Is(err, recording.ErrClip):
		s.count.refused.Add(1)
		problem(w, http.StatusConflict, err.Error())
	case errors.Is(err, unix.ENOSPC):
		problem(w, http.StatusInsufficientStorage, err.Error())
	case errors.As(err, new(*os.PathError)):
		s.failed(w, err)
	default:
		s.count.refused.Add(1)
		problem(w, http.StatusBadRequest, err.Error())
	}
}

// patient reads a body that comes slowly on purpose: as long as it comes.
type patient struct {
	io.Reader
	of *http.ResponseController
}

func (p *patient) Read(b []byte) (int, error) {
	_ = p.of.SetReadDeadline(time.Now().Add(patience))
	return p.Reader.Read(b)
}

func (s *Server) failed(w http.ResponseWriter, err error) {
	s.log.Error("recordings cannot be read or written", "err", err)
	problem(w, http.StatusInternalServerError, "the recordings cannot be read or written")
}

// problem answers as RFC 9457 asks.
func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"title": http.StatusText(status), "status": status, "detail": detail})
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

var pageTemplate = template.Must(template.New("").Parse(`<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Recordings</title>
<style>body{font:16px/1.5 system-ui;max-width:50em;margin:2em auto;padding:0 1em;color-scheme:light dark}td,th{text-align:left;padding:.1em 1em .1em 0}</style>
<h1>Recordings</h1>
{{if .Refused}}<p>{{.Refused}}.<form><label>Publish token <input name="token" type="password" autocomplete="off"></label> <button>Show</button></form>
{{else}}{{with .Warning}}<p role="alert">{{.}}.{{end}}
{{range .Streams}}<h2>{{.Name}}</h2>{{range .Gaps}}<p>Missing: {{.From.Format "2006-01-02 15:04:05.000"}} to {{.To.Format "15:04:05.000"}} UTC.{{end}}
<table><tr><th>From (UTC)<th>To<th>Size<th>{{range .Files}}<tr><td>{{.From.Format "2006-01-02 15:04:05"}}<td>{{.To.Format "15:04:05"}}<td>{{.Bytes}}<td><a href="{{.Address}}" download>MP4</a>{{end}}</table>
{{else}}<p>There are none.{{end}}{{end}}
`))

// page lists all recordings for people.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	type file struct {
		recording.File
		Bytes   recording.Size
		Address string
	}
	type stream struct {
		Name  string
		Files []file
		Gaps  []recording.Gap
	}
	var view struct {
		Refused string
		Warning string
		Streams []stream
	}
	status := http.StatusOK
	token := access.Token(r)
	if err := s.authorize(token, ""); err != nil {
		status, view.Refused = http.StatusUnauthorized, err.Error()
	} else {
		names, err := s.streams()
		for _, name := range names {
			f := s.folder(name)
			files, e := f.Files()
			gaps, e2 := f.Gaps()
			err = errors.Join(err, e, e2)
			of := stream{Name: name, Gaps: gaps}
			slices.Reverse(files) // the newest first
			for _, x := range files {
				address := Prefix + "/" + name + "/" + x.Name
				if token != "" {
					address += "?token=" + template.URLQueryEscaper(token)
				}
				of.Files = append(of.Files, file{x, recording.Size(x.Size), address})
			}
			view.Streams = append(view.Streams, of)
		}
		if err != nil {
			s.failed(w, err)
			return
		}
		view.Warning = s.disk.Warning()
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	w.WriteHeader(status)
	_ = pageTemplate.Execute(w, view)
}
