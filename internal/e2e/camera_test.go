package e2e

import (
	"sync"
	"testing"

	"github.com/bluenviron/gortsplib/v5"
	"github.com/bluenviron/gortsplib/v5/pkg/base"
	"github.com/bluenviron/gortsplib/v5/pkg/description"
	"github.com/bluenviron/gortsplib/v5/pkg/format"
	"github.com/pion/rtp"

	"gantry/internal/testkit"
)

// A camera is an RTSP server that plays what is recorded to it.
type camera struct {
	server *gortsplib.Server

	mu     sync.Mutex
	stream *gortsplib.ServerStream
}

// startCamera returns the address to record to and to play from, over UDP or TCP.
func startCamera(t *testing.T) string {
	t.Helper()
	c := &camera{}
	c.server = &gortsplib.Server{Handler: c, RTSPAddress: testkit.FreeTCP(t)}
	if err := c.server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.server.Close)
	return "rtsp://" + c.server.RTSPAddress + "/cam"
}

func (c *camera) current() *gortsplib.ServerStream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stream
}

// OnAnnounce implements gortsplib's handler.
func (c *camera) OnAnnounce(ctx *gortsplib.ServerHandlerOnAnnounceCtx) (*base.Response, error) {
	s := &gortsplib.ServerStream{Server: c.server, Desc: ctx.Description}
	if err := s.Initialize(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stream = s
	return &base.Response{StatusCode: base.StatusOK}, nil
}

// OnDescribe implements gortsplib's handler.
func (c *camera) OnDescribe(*gortsplib.ServerHandlerOnDescribeCtx) (*base.Response, *gortsplib.ServerStream, error) {
	if s := c.current(); s != nil {
		return &base.Response{StatusCode: base.StatusOK}, s, nil
	}
	return &base.Response{StatusCode: base.StatusNotFound}, nil, nil
}

// OnSetup implements gortsplib's handler.
func (c *camera) OnSetup(ctx *gortsplib.ServerHandlerOnSetupCtx) (*base.Response, *gortsplib.ServerStream, error) {
	if ctx.Session.State() == gortsplib.ServerSessionStatePreRecord {
		return &base.Response{StatusCode: base.StatusOK}, nil, nil
	}
	return &base.Response{StatusCode: base.StatusOK}, c.current(), nil
}

// OnPlay implements gortsplib's handler.
func (c *camera) OnPlay(*gortsplib.ServerHandlerOnPlayCtx) (*base.Response, error) {
	return &base.Response{StatusCode: base.StatusOK}, nil
}

// OnRecord implements gortsplib's handler.
func (c *camera) OnRecord(ctx *gortsplib.ServerHandlerOnRecordCtx) (*base.Response, error) {
	s := c.current()
	ctx.Session.OnPacketRTPAny(func(m *description.Media, _ format.Format, p *rtp.Packet) { _ = s.WritePacketRTP(m, p) })
	return &base.Response{StatusCode: base.StatusOK}, nil
}
