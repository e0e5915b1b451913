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
)

// A Card is one device of a sound card that captures.
type Card struct {
	Name   string `json:"name"`          // for Config.Card: "hw:Loopback,1"
	Number int    `json:"number"`        // of the card: another one after it was plugged in again
	Device int    `json:"device"`        // of the card's devices
	ID     string `json:"id"`            // the card's short name, unique on this machine
	Text   string `json:"text"`          // for people
	USB    string `json:"usb,omitempty"` // place on the USB bus: "1-1.4"
	USBID  string `json:"usb_id,omitempty"`
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
	parent := path.Dir(path.Dir(folder))
	c.Text = c.ID
	if place, _, ok := strings.Cut(path.Base(parent), ":"); ok && usbName.MatchString(place) {
		usb := path.Dir(parent)
		c.USB = place
		c.USBID = readLine(root, usb+"/idVendor") + ":" + readLine(root, usb+"/idProduct")
		c.Text = cmp.Or(readLine(root, usb+"/product"), c.ID)
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

var usbName = regexp.MustCompile(`^\d+-\d+(\.\d+)*$`)

// A name is what Config.Card means.
type name struct {
	card   string // number or id; empty: any
	device int
	usb    string
}

var errName = errors.New("auto, hw:CARD,DEVICE with the card's number or id, or usb:PLACE such as usb:1-1.4")

func parseName(s string) (name, error) {
	wrong := fmt.Errorf("%q is not %w", s, errName)
	if s == autoCard {
		return name{}, nil
	}
	if place, ok := strings.CutPrefix(s, "usb:"); ok {
		if !usbName.MatchString(place) {
			return name{}, wrong
		}
		return name{usb: place}, nil
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
	for _, c := range list(root) {
		switch {
		case n.usb != "":
			if c.USB == n.usb {
				return c, nil
			}
		case n.card == "", (n.card == c.ID || n.card == strconv.Itoa(c.Number)) && n.device == c.Device:
			return c, nil
		}
	}
	return Card{}, fmt.Errorf("%w: sound card %s; is it plugged in? gantryd probe lists what there is", device.ErrNotFound, s)
}
