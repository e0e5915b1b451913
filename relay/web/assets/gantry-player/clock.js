// Reads the capture time that Gantry's test source burns into its pictures: a strip along the bottom edge, 40 columns by 3
// rows of black and white cells, as the package device/testsrc describes. It is how latency is known where neither the
// browser nor the relay tells capture times.

const columns = 40, rows = 3, top = 21 / 24, rowBits = 36, bytes = 13;
const cell = 4; // pixels of a cell in the small copy that is read

let canvas = null;

/** Returns the capture time of a picture of w by h pixels in UTC milliseconds, or null where it carries no mark. */
export function readClock(picture, w, h) {
  if (w < 2 * columns || h < 48) return null;
  canvas ??= new OffscreenCanvas(columns * cell, rows * cell).getContext("2d", {willReadFrequently: true});
  let data;
  try {
    canvas.globalCompositeOperation = "copy";
    canvas.drawImage(picture, 0, h * top, w, h * (1 - top), 0, 0, columns * cell, rows * cell);
    data = canvas.getImageData(0, 0, columns * cell, rows * cell).data;
  } catch {
    return null;
  }
  const level = (c, r) => { // of the middle four pixels: a cell's edges suffer most from compression
    let sum = 0;
    for (const [x, y] of [[1, 1], [2, 1], [1, 2], [2, 2]]) {
      const i = 4 * ((r * cell + y) * columns * cell + c * cell + x);
      sum += 0.2126 * data[i] + 0.7152 * data[i + 1] + 0.0722 * data[i + 2];
    }
    return sum / 4;
  };
  const mark = new Uint8Array(bytes);
  for (let r = 0; r < rows; r++) {
    const dark = (level(0, r) + level(columns - 1, r)) / 2, bright = (level(1, r) + level(columns - 2, r)) / 2;
    if (bright - dark < 40) return null;
    for (let i = 0; i < rowBits; i++) {
      if (level(2 + i, r) <= (dark + bright) / 2) continue;
      const bit = r * rowBits + i;
      if (bit >= 8 * bytes) return null;
      mark[bit >> 3] |= 128 >> (bit & 7);
    }
  }
  let crc = 0xffff; // CRC-16/IBM-3740
  for (let i = 0; i < bytes - 2; i++) {
    crc ^= mark[i] << 8;
    for (let k = 0; k < 8; k++) crc = (crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1) & 0xffff;
  }
  if (mark[0] >> 4 !== 1 || crc !== (mark[11] << 8 | mark[12])) return null;
  const view = new DataView(mark.buffer);
  return view.getUint16(5) * 2 ** 32 + view.getUint32(7);
}
