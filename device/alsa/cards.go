package alsa

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gantry/device"
	"gantry/internal/usb"
)

// A Card is one device of a sound card that captures.
type Card struct {
	Name   string      `json:"name"`   // for Config.Card: "hw:Loopback,1"
	Number int         `json:"number"` // of the card: another one after it was plugged in again
	Device int         `json:"device"` // of the card's devices
	ID     string      `json:"id"`     // the card's short name, unique on this machine
	Text   string      `json:"text"`   // for people
	USB    *usb.Device `json:"usb,omitempty"`
}

// usbID returns vendor and product, empty for a card that is on no USB.
func (c Card) usbID() string {
	if c.USB == nil {
		return ""
	}
	return c.USB.ID
}

// List returns what captures on this machine, by number.
func List() []Card { return list(os.DirFS("/")) }

var pcmNode = regexp.MustCompile(`^pcmC(\d+)D(\d+)c$`)

const class = "sys/class/sound"

// list reads /sys of a root: /proc/asound knows more, and may be missing.
func list(root fs.FS) (cards []Card) {
	entries, err := fs.ReadDir(root, class)
	if err != nil {
		return nil // no ALSA
	}
	for _, e := range entries {
		m := pcmNode.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		number, err1 := strconv.Atoi(m[1])
		dev, err2 := strconv.Atoi(m[2])
		target, err3 := fs.ReadLink(root, class+"/card"+m[1])
		if err1 != nil || err2 != nil || err3 != nil {
			continue
		}
		cards = append(cards, describe(root, path.Join(class, target), number, dev))
	}
	slices.SortFunc(cards, func(a, b Card) int {
		return cmp.Or(a.Number-b.Number, a.Device-b.Device)
	})
	return cards
}

// describe reads a card's folder: …/1-1.4/1-1.4:1.2/sound/card3 on USB.
func describe(root fs.FS, folder string, number, dev int) Card {
	c := Card{Number: number, Device: dev, ID: cmp.Or(readLine(root, folder+"/id"), strconv.Itoa(number))}
	c.Name = fmt.Sprintf("hw:%s,%d", c.ID, dev)
	c.Text = c.ID
	if d, ok := usb.Of(root, "sound", "card"+strconv.Itoa(number)); ok {
		c.USB = &d
		c.Text = cmp.Or(d.Name, c.ID)
	}
	return c
}

func readLine(root fs.FS, name string) string {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// A name is what Config.Card means.
type name struct {
	card   string // number or id; empty: any
	device int
	usb    *usb.Name
}

var errName = errors.New("auto, hw:CARD,DEVICE with the card's number or id, usb:PLACE such as usb:1-1.4, or usb:VENDOR:PRODUCT:SERIAL")

func parseName(s string) (name, error) {
	wrong := fmt.Errorf("%q is not %w", s, errName)
	if s == Auto {
		return name{}, nil
	}
	if strings.HasPrefix(s, usb.Prefix) {
		n, err := usb.ParseName(s)
		if err != nil {
			return name{}, wrong
		}
		return name{usb: &n}, nil
	}
	rest, ok := strings.CutPrefix(s, "hw:")
	card, number, two := strings.Cut(rest, ",")
	dev, err := strconv.Atoi(number)
	if !ok || !two || err != nil || dev < 0 || dev > 31 || card == "" || len(card) > 15 || strings.ContainsAny(card, " /\t\n\x00") {
		return name{}, wrong
	}
	return name{card: card, device: dev}, nil
}

// find returns the card that a configuration means.
func find(root fs.FS, s string) (Card, error) {
	n, err := parseName(s)
	if err != nil {
		return Card{}, err
	}
	var found []Card
	for _, c := range list(root) {
		switch {
		case n.usb != nil:
			if c.USB != nil && n.usb.Means(*c.USB) {
				found = append(found, c)
			}
		case n.card == "", (n.card == c.ID || n.card == strconv.Itoa(c.Number)) && n.device == c.Device:
			return c, nil
		}
	}
	switch {
	case len(found) == 0:
		return Card{}, fmt.Errorf("%w: sound card %s; is it plugged in? gantryd probe lists what there is", device.ErrNotFound, s)
	case found[0].USB.Place != found[len(found)-1].USB.Place:
		return Card{}, fmt.Errorf("%w: sound card %s: the devices at %s and %s have the same serial number: name it by its place", device.ErrUnsupported, s,
			found[0].USB.Place, found[len(found)-1].USB.Place)
	}
	return found[0], nil
}

// Beside returns the name of the card that belongs to a USB device: that of the device itself, or else the only one of those built
// into the same case.
func Beside(root fs.FS, d usb.Device) (string, error) {
	var same, near []string
	for _, c := range list(root) {
		switch {
		case c.USB == nil:
		case c.USB.Place == d.Place:
			same = append(same, c.Name)
		case c.USB.Beside(d):
			near = append(near, c.Name)
		}
	}
	switch {
	case len(same) > 0:
		return same[0], nil
	case len(near) == 1:
		return near[0], nil
	}
	return "", fmt.Errorf("%w: the USB device at %s has no sound, or not yet: gantryd probe lists what can be audio.alsa.card", device.ErrNotFound, d.Place)
}
