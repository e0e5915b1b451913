package web

import (
	"testing"
	"time"

	"gantry/internal/testkit/chromium"
	"gantry/media"
)

// The menu lists a stream's layers, and the picture follows it without a new session.
func playerChoosesQuality(t *testing.T, page *chromium.Page) {
	tracks := []media.Track{camera[0], camera[0]}
	tracks[0].RID, tracks[1].RID = "l", "h"
	tracks[0].Width, tracks[0].Height = 320, 180
	s := newStation(t, tracks, accessUnits(t), accessUnitsOf(t, "320x180"))
	page.Navigate(s.server.URL + "/play/studio/wide")
	page.Wait(15*time.Second, playing, status)
	const (
		menu  = `document.querySelector("gantry-player").shadowRoot.querySelector(".quality")`
		width = `document.querySelector("gantry-player").video.videoWidth`
	)
	page.Wait(10*time.Second, menu+`.length === 3 && `+menu+`.options[1].text.startsWith("360p")`, menu+".outerHTML")
	page.Wait(5*time.Second, width+" === 640", width)
	pick := func(rid string) {
		chromium.Eval[bool](page, `(() => { const m = `+menu+`; m.value = "`+rid+`"; m.dispatchEvent(new Event("change")); return true; })()`)
	}
	pc := chromium.Eval[bool](page, `(window.before = document.querySelector("gantry-player").player.connection) !== null`)
	pick("l")
	page.Wait(5*time.Second, width+" === 320", width)
	chromium.Eval[bool](page, `document.querySelector("gantry-player").shadowRoot.querySelector(".stage").dispatchEvent(new Event("pointermove"))`) // the bar comes
	page.Wait(5*time.Second, `getComputedStyle(document.querySelector("gantry-player").shadowRoot.querySelector(".bar")).opacity === "1" && `+menu+`.checkVisibility()`, menu+".outerHTML")
	page.Screenshot("quality")
	pick("")
	page.Wait(5*time.Second, width+" === 640", width)
	if !pc || !chromium.Eval[bool](page, `window.before === document.querySelector("gantry-player").player.connection`) {
		t.Error("the session is another one")
	}
	if n := chromium.Eval[int](page, `document.querySelector("gantry-player").player.stats.video.freezes`); n > 0 {
		t.Errorf("%d freezes", n)
	}
}
