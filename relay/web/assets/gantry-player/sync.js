// Keeps picture and sound together. Browsers do it by themselves, by the relay's sender reports, but slowly: Chromium begins after
// two seconds and mends an eighth of what is amiss each second. Here the picture waits for its sound within the first second,
// and no longer once the sound comes sooner.

const soon = 100, later = 500; // ms between looks, in the first seconds and while something is amiss, and then
const first = 10_000; // ms after the beginning
const tolerance = 20; // ms that are left alone; browsers leave 30
const most = 400; // ms that a picture is held back
const stride = 30; // ms of more or less delay a look, so that the picture slows down a little instead of standing still
const decoding = 12; // ms that the delay asked of a browser has for decoding and rendering, beside the jitter buffer

export class LipSync {
  #receivers = {};
  #before = {};
  #timer = 0;
  #held = 0; // ms, as the receiver has it
  #goal = 0;
  #last = NaN; // what the last look found amiss
  #begun = performance.now();

  /** Looks after what a connection receives until close(). */
  constructor(pc) {
    for (const kind of ["video", "audio"]) this.#receivers[kind] = pc.getReceivers().find((r) => r.track?.kind === kind);
    const {video, audio} = this.#receivers;
    if (video && audio && "jitterBufferTarget" in video) this.#again(soon);
  }

  close() {
    clearTimeout(this.#timer);
    this.#timer = null;
  }

  #again(pause) {
    if (this.#timer !== null) this.#timer = setTimeout(() => this.#look().catch(() => soon).then((pause) => this.#again(pause)), pause);
  }

  /** Does what is to be done now, and returns the ms until there may be more. */
  async #look() {
    if (this.#held !== this.#goal) {
      this.#held += Math.min(stride, Math.max(-stride, this.#goal - this.#held));
      this.#receivers.video.jitterBufferTarget = this.#held;
      this.#before = {};
      this.#last = NaN;
      return soon;
    }
    const now = {};
    for (const r of Object.values(this.#receivers)) {
      for (const s of (await r.getStats()).values()) {
        if (s.type === "inbound-rtp") now[s.kind] = s;
        if (s.type === "media-playout") now.playout = s;
      }
    }
    const amiss = this.#offset(now), natural = this.#recent(now, "video", "jitterBufferTargetDelay") + decoding;
    this.#before = now;
    const both = Math.sign(amiss) === Math.sign(this.#last) ? Math.min(Math.abs(amiss), Math.abs(this.#last)) : 0;
    this.#last = amiss;
    if (both > tolerance && Number.isFinite(natural)) {
      this.#goal = Math.round(Math.min(most, Math.max(0, (this.#held || natural) + Math.sign(amiss) * both)));
      return soon;
    }
    return performance.now() - this.#begun < first ? soon : later;
  }

  /** Returns by how many ms the sound comes after its picture; NaN: it cannot be told. */
  #offset(now) {
    if (!["video", "audio"].every((kind) => now[kind]?.packetsReceived > this.#before[kind]?.packetsReceived)) return NaN; // one stands still
    // The browser says it when it has had two reports of each, some two seconds after the start. Until then sound and picture are taken
    // to arrive together, as is right for most publishers, and only what they wait here is compared.
    const said = now.video?.estimatedPlayoutTimestamp - now.audio?.estimatedPlayoutTimestamp;
    if (Math.abs(said) < 2_000) return said;
    return this.#recent(now, "audio", "jitterBufferDelay") + (this.#recent(now, "playout", "totalPlayoutDelay", "totalSamplesCount") || 0) -
      this.#recent(now, "video", "jitterBufferDelay") - decoding;
  }

  /** Returns the average of a delay since the last look in ms; NaN: there was nothing. */
  #recent(now, kind, key, count = "jitterBufferEmittedCount") {
    const a = this.#before[kind], b = now[kind];
    return b?.[count] > a?.[count] ? 1000 * (b[key] - a[key]) / (b[count] - a[count]) : NaN;
  }
}
