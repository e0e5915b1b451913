package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"mime"
	"net/http"
	"path"
	"time"
)

//go:embed assets
var files embed.FS

// modules are for pages of any origin; pageParts for the pages here.
var (
	modules = []string{"gantry-player.js", "gantry-player/whep.js", "gantry-player/stats.js", "gantry-player/sync.js", "gantry-player/clock.js",
		"gantry-player/reasons.js", "gantry-player/h264.js", "gantry-player/element.js"}
	pageParts = []string{"index.js", "play.js", "restream.js", "page.css", "favicon.svg"}
)

// An asset is an embedded file with what HTTP needs to know of it.
type asset struct {
	data      []byte
	mediaType string
	etag      string
}

var assets = loadAssets(append([]string{"index.html", "play.html", "restream.html"}, append(modules, pageParts...)...))

// loadAssets panics where a file is missing: the tree is wrong.
func loadAssets(names []string) map[string]asset {
	all := map[string]asset{}
	for _, name := range names {
		data, err := files.ReadFile("assets/" + name)
		if err != nil {
			panic(err)
		}
		mediaType := map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}[path.Ext(name)]
		if mediaType == "" {
			mediaType = mime.TypeByExtension(path.Ext(name))
		}
		sum := sha256.Sum256(data)
		all[name] = asset{data: data, mediaType: mediaType, etag: `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}
	}
	return all
}

// servePage serves an HTML page that runs only scripts from here; frames says which sites may frame it (CSP frame-ancestors).
func servePage(w http.ResponseWriter, r *http.Request, name, frames string, status int) {
	w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "+
		"media-src 'self' blob:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors "+frames)
	w.Header().Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), display-capture=()")
	serveAsset(w, r, name, status)
}

// serveAsset lets caches keep the file but ask each time, so that page and player are always of one version.
func serveAsset(w http.ResponseWriter, r *http.Request, name string, status int) {
	a := assets[name]
	w.Header().Set("Content-Type", a.mediaType)
	w.Header().Set("Cache-Control", "no-cache")
	if status != http.StatusOK {
		w.WriteHeader(status)
		_, _ = w.Write(a.data)
		return
	}
	w.Header().Set("ETag", a.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.data))
}
