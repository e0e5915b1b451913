package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"gantry/internal/config"
	"gantry/internal/secret"
	"gantry/relay"
	"gantry/relay/egress/restream"
)

// A kept destination is one in the state directory, with its secrets: the file is for the relay alone.
type kept struct {
	Stream  string `json:"stream"`
	Name    string `json:"name"`
	URL     string `json:"url"`
	Token   string `json:"token,omitempty"`
	Stopped bool   `json:"stopped,omitempty"`
}

// startRestream returns what sends streams on: to the configuration's destinations, and to those that the API added before, which
// are in the state directory, if there is one.
func startRestream(cfg Config, hub *relay.Hub, log *slog.Logger) (*restream.Server, error) {
	onward := restream.New(hub, openUplink(log), log)
	for _, d := range cfg.Restream {
		if err := onward.Fix(d); err != nil {
			return nil, errors.Join(fmt.Errorf("restream %s to %s: %w", d.Stream, d.Name, err), onward.Close())
		}
	}
	if cfg.StateDir == "" {
		return onward, nil
	}
	file := filepath.Join(cfg.StateDir, "restream.json")
	list, err := readKept(file)
	if err != nil {
		return nil, errors.Join(err, onward.Close())
	}
	for _, k := range list {
		d := restream.Destination{Stream: k.Stream, Name: k.Name, URL: secret.String(k.URL), Token: secret.String(k.Token), Stopped: k.Stopped}
		if err := onward.Restore(d); err != nil { // this version takes it no more: the others go on
			log.Error("destination of the state directory is left out", "stream", k.Stream, "uplink", k.Name, "err", err)
		}
	}
	onward.Keep(func(list []restream.Destination) error { return writeKept(file, list) })
	return onward, nil
}

func readKept(file string) (list []kept, err error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("read the destinations that the API added (remove the file to go on without): %s: %w", file, err)
	}
	return list, nil
}

func writeKept(file string, list []restream.Destination) error {
	out := make([]kept, len(list))
	for i, d := range list {
		out[i] = kept{d.Stream, d.Name, d.URL.Reveal(), d.Token.Reveal(), d.Stopped}
	}
	data, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return config.Write(file, append(data, '\n'))
}
