// Package pipeline is the box's session: it joins one video source, one audio source, one encoder each and any number of
// destinations, and keeps each of them alive without disturbing the others.
//
//	device.Source ──► slot ──► encoder.Encoder ──┬─► media.Queue ─► uplink.Sender
//	       slate ──────┘            ▲            ├─► media.Queue ─► uplink.Sender
//	device.AudioSource ─► AudioEncoder ──────────┘         │
//	                                └── key frames, bitrate ┘  media.Feedback
//
// The slot holds one picture, the newest. While the source delivers none, the slate stands in: a still in the last format
// that says why, to the same encoder, with rising PTS, so that no destination notices more than the picture. An encoder that
// fails, stalls or must change is replaced, and the next packet is a key frame. Each destination has its own queue of a second.
//
// It works on the contracts of packages device, encoder and uplink; which implementations exist, and what the configuration
// says, is for the command that builds the Spec.
package pipeline
