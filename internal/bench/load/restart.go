package load

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"

	"github.com/pion/webrtc/v4"
)

var iceLine = regexp.MustCompile(`a=(?:candidate:|end-of-candidates)[^\r\n]*\r?\n`)

// Restart moves the session to new sockets by an ICE restart (RFC 9725 §4.3.3), as a box does whose address has changed. Media
// goes by the old path until the new one stands.
func (p *Publisher) Restart(ctx context.Context) error {
	answer := p.pc.RemoteDescription().SDP
	offer, err := p.pc.CreateOffer(&webrtc.OfferOptions{ICERestart: true})
	if err != nil {
		return fmt.Errorf("restart ICE: %w", err)
	}
	gathered := webrtc.GatheringCompletePromise(p.pc)
	if err := p.pc.SetLocalDescription(offer); err != nil {
		return fmt.Errorf("restart ICE: %w", err)
	}
	<-gathered
	var fragment strings.Builder
	seen := map[string]bool{}
	for line := range strings.SplitSeq(p.pc.LocalDescription().SDP, "\r\n") {
		ours := strings.HasPrefix(line, "a=ice-ufrag:") || strings.HasPrefix(line, "a=ice-pwd:") || strings.HasPrefix(line, "a=mid:") ||
			strings.HasPrefix(line, "a=candidate:") || strings.HasPrefix(line, "m=")
		if ours && !seen[line] {
			seen[line] = true
			fragment.WriteString(line + "\r\n")
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPatch, p.location, strings.NewReader(fragment.String()))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/trickle-ice-sdpfrag")
	r.Header.Set("If-Match", "*")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	ufrag, pwd := answerUfrag.FindStringSubmatch(string(body)), answerPwd.FindStringSubmatch(string(body))
	if resp.StatusCode != http.StatusOK || ufrag == nil || pwd == nil {
		return fmt.Errorf("restart ICE: PATCH: %s: %s", resp.Status, body)
	}
	answer = answerUfrag.ReplaceAllString(answer, "a=ice-ufrag:"+ufrag[1])
	answer = answerPwd.ReplaceAllString(answer, "a=ice-pwd:"+pwd[1])
	candidates := strings.Join(iceLine.FindAllString(string(body), -1), "")
	answer = iceLine.ReplaceAllString(answer, "")
	answer = strings.Replace(answer, "a=ice-ufrag:", candidates+"a=ice-ufrag:", 1)
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		return fmt.Errorf("restart ICE: %w", err)
	}
	return nil
}

// Pause stops the media and leaves the session open, as an encoder does that hangs.
func (p *Publisher) Pause() { p.once.Do(func() { close(p.stop) }) }
