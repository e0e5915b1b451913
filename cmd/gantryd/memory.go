package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"gantry/encoder"
	"gantry/internal/config"
)

const (
	memoryFile  = "encoders.json"
	memorySize  = 64 << 10 // more is none of ours
	mostTrials  = 32       // kept; beyond that, all are forgotten
	memoryIssue = 1        // of the file's form
)

// A memory keeps in a file which encoders worked on this machine, so that a start need not try them. What it cannot read, and what
// another machine, kernel, library or device has left, it takes for nothing.
type memory struct {
	dir     string // empty: nothing is kept
	machine string
}

// A notebook is the file.
type notebook struct {
	Issue   int                 `json:"issue"`
	Machine string              `json:"machine"`
	Trials  map[string][]string `json:"trials"`
}

// stateMemory is in the directory that the service manager has given us, if any.
func stateMemory() memory {
	dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":")
	if dir == "" {
		return memory{}
	}
	return memory{dir: dir, machine: machineID()}
}

// ranked returns the names of the back ends that worked, the best first; nil when that is not known.
func (m memory) ranked(t encoder.Trial, backends []encoder.Backend) []string {
	names := m.read().Trials[trialID(t)]
	for _, name := range names {
		if !slices.ContainsFunc(backends, func(b encoder.Backend) bool { return b.Name == name }) {
			return nil // it says what it cannot know
		}
	}
	return names
}

// remember adds the outcome of a trial.
func (m memory) remember(t encoder.Trial, names []string) error {
	if m.dir == "" {
		return nil
	}
	n := m.read()
	if len(n.Trials) >= mostTrials {
		clear(n.Trials)
	}
	n.Trials[trialID(t)] = names
	data, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return err
	}
	return config.Write(filepath.Join(m.dir, memoryFile), append(data, '\n'))
}

// read returns what is known, empty when that is nothing.
func (m memory) read() notebook {
	empty := notebook{Issue: memoryIssue, Machine: m.machine, Trials: map[string][]string{}}
	if m.dir == "" {
		return empty
	}
	f, err := os.Open(filepath.Join(m.dir, memoryFile))
	if err != nil {
		return empty
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, memorySize))
	if err != nil {
		return empty
	}
	return parseNotebook(data, empty)
}

func parseNotebook(data []byte, empty notebook) notebook {
	var n notebook
	if json.Unmarshal(data, &n) != nil || n.Issue != empty.Issue || n.Machine != empty.Machine || n.Trials == nil {
		return empty
	}
	for _, names := range n.Trials {
		if len(names) == 0 {
			return empty
		}
	}
	return n
}

// trialID names what is asked of an encoder. Bitrates and key frames change while it runs, so they are no part of it.
func trialID(t encoder.Trial) string {
	f, p := t.Format, t.Params
	return fmt.Sprintf("%v %dx%d %v %v preset=%s profile=%s threads=%d", p.Codec, f.Width, f.Height, f.FourCC, f.Rate, p.Preset, p.Profile, p.Threads)
}

// machineID stands for everything whose change could make an encoder work, or no longer work: this build, the kernel, the libraries
// that it is linked with, the processors and the devices.
func machineID() string {
	var b bytes.Buffer
	fmt.Fprintln(&b, version, runtime.GOARCH, runtime.NumCPU(), namesOf(backends()))
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		fmt.Fprintln(&b, unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Version[:]))
	}
	maps, _ := os.ReadFile("/proc/self/maps")
	for _, path := range libraries(string(maps)) {
		if info, err := os.Stat(path); err == nil {
			fmt.Fprintln(&b, path, info.Size(), info.ModTime().UnixNano())
		}
	}
	for _, pattern := range []string{
		"/sys/class/video4linux/*/name", "/sys/class/drm/renderD*/device/uevent", "/proc/driver/nvidia/version", "/dev/mpp_service", "/dev/nvidia*",
	} {
		list, _ := filepath.Glob(pattern)
		for _, file := range list {
			text := ""
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() { // a device is only named
				data, _ := os.ReadFile(file)
				text = string(data)
			}
			fmt.Fprintln(&b, file, text)
		}
	}
	return fmt.Sprintf("%x", sha256.Sum256(b.Bytes()))
}

// libraries returns the shared objects of a process, by its map of memory, in order.
func libraries(text string) []string {
	set := map[string]bool{}
	for line := range strings.Lines(text) {
		if i := strings.IndexByte(line, '/'); i >= 0 && strings.Contains(line[i:], ".so") {
			set[strings.TrimSpace(line[i:])] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}
