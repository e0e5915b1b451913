//go:build !cgo || nolibav

package uvc

import "errors"

// Missing says why this build has no image controls; empty when it has.
func Missing() string { return "image controls: built without cgo, or with the tag nolibav" }

// Controls is not in this build.
func Controls(node string) ([]Control, error) { return nil, errors.New(Missing()) }

// SetControl is not in this build.
func SetControl(node string, id uint32, value int32) error { return errors.New(Missing()) }
