// What a session delivers, measured: the browser's own counters by difference, and the time from capture to screen.

import {readClock} from "./clock.js";

const latencyWindow = 4_000; // ms of frames that the latency figures look back on

export class Meter {
  #video;
  #callback = 0;
  #before = null;
  #latencies = []; // {at, ms}
  #source = null;
  #presented = 0;
  #offset = 0;
  #lookAgain = 0;
  #receiver = null;

  /** `latency`: look at each frame that is shown. */
  constructor(video, latency) {
    this.#video = video;
    if (latency && "requestVideoFrameCallback" in video) this.#watch();
  }

  /** Takes the ms to add to this computer's clock to get the relay's. */
  setClock(offset) { this.#offset = offset; }

  /** Measures another session from now on. */
  begin(pc) {
    this.firstShown = null; // performance.now() of the session's first frame
    this.#before = null;
    this.#latencies = [];
    this.#source = null;
    this.#receiver = pc.getReceivers().find((r) => r.track?.kind === "video");
  }

  close() {
    if (this.#callback) this.#video.cancelVideoFrameCallback(this.#callback);
    this.#callback = 0;
  }

  #watch() {
    this.#callback = this.#video.requestVideoFrameCallback((now, frame) => {
      this.#presented++;
      this.firstShown ??= now;
      this.#latency(now, frame);
      this.#watch();
    });
  }

  /** Notes how long ago the frame was captured that will be on screen at frame.expectedDisplayTime. */
  #latency(now, frame) {
    const shown = Math.max(frame.expectedDisplayTime, now);
    let ms = null, source = null;
    if (frame.captureTime !== undefined) {
      // The browser has already translated the sender's clock to this one.
      [ms, source] = [shown - frame.captureTime, "capture time"];
    }
    if (ms === null) {
      const sync = this.#receiver?.getSynchronizationSources?.()[0];
      if (sync?.captureTimestamp !== undefined && sync.rtpTimestamp !== undefined && frame.rtpTimestamp !== undefined) {
        const behind = ((sync.rtpTimestamp - frame.rtpTimestamp) | 0) / 90;
        const captured = ntpToUnix(sync.captureTimestamp) + (sync.senderCaptureTimeOffset ?? 0) - behind;
        [ms, source] = [performance.timeOrigin + shown + this.#offset - captured, "capture time"];
      }
    }
    if (ms === null && this.#source !== "capture time" && now >= this.#lookAgain) {
      const clock = readClock(this.#video, frame.width, frame.height);
      // A test picture is read ten times a second, any other looked at now and then.
      this.#lookAgain = now + (clock === null ? 2_000 : 95);
      if (clock !== null) [ms, source] = [performance.timeOrigin + shown + this.#offset - clock, "picture"];
    }
    if (ms === null || ms < -500 || ms > 60_000) return; // clocks that far apart say nothing
    this.#source = source;
    this.#latencies.push({at: now, ms});
    while (this.#latencies[0].at < now - latencyWindow) this.#latencies.shift();
  }

  /** Returns figures of the time since the last call, null for what is not known. */
  async sample(session) {
    const report = await session.pc.getStats();
    const by = {};
    for (const s of report.values()) {
      if (s.type === "inbound-rtp") by[s.kind] = s;
      if (s.type === "candidate-pair" && s.nominated && s.state === "succeeded") by.pair = s;
    }
    const now = performance.now();
    const before = this.#before;
    this.#before = {now, video: by.video, audio: by.audio, presented: this.#presented};
    const seconds = before ? (now - before.now) / 1000 : 0;
    const local = report.get(by.pair?.localCandidateId), remote = report.get(by.pair?.remoteCandidateId);
    const recent = this.#latencies.filter((l) => l.at > now - latencyWindow).map((l) => l.ms).sort((a, b) => a - b);
    const at = (q) => recent.length ? recent[Math.min(recent.length - 1, Math.floor(q * recent.length))] : null;
    return {
      video: track(report, by.video, before?.video, seconds),
      audio: track(report, by.audio, before?.audio, seconds),
      shown: seconds ? (this.#presented - before.presented) / seconds : null,
      latency: {median: at(0.5), p95: at(0.95), source: recent.length ? this.#source : null, frames: recent.length},
      rtt: by.pair?.currentRoundTripTime !== undefined ? by.pair.currentRoundTripTime * 1000 : null,
      path: remote ? {protocol: local?.protocol ?? remote.protocol, address: remote.address ?? remote.ip, port: remote.port, type: remote.candidateType, responses: by.pair.responsesReceived ?? 0} : null,
    };
  }
}

function track(report, now, before, seconds) {
  if (!now) return null;
  const codec = report.get(now.codecId);
  const delta = (key) => seconds && before?.[key] !== undefined && now[key] !== undefined ? Math.max(0, now[key] - before[key]) : null;
  const ratio = (a, b, scale = 1) => delta(b) ? (delta(a) ?? 0) / delta(b) * scale : null;
  const rate = (key, scale = 1) => delta(key) === null ? null : delta(key) * scale / seconds;
  const received = delta("packetsReceived"), lost = delta("packetsLost");
  return {
    codec: codec ? codec.mimeType.split("/")[1] : null,
    profile: codec?.sdpFmtpLine?.match(/profile-level-id=(\w+)/i)?.[1] ?? null,
    channels: codec?.channels ?? null,
    width: now.frameWidth ?? null, height: now.frameHeight ?? null,
    fps: rate("framesDecoded"),
    bitrate: rate("bytesReceived", 8),
    loss: received === null ? null : received + lost > 0 ? lost / (received + lost) : 0, // before retransmission mends it
    jitter: now.jitter !== undefined ? now.jitter * 1000 : null,
    buffer: ratio("jitterBufferDelay", "jitterBufferEmittedCount", 1000),
    decode: ratio("totalDecodeTime", "framesDecoded", 1000),
    packets: now.packetsReceived ?? 0, packetsLost: now.packetsLost ?? 0,
    frames: now.framesDecoded ?? 0, keyFrames: now.keyFramesDecoded ?? 0, dropped: now.framesDropped ?? 0,
    received: now.framesReceived ?? 0,
    freezes: now.freezeCount ?? 0, nacks: now.nackCount ?? 0, plis: now.pliCount ?? 0,
    samples: now.jitterBufferEmittedCount ?? 0,
  };
}

/** abs-capture-time counts from 1900, the web from 1970; browsers have given either. */
function ntpToUnix(ms) { return ms > 2_208_988_800_000 + 1e12 ? ms - 2_208_988_800_000 : ms; }
