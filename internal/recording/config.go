// Package recording keeps programmes in files: fragmented MP4 (ISO/IEC 14496-12 §8.8), by mediacommon. A fragment holds a second
// at the most and is on the disk before the next begins, so that a power cut costs that second and no more. Each says when it
// was captured (ProducerReferenceTimeBox, §8.16.5), so that what one machine lacks can be found in the files of another.
//
// It owns the files' names, their budget, and what is in them. It does not know what records, nor why, and takes nothing away
// but what it has written itself.
package recording

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A Size is a number of bytes, written "500M" or "20G".
type Size int64

var units = []struct {
	letter string
	bytes  int64
}{{"T", 1e12}, {"G", 1e9}, {"M", 1e6}, {"k", 1e3}}

// UnmarshalText reads a number with one of the letters k, M, G and T.
func (s *Size) UnmarshalText(text []byte) error {
	number, factor := string(text), int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(number, u.letter); ok {
			number, factor = n, u.bytes
			break
		}
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || !(f >= 0 && f*float64(factor) <= 1e15) {
		return fmt.Errorf("%q is not a size such as 500M or 20G", text)
	}
	*s = Size(f * float64(factor))
	return nil
}

// String returns what UnmarshalText reads.
func (s Size) String() string {
	for _, u := range units {
		if int64(s) >= u.bytes {
			return strconv.FormatFloat(float64(s)/float64(u.bytes), 'g', 3, 64) + u.letter
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// Config says where to, and how much. It is comparable.
type Config struct {
	Dir    string        `yaml:"dir"`    // folder, which is made if it is missing
	Every  time.Duration `yaml:"every"`  // what a file holds at the most
	Size   Size          `yaml:"size"`   // of a file at the most
	Budget Size          `yaml:"budget"` // of all files together
	Spare  Size          `yaml:"spare"`  // left free on the disk, whatever the budget says
}

// Default returns files of ten minutes, 20 GB together.
func Default() Config {
	return Config{Every: 10 * time.Minute, Size: 1e9, Budget: 20e9, Spare: 500e6}
}

// Validate names every key that is wrong and says what is allowed.
func (c Config) Validate() error {
	var errs []error
	if !filepath.IsAbs(c.Dir) || filepath.Clean(c.Dir) == "/" {
		errs = append(errs, fmt.Errorf("dir: want the absolute path of a folder, got %q", c.Dir))
	}
	if c.Every < time.Second || c.Every > 24*time.Hour {
		errs = append(errs, fmt.Errorf("every: want 1s to 24h, got %v", c.Every))
	}
	if c.Size < 1e6 {
		errs = append(errs, fmt.Errorf("size: want 1M or more, got %v", c.Size))
	}
	if c.Budget < 2*c.Size {
		errs = append(errs, fmt.Errorf("budget: want room for two files of size %v, got %v", c.Size, c.Budget))
	}
	return errors.Join(errs...)
}
