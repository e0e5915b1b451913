package h264

import (
	"errors"
	"fmt"

	mch264 "github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"

	"gantry/media"
)

// maxSide bounds the picture sizes that are believed: level 6.2 ends at 16,880 samples a side (H.264 table A-1).
const maxSide = 16880

// An Info is what a sequence parameter set says that a receiver must know before the first picture. It is comparable.
type Info struct {
	Width, Height  int    // pixels shown, cropping applied
	ProfileLevelID string // six hex digits (RFC 6184 §8.1)
	FPS            float64
	Matrix         media.ColourMatrix
	Range          media.ColourRange
	Transfer       media.ColourTransfer
	Interlaced     bool // pictures may be fields
	// MaxReorder is how many pictures may precede one in coding order and follow it in display order, -1 when the stream does
	// not say. 0 is a promise that there are no B-frames out of order.
	MaxReorder int
}

// ParseSPS reads a sequence parameter set NAL unit, without start code.
func ParseSPS(nalu []byte) (Info, error) {
	_, info, err := parseSPS(nalu)
	return info, err
}

func parseSPS(nalu []byte) (*mch264.SPS, Info, error) {
	if TypeOf(nalu) != SPS || len(nalu) < 4 {
		return nil, Info{}, errors.New("parse SPS: not a sequence parameter set")
	}
	sps := new(mch264.SPS)
	if err := sps.Unmarshal(nalu); err != nil {
		return nil, Info{}, fmt.Errorf("parse SPS: %w", err)
	}
	info := Info{
		Width:          sps.Width(),
		Height:         sps.Height(),
		ProfileLevelID: fmt.Sprintf("%x", unescape(make([]byte, 0, 3), nalu[1:])),
		Interlaced:     !sps.FrameMbsOnlyFlag,
		MaxReorder:     -1,
	}
	if info.Width < 1 || info.Height < 1 || info.Width > maxSide || info.Height > maxSide {
		return nil, Info{}, fmt.Errorf("parse SPS: picture of %dx%d", info.Width, info.Height)
	}
	if v := sps.VUI; v != nil {
		if t := v.TimingInfo; t != nil && t.NumUnitsInTick > 0 {
			info.FPS = sps.FPS()
		}
		if v.VideoSignalTypePresentFlag {
			info.Range = media.RangeLimited
			if v.VideoFullRangeFlag {
				info.Range = media.RangeFull
			}
			if v.ColourDescriptionPresentFlag {
				info.Matrix = matrixOf(v.MatrixCoefficients)
				switch v.TransferCharacteristics {
				case 16:
					info.Transfer = media.TransferPQ
				case 18:
					info.Transfer = media.TransferHLG
				}
			}
		}
		if v.BitstreamRestriction != nil {
			info.MaxReorder = int(v.BitstreamRestriction.MaxNumReorderFrames)
		}
	}
	if sps.PicOrderCntType == 2 { // output order is decoding order (H.264 §8.2.1.3)
		info.MaxReorder = 0
	}
	return sps, info, nil
}

// matrixOf maps matrix_coefficients (H.264 table E-5).
func matrixOf(code uint8) media.ColourMatrix {
	switch code {
	case 0:
		return media.MatrixRGB
	case 1:
		return media.MatrixBT709
	case 5, 6:
		return media.MatrixBT601
	case 9, 10:
		return media.MatrixBT2020
	}
	return media.MatrixUnspecified
}
