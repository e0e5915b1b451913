// Reads the mark that Gantry's test source burns into each picture; the cells are described in package testsrc.
// image is the ImageData of a whole picture. Returns {counter, time, flash}, time in UTC milliseconds, or null.
function gantryDecodeMark(image) {
  const columns = 40, rows = 3, top = 21, parts = 24, rowBits = 36, bytes = 13;
  const { data, width: w, height: h } = image;
  if (w < 2 * columns || h < 2 * parts) return null;
  const middle = (a, b) => {
    const quarter = Math.floor((b - a) / 4);
    return [a + quarter, Math.max(b - quarter, a + quarter + 1)];
  };
  const level = (c, r) => {
    const [x0, x1] = middle(Math.floor(c * w / columns), Math.floor((c + 1) * w / columns));
    const [y0, y1] = middle(Math.floor((top + r) * h / parts), Math.floor((top + r + 1) * h / parts));
    let sum = 0;
    for (let y = y0; y < y1; y++) {
      for (let x = x0; x < x1; x++) {
        const i = 4 * (y * w + x);
        sum += 0.2126 * data[i] + 0.7152 * data[i + 1] + 0.0722 * data[i + 2];
      }
    }
    return sum / ((x1 - x0) * (y1 - y0));
  };
  const levels = [];
  let dark = 0, bright = 0;
  for (let r = 0; r < rows; r++) {
    const row = Array.from({ length: columns }, (_, c) => level(c, r));
    levels.push(row);
    dark += row[0] + row[columns - 1];
    bright += row[1] + row[columns - 2];
  }
  if (bright - dark < 40 * 2 * rows) return null;
  const threshold = (dark + bright) / (4 * rows);
  const b = new Uint8Array(bytes);
  for (let r = 0; r < rows; r++) {
    const white = levels[r].map((v) => v > threshold);
    if (white[0] || !white[1] || !white[columns - 2] || white[columns - 1]) return null;
    for (let i = 0; i < rowBits; i++) {
      if (!white[2 + i]) continue;
      const bit = r * rowBits + i;
      if (bit >= 8 * bytes) return null;
      b[bit >> 3] |= 128 >> (bit & 7);
    }
  }
  let crc = 0xffff;
  for (let i = 0; i < bytes - 2; i++) {
    crc ^= b[i] << 8;
    for (let k = 0; k < 8; k++) crc = (crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1) & 0xffff;
  }
  if (b[0] >> 4 !== 1 || crc !== (b[11] << 8 | b[12])) return null;
  const view = new DataView(b.buffer);
  return {
    counter: view.getUint32(1),
    time: view.getUint16(5) * 0x100000000 + view.getUint32(7),
    flash: (b[0] & 1) === 1,
  };
}
