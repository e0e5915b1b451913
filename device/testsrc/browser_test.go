package testsrc

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"gantry/internal/testkit/chromium"
	"gantry/media"
)

// decode.js reads, in a real browser and from strongly compressed and scaled pictures, what Render wrote.
func TestBrowserReadsTheMark(t *testing.T) {
	f := format(1280, 720)
	want := markAt(4_000_000_001, noon)
	f.FourCC = media.YU12
	data := render(t, f, want.Counter, noon)
	wh := f.Width * f.Height
	// JPEG takes the limited-range samples for full-range ones: less contrast, which is one more hardship.
	picture := &image.YCbCr{Y: data[:wh], Cb: data[wh : wh*5/4], Cr: data[wh*5/4:], YStride: f.Width, CStride: f.Width / 2,
		SubsampleRatio: image.YCbCrSubsampleRatio420, Rect: image.Rect(0, 0, f.Width, f.Height)}
	var coded bytes.Buffer
	if err := jpeg.Encode(&coded, picture, &jpeg.Options{Quality: 10}); err != nil {
		t.Fatal(err)
	}
	page := fmt.Sprintf(`<!doctype html><script>%s
async function read(w, h) {
  const img = new Image();
  img.src = "/picture.jpg";
  await img.decode();
  const canvas = new OffscreenCanvas(w, h), g = canvas.getContext("2d");
  g.drawImage(img, 0, 0, w, h);
  const sharp = gantryDecodeMark(g.getImageData(0, 0, w, h));
  g.clearRect(0, 0, w, h);
  return [sharp, gantryDecodeMark(g.getImageData(0, 0, w, h))];
}
(async () => {
  window.got = [];
  for (const [w, h] of [[1280, 720], [640, 360], [320, 180], [1500, 700]]) got.push(await read(w, h));
  window.finished = true;
})();
</script>`, DecodeJS)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/picture.jpg" {
			_, _ = w.Write(coded.Bytes())
			return
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(page))
	}))
	defer server.Close()
	p := chromium.Open(t, chromium.Options{}, server.URL)
	p.Wait(20*time.Second, "window.finished === true", "the pictures are read")
	mark := fmt.Sprintf(`{"counter":%d,"time":%d,"flash":%v}`, want.Counter, want.Time.UnixMilli(), want.Flash)
	all := fmt.Sprintf("[[%[1]s,null],[%[1]s,null],[%[1]s,null],[%[1]s,null]]", mark)
	p.Wait(time.Second, fmt.Sprintf("JSON.stringify(got) === %q", all), "every mark is read: "+all)
}
