package config

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// MaxSize is the largest file that is read, in bytes.
const MaxSize = 1 << 20

// Decode reads one YAML document into the struct that into points to, which holds the defaults. file names it in errors.
// The error is of type Errors; into is then partly filled and of no use.
func Decode(data []byte, file string, into any) error {
	d := &decoder{file: file}
	root := d.parse(data)
	if len(d.errs) == 0 && root != nil {
		d.value(root, reflect.ValueOf(into).Elem(), "", "")
	}
	if len(d.errs) == 0 && root == nil { // an empty file: all defaults, which must be valid as well
		d.validateTree(nil, reflect.ValueOf(into).Elem(), "")
	}
	if len(d.errs) > 0 {
		return d.errs.sorted()
	}
	return nil
}

type decoder struct {
	file string
	errs Errors
}

func (d *decoder) fail(n *yaml.Node, key, format string, args ...any) {
	e := &Error{File: d.file, Key: key, Text: fmt.Sprintf(format, args...)}
	if n != nil {
		e.Line, e.Column = n.Line, n.Column
	}
	d.errs = append(d.errs, e)
}

var yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(?s:(.*))$`)

func (d *decoder) parse(data []byte) *yaml.Node {
	if len(data) > MaxSize {
		d.fail(nil, "", "larger than %d bytes", MaxSize)
		return nil
	}
	reader := yaml.NewDecoder(bytes.NewReader(data))
	var doc, next yaml.Node
	err := reader.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		if err = reader.Decode(&next); errors.Is(err, io.EOF) {
			return d.root(&doc)
		}
		if err == nil {
			d.fail(&next, "", "a second document; one file holds one")
			return nil
		}
	}
	m := yamlError.FindStringSubmatch(err.Error())
	if m == nil {
		m = []string{"", "", err.Error()}
	}
	line, _ := strconv.Atoi(m[1])
	d.errs = append(d.errs, &Error{File: d.file, Line: line, Text: "not valid YAML: " + m[2]})
	return nil
}

func (d *decoder) root(doc *yaml.Node) *yaml.Node {
	if len(doc.Content) != 1 || isNull(doc.Content[0]) {
		return nil
	}
	return doc.Content[0]
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// kindOf names what stands in the file, in words.
func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a group of keys"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	if isNull(n) {
		return "nothing"
	}
	return "a single value"
}

// value decodes n into v. unit is the tag of v's field.
func (d *decoder) value(n *yaml.Node, v reflect.Value, key, unit string) {
	if n.Kind == yaml.AliasNode {
		d.fail(n, key, "an alias is not allowed here; write the value out")
		return
	}
	if v.Kind() == reflect.Pointer {
		if isNull(n) {
			return
		}
		if v.IsNil() {
			v.Set(withDefaults(v.Type().Elem()))
		}
		v = v.Elem()
	}
	if text, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if n.Kind != yaml.ScalarNode || isNull(n) {
			d.fail(n, key, "is %s, not a single value", kindOf(n))
		} else if err := text.UnmarshalText([]byte(n.Value)); err != nil {
			d.fail(n, key, "%v", err)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, key)
	case reflect.Slice:
		d.list(n, v, key)
	case reflect.Map:
		d.mapping(n, v, key)
	default:
		if n.Kind != yaml.ScalarNode || isNull(n) {
			d.fail(n, key, "is %s, not %s", kindOf(n), wanted(v.Type(), unit))
			return
		}
		d.scalar(n, v, key, unit)
	}
}

func withDefaults(t reflect.Type) reflect.Value {
	p := reflect.New(t)
	if s, ok := p.Interface().(interface{ SetDefaults() }); ok {
		s.SetDefaults()
	}
	return p
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, key string) {
	if isNull(n) {
		v.SetLen(0)
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.fail(n, key, "is %s, not a list", kindOf(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), 0, len(n.Content)))
	for i, item := range n.Content {
		e := withDefaults(v.Type().Elem()).Elem()
		d.value(item, e, fmt.Sprintf("%s[%d]", key, i), "")
		v.Set(reflect.Append(v, e))
	}
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, key string) {
	v.Set(reflect.MakeMap(v.Type()))
	if isNull(n) {
		return
	}
	d.pairs(n, key, func(name string, k, value *yaml.Node) {
		e := withDefaults(v.Type().Elem()).Elem()
		d.value(value, e, join(key, name), "")
		v.SetMapIndex(reflect.ValueOf(name).Convert(v.Type().Key()), e)
	})
}

// pairs calls each for every key of a mapping, once.
func (d *decoder) pairs(n *yaml.Node, key string, each func(name string, k, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, key, "is %s, not a group of keys", kindOf(n))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, value := n.Content[i], n.Content[i+1]
		switch {
		case k.Kind != yaml.ScalarNode || k.Tag == "!!merge":
			d.fail(k, key, "a key must be a plain word")
		case seen[k.Value] > 0:
			d.fail(k, join(key, k.Value), "is given twice, first in line %d", seen[k.Value])
		default:
			seen[k.Value] = k.Line
			each(k.Value, k, value)
		}
	}
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, key string) {
	if !isNull(n) {
		if n.Kind != yaml.MappingNode {
			d.fail(n, key, "is %s, not a group of keys", kindOf(n))
			return
		}
		fields := fieldsOf(v)
		d.pairs(n, key, func(name string, k, value *yaml.Node) {
			i := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
			if i < 0 {
				d.unknown(k, key, fields)
				return
			}
			d.value(value, fields[i].value, join(key, name), fields[i].unit)
		})
		d.unread(n, fields, key)
	}
	d.validate(n, v, key)
}

// unread validates the structs that the file says nothing about: their defaults may be bad together with what it says.
func (d *decoder) unread(n *yaml.Node, fields []field, key string) {
	for _, f := range fields {
		if child(n, f.name) == nil {
			d.validateTree(n, f.value, join(key, f.name))
		}
	}
}

func (d *decoder) validateTree(n *yaml.Node, v reflect.Value, key string) {
	if v.Kind() != reflect.Struct {
		return
	}
	for _, f := range fieldsOf(v) {
		d.validateTree(n, f.value, join(key, f.name))
	}
	d.validate(n, v, key)
}

func (d *decoder) unknown(k *yaml.Node, key string, fields []field) {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	allowed := "allowed: " + strings.Join(names, ", ")
	if near := nearest(k.Value, names); near != "" {
		allowed = fmt.Sprintf("did you mean %q? (%s)", near, allowed)
	}
	d.fail(k, join(key, k.Value), "unknown key; %s", allowed)
}

// validate calls the struct's own Validate and places what it returns.
func (d *decoder) validate(n *yaml.Node, v reflect.Value, key string) {
	checker, ok := v.Addr().Interface().(interface{ Validate() error })
	if !ok {
		return
	}
	for _, err := range flatten(checker.Validate()) {
		text := err.Error()
		path, rest, found := strings.Cut(text, ": ")
		at, known := n, false
		if found {
			at, known = locate(n, v, path)
		}
		if known {
			d.fail(at, join(key, path), "%s", rest)
		} else {
			d.fail(n, key, "%s", text)
		}
	}
}

func flatten(err error) []error {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var list []error
		for _, one := range many.Unwrap() {
			list = append(list, flatten(one)...)
		}
		return list
	}
	return []error{err}
}

var pathPart = regexp.MustCompile(`^([^.\[\]]+)((?:\[\d+\])*)(?:\.|$)`)

// locate returns the node of a key path below n, or of the part of it that the file has, and whether the struct knows it.
func locate(n *yaml.Node, v reflect.Value, path string) (*yaml.Node, bool) {
	for path != "" {
		m := pathPart.FindStringSubmatch(path)
		if m == nil || v.Kind() != reflect.Struct {
			return n, false
		}
		fields := fieldsOf(v)
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == m[1] })
		if i < 0 {
			return n, false
		}
		v = fields[i].value
		if c := child(n, m[1]); c != nil {
			n = c
		}
		for _, index := range strings.FieldsFunc(m[2], func(r rune) bool { return r == '[' || r == ']' }) {
			at, err := strconv.Atoi(index)
			if err != nil || v.Kind() != reflect.Slice || at >= v.Len() {
				return n, false
			}
			v = v.Index(at)
			if n != nil && n.Kind == yaml.SequenceNode && at < len(n.Content) {
				n = n.Content[at]
			}
		}
		for v.Kind() == reflect.Pointer && !v.IsNil() {
			v = v.Elem()
		}
		path = path[len(m[0]):]
	}
	return n, true
}

func child(n *yaml.Node, name string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

type field struct {
	name, unit string
	value      reflect.Value
}

// fieldsOf returns the fields of a struct that have a yaml tag, those of ",inline" structs among them.
func fieldsOf(v reflect.Value) (list []field) {
	t := v.Type()
	for i := range t.NumField() {
		tag, ok := t.Field(i).Tag.Lookup("yaml")
		if !ok || tag == "-" {
			continue
		}
		name, option, _ := strings.Cut(tag, ",")
		if option == "inline" {
			list = append(list, fieldsOf(v.Field(i))...)
			continue
		}
		list = append(list, field{name, t.Field(i).Tag.Get("unit"), v.Field(i)})
	}
	return list
}

func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

var durationType = reflect.TypeFor[time.Duration]()
