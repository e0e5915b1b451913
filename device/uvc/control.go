package uvc

// A Control is a setting of the picture, made in the camera: brightness, exposure and so on. Values are the driver's.
type Control struct {
	ID      uint32           `json:"id"` // V4L2_CID_…
	Name    string           `json:"name"`
	Value   int32            `json:"value"`
	Min     int32            `json:"min"`
	Max     int32            `json:"max"`
	Step    int32            `json:"step"`
	Default int32            `json:"default"`
	Menu    map[int32]string `json:"menu,omitempty"` // of a control that has names for its values
}
