package main

import (
	"context"

	"gantry/media/still"
)

// Snapshot implements webui.Snapshotter.
func (b *box) Snapshot(ctx context.Context, width int) ([]byte, error) {
	f, err := b.session.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	defer f.Release()
	return still.JPEG(f, width)
}
