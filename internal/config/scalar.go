package config

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

const bitsPerSecond = "bit/s"

// wanted says in words what a value of type t looks like in the file.
func wanted(t reflect.Type, unit string) string {
	switch {
	case t == durationType:
		return "a duration such as 2s, 250ms or 1m30s"
	case unit == bitsPerSecond:
		return "a bitrate such as 2500k or 2.5M"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return fmt.Sprintf("a whole number from 0 to %d", uint64(math.MaxUint64)>>(64-t.Bits()))
	}
	return "a whole number"
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, key, unit string) {
	ok := true
	switch text := n.Value; {
	case v.Type() == durationType:
		var dur time.Duration
		dur, err := time.ParseDuration(text)
		ok = err == nil
		v.SetInt(int64(dur))
	case unit == bitsPerSecond:
		var bits int64
		bits, ok = parseBitrate(text)
		ok = ok && !v.OverflowInt(bits)
		if ok {
			v.SetInt(bits)
		}
	default:
		ok = setPlain(v, text)
	}
	if !ok {
		d.fail(n, key, "%q is not %s", shorten(n.Value), wanted(v.Type(), unit))
	}
}

func setPlain(v reflect.Value, text string) bool {
	switch v.Kind() {
	case reflect.String: // any scalar: a token may look like a number
		v.SetString(text)
	case reflect.Bool:
		if text != "true" && text != "false" {
			return false
		}
		v.SetBool(text == "true")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		i, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return false
		}
		v.SetInt(i)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		u, err := strconv.ParseUint(text, 10, v.Type().Bits())
		if err != nil {
			return false
		}
		v.SetUint(u)
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return false
		}
		v.SetFloat(f)
	default:
		panic("config: a field of type " + v.Type().String() + " cannot be decoded")
	}
	return true
}

// parseBitrate reads "2500k", "2.5M", "1G" or plain bits per second.
func parseBitrate(text string) (int64, bool) {
	factor := 1.0
	if text != "" {
		switch text[len(text)-1] {
		case 'k':
			factor = 1e3
		case 'M':
			factor = 1e6
		case 'G':
			factor = 1e9
		}
	}
	if factor > 1 {
		text = text[:len(text)-1]
	}
	if strings.Trim(text, "0123456789.") != "" {
		return 0, false
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f*factor > 1e15 {
		return 0, false
	}
	return int64(math.Round(f * factor)), true
}

func shorten(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}

// nearest returns the name that word is most likely a slip of, or "".
func nearest(word string, names []string) string {
	best, at := max(2, len(word)/3)+1, ""
	for _, name := range names {
		if d := distance(word, name); d < best && d < max(len(name), len(word)) {
			best, at = d, name
		}
	}
	return at
}

// distance is Levenshtein's: how many letters to insert, delete or replace.
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
