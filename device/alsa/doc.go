// Package alsa captures sound from ALSA's PCM devices as a device.AudioSource at 48 kHz on CLOCK_MONOTONIC, in pure Go.
//
// A card's clock is not the pictures': 100 ppm are 8.6 s a day. So the package measures the card's clock against
// CLOCK_MONOTONIC, by the kernel's own timestamps, and resamples by just that difference: the PTS count on by samples, without
// jumps, and stay true. Cards that run at other rates than 48 kHz go through the same resampler.
//
// It opens hardware devices (/dev/snd/pcmC*D*c) alone, not the plug-ins of the ALSA library, and needs no library. It owns no
// gain, no mix and no meter, and does not fill in silence: after an overrun there is a gap in the PTS.
package alsa
