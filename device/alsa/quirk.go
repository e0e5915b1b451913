package alsa

// A quirk says what a card really delivers where it says otherwise.
type quirk struct {
	usbID    string
	rate     int // what the card says
	channels int
	realRate int // what it is
	real     int
	why      string
}

// quirks are by USB id. Each names where it was found.
var quirks = []quirk{
	{"534d:2109", 96000, 1, 48000, 2, "MacroSilicon MS2109: stereo at 48 kHz, said to be mono at 96 kHz (BertoldVdb/ms-tools issue 19)"},
}

// truth returns the rate and the channels of what comes, of a card that says otherwise; why is empty for most cards.
func truth(usbID string, rate, channels int) (realRate, realChannels int, why string) {
	for _, q := range quirks {
		if q.usbID == usbID && q.rate == rate && q.channels == channels {
			return q.realRate, q.real, q.why
		}
	}
	return rate, channels, ""
}
