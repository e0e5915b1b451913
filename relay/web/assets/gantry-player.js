// Plays a stream of a Gantry relay, or of any WHEP server, in a video element.
//
//   import {GantryPlayer} from "https://relay.example/gantry-player.js";
//   const player = new GantryPlayer(document.querySelector("video"), {url: "https://relay.example/whep/demo", token: "…"});
//   player.addEventListener("state", ({detail}) => console.log(detail.state, detail.text, detail.help));
//   player.addEventListener("stats", ({detail}) => console.log(detail.latency.median, detail.video?.fps));
//
// It plays muted at once (unmute() from a click brings the sound), and comes back by itself: ICE restart, then a new
// session, then again after growing pauses. <gantry-player> in gantry-player/element.js is the same with controls.
//
// Options: url (required), token, muted (true), autoplay (true), iceServers ([]), measure (true: look for capture times).
//
// States, as "state" events and player.state:
//   idle        not started, or stopped by stop()
//   connecting  a session is being opened
//   playing     pictures, or sound alone, are arriving
//   stalled     the session stands, but nothing arrives, or nothing that can be decoded
//   waiting     no session; the next attempt is at retryAt (in performance.now()'s time)
//   blocked     the browser wants a click first: call play() from it
//   failed      trying again would not help: change what is wrong and call play()
// Where the stream has layers, "layers" events tell of player.layers ([{rid, width, height, bitrate, current}], the best first);
// player.quality is "" (automatic) or a rid, and can be set. player.viewers is how many watch, null when it is not known.
//
// Each state has reason (a key of gantry-player/reasons.js, "" where all is well), text and help (for people), retryAt.

import {WhepSession, WhepError} from "./gantry-player/whep.js";
import {Meter} from "./gantry-player/stats.js";
import {LipSync} from "./gantry-player/sync.js";
import {explain, final} from "./gantry-player/reasons.js";

const tick = 500; // ms between looks at a running session
const limits = {
  connect: 10_000, // ms from the answer to a connection
  disconnected: 2_000, // ms without an answer to ICE's checks before another path is tried
  silence: 2_500, // ms without a packet until the viewer is told
  probe: 5_000, // ms between questions whether the relay still knows us, while no packet comes
  frozen: 5_000, // ms of packets without a picture before a new session
  settled: 5_000, // ms that a session must have lasted to be replaced at once when it is lost
  firstPause: 500, lastPause: 15_000, // ms between attempts
};

export class GantryPlayer extends EventTarget {
  #options;
  #run = null; // {abort, done} of the running loop
  #wake = () => {};
  #session = null;
  #meter = null;
  #clock = 0; // ms from this computer's clock to the relay's
  #state = {state: "idle", reason: "", text: "", help: "", retryAt: 0};
  #everPlayed = false;
  #quality = "";
  #listeners = new AbortController();

  constructor(video, options) {
    super();
    this.video = video;
    this.#options = {token: "", muted: true, autoplay: true, iceServers: [], measure: true, ...options};
    this.stats = null;
    this.layers = [];
    this.viewers = null;
    video.playsInline = true;
    video.muted = this.#options.muted;
    const on = (target, type, fn) => target.addEventListener(type, fn, {signal: this.#listeners.signal});
    on(window, "online", () => this.retry());
    on(window, "offline", () => this.retry());
    on(document, "visibilitychange", () => { if (!document.hidden) this.retry(); });
    on(window, "pagehide", () => this.#halt(true));
    on(window, "pageshow", ({persisted}) => { if (persisted && this.#state.state !== "idle") this.play(); });
    if (this.#options.autoplay) queueMicrotask(() => this.play());
  }

  get state() { return this.#state.state; }
  /** The whole of the last "state" event's detail. */
  get status() { return this.#state; }
  /** The peer connection, for what getStats has besides; null between sessions. */
  get connection() { return this.#session?.pc ?? null; }
  get url() { return this.#options.url; }
  get token() { return this.#options.token; }
  set token(token) { this.#options.token = token; }

  /** The layer that is asked for: its rid, or "" where the relay chooses. */
  get quality() { return this.#quality; }
  set quality(rid) {
    this.#quality = rid;
    this.#session?.select(rid ? {rid} : {}).catch(() => {}); // the layer has gone: its list will say so
    this.#tellLayers();
  }

  #tellLayers() { this.dispatchEvent(new CustomEvent("layers", {detail: {layers: this.layers, quality: this.#quality}})); }

  /** Acts on what the relay tells. */
  #heard(session, {event, data}) {
    if (event === "viewercount") this.viewers = data.viewercount ?? null;
    else if (event === "inactive" && this.#state.state === "playing") this.#set("stalled", "stalled");
    else if (event === "reconnect") {
      session.dismissed = true;
      this.#wake();
    } else if (event === "layers") {
      const first = !session.layered;
      session.layered = true;
      this.layers = (Object.values(data)[0] ?? []).filter((l) => l.rid !== undefined)
        .sort((a, b) => (b.width ?? 0) * (b.height ?? 0) - (a.width ?? 0) * (a.height ?? 0) || (b.bitrate ?? 0) - (a.bitrate ?? 0));
      if (first && this.layers.some((l) => l.rid === this.#quality)) session.select({rid: this.#quality}).catch(() => {});
      this.#tellLayers();
    }
  }

  /** Starts, or starts again at once where the player waits or has given up. Call it from a click where it is blocked. */
  play() {
    if (this.#listeners.signal.aborted) return; // closed
    if (this.#run && this.#state.state === "blocked") return this.#startVideo();
    if (this.#run) return this.retry();
    const abort = new AbortController();
    this.#run = {abort};
    this.#run.done = this.#loop(abort.signal).finally(() => { if (this.#run?.abort === abort) this.#run = null; });
  }

  /** Ends the session, at the relay too. */
  stop() {
    this.#halt(false);
    this.video.srcObject = null;
    this.#everPlayed = false;
    this.#set("idle");
  }

  /** Cuts a pause between attempts short. */
  retry() { this.#wake(); }

  /** Brings the sound; browsers allow it from a click or key press only. */
  unmute() {
    this.video.muted = false;
    return this.#startVideo();
  }

  mute() { this.video.muted = true; }

  /** Stops and lets go of the video element. */
  close() {
    this.stop();
    this.#meter?.close();
    this.#listeners.abort();
  }

  #halt(leaving) {
    this.#run?.abort.abort();
    this.#run = null;
    this.#session?.close(leaving);
    this.#session = null;
    this.#wake();
  }

  #set(state, reason = "", about = {}) {
    let host = "", stream = "";
    try {
      const url = new URL(this.#options.url, document.baseURI);
      host = url.host;
      stream = decodeURIComponent(url.pathname.replace(/^.*\/whep\//, "").replace(/^\//, ""));
    } catch { /* bad-address says so */ }
    const {text, help} = reason ? explain(reason, {stream, host, token: this.#options.token, ...about}) : {text: "", help: ""};
    const next = {state, reason, text, help, retryAt: about.retryAt ?? 0};
    if (Object.keys(next).every((k) => next[k] === this.#state[k])) return;
    this.#state = next;
    this.dispatchEvent(new CustomEvent("state", {detail: next}));
  }

  /** Opens sessions one after the other until it is stopped or something must be changed first. */
  async #loop(signal) {
    for (let attempt = 0; !signal.aborted; attempt++) {
      let failure;
      try {
        this.#checkBrowser();
        await this.#play(signal, () => { attempt = 0; });
      } catch (e) {
        failure = e instanceof WhepError ? e : new WhepError("internal", String(e?.stack ?? e));
      }
      if (signal.aborted) return;
      const about = {detail: failure.detail, status: failure.status, addresses: failure.addresses, codec: failure.codec};
      if (final.has(failure.reason)) return this.#set("failed", failure.reason, about);
      // Half of the pause is chance, so that many viewers do not return in one moment.
      const pause = Math.min(limits.lastPause, limits.firstPause * 2 ** Math.min(attempt, 10)) * (0.5 + Math.random() / 2);
      const wait = Math.max(pause, Math.min(failure.retryAfter, 60_000) * (1 + Math.random() / 4));
      if (failure.reason === "lost" && attempt === 0) continue; // a session that played is replaced at once
      this.#set("waiting", failure.reason, {...about, retryAt: performance.now() + wait});
      await this.#pause(wait, signal);
    }
  }

  #checkBrowser() {
    if (typeof RTCPeerConnection === "undefined") throw new WhepError("no-webrtc");
    try {
      const url = new URL(this.#options.url, document.baseURI);
      if (!/^https?:$/.test(url.protocol)) throw new Error("it does not begin with http:// or https://");
    } catch (e) {
      throw new WhepError("bad-address", e.message);
    }
  }

  /** Plays one session; throws why it ended. */
  async #play(signal, good) {
    const session = new WhepSession({url: this.#options.url, token: this.#options.token, iceServers: this.#options.iceServers});
    this.#session = session;
    const changed = () => this.#wake();
    let sync;
    session.addEventListener("change", changed);
    session.addEventListener("relay", ({detail}) => { if (this.#session === session) this.#heard(session, detail); });
    try {
      if (!this.#everPlayed || this.#state.state !== "stalled") this.#set("connecting", this.#state.reason);
      const begun = performance.now();
      await session.open();
      this.#attach(session);
      await this.#connected(session, limits.connect, signal);
      session.listen();
      this.#meter ??= new Meter(this.video, this.#options.measure);
      this.#meter.begin(session.pc);
      sync = new LipSync(session.pc);
      this.#setClock(signal);
      await this.#watch(session, begun, good, signal);
    } finally {
      session.removeEventListener("change", changed);
      sync?.close();
      session.close();
    }
  }

  /** Shows the new session's picture as soon as it has one; the last one's stays until then. */
  #attach(session) {
    const show = () => {
      if (this.#session !== session || this.video.srcObject === session.stream) return;
      this.video.srcObject = session.stream;
      this.#startVideo();
    };
    if (!this.#everPlayed) return show();
    for (const track of session.stream.getTracks()) track.addEventListener("unmute", show, {once: true});
  }

  /** Asks a Gantry relay for its time, against which capture times are read; any other WHEP server is taken to agree with us. */
  async #setClock(signal) {
    if (!this.#options.measure) return;
    let best = Infinity;
    for (let i = 0; i < 4 && !signal.aborted; i++) {
      try {
        const sent = performance.now();
        const {now} = await (await fetch(new URL("/api/v1/time", new URL(this.#options.url, document.baseURI)), {cache: "no-store", signal})).json();
        const trip = performance.now() - sent;
        if (trip < best && Number.isFinite(now)) {
          best = trip;
          this.#clock = now + trip / 2 - (performance.timeOrigin + performance.now());
        }
      } catch {
        return;
      }
    }
    // The two clocks are known to half a round trip: a smaller difference is not one.
    if (Math.abs(this.#clock) < best / 2 + 1) this.#clock = 0;
    this.#meter.setClock(this.#clock);
  }

  async #startVideo() {
    try {
      await this.video.play();
      if (this.#state.state === "blocked") this.#set("playing");
    } catch (e) {
      if (e.name !== "NotAllowedError") return; // a newer source has replaced this one
      if (!this.video.muted) {
        this.video.muted = true; // without sound most browsers let it
        return this.#startVideo();
      }
      this.#set("blocked", "autoplay-blocked");
    }
  }

  async #connected(session, limit, signal) {
    const deadline = performance.now() + limit;
    while (!session.connected) {
      if (signal.aborted) throw new WhepError("stopped");
      const left = deadline - performance.now();
      if (left <= 0 || session.pc.connectionState === "failed") {
        throw Object.assign(new WhepError(session.wasConnected ? "lost" : "no-route"), {addresses: session.addresses});
      }
      await this.#pause(Math.min(left, tick), signal);
    }
  }

  /** Looks after a connected session until it must be replaced. */
  async #watch(session, begun, good, signal) {
    const at = {packet: performance.now(), frame: performance.now(), answer: 0, probe: 0, away: 0};
    let last = {packets: 0, frames: 0, samples: 0, answers: 0}, sampled = 0;
    // What asks the relay goes on beside the watching: the picture may return before the relay has answered.
    let repairing = false, failure = null;
    const repair = (work) => {
      if (repairing) return;
      repairing = true;
      work().catch((e) => { failure = e; }).finally(() => { repairing = false; this.#wake(); });
    };
    for (;;) {
      const every = last.frames ? tick : tick / 5; // the first picture is waited for
      await this.#pause(every, signal);
      if (signal.aborted) throw new WhepError("stopped");
      const now = performance.now();
      const connection = session.pc.connectionState;
      at.away = connection === "disconnected" ? at.away || now : 0;
      if (connection === "closed" || connection === "new" || session.ended || session.dismissed) throw new WhepError("lost");
      if (failure) {
        // A relay that cannot be reached now may yet know this session later, as long as the browser has hope.
        const hope = connection !== "failed" && (failure.reason === "unreachable" || failure.reason === "offline");
        if (!hope) throw new WhepError("lost", failure.message);
        failure = null;
      }
      if (connection === "failed" || at.away && now - at.away > limits.disconnected) {
        this.#set("stalled", "lost");
        repair(async () => {
          await session.restart();
          await this.#connected(session, limits.connect / 2, signal);
        });
      }
      if (now - sampled < every * 0.9) continue; // woken by a change
      sampled = now;

      const stats = await this.#meter.sample(session);
      const {video, audio} = stats;
      const have = {packets: (video?.packets ?? 0) + (audio?.packets ?? 0), frames: video?.frames ?? 0, samples: audio?.samples ?? 0,
        answers: stats.path?.responses ?? 0};
      if (have.packets > last.packets) at.packet = now;
      if (have.answers > last.answers) at.answer = now; // to ICE's checks: the path stands
      const soundOnly = !video?.packets && have.samples > last.samples;
      if (have.frames > last.frames || soundOnly) {
        at.frame = now;
        if (!last.frames) this.firstFrame = (this.#meter.firstShown ?? now) - begun;
        this.#everPlayed = true;
        if (now - begun > limits.settled) good();
        if (this.#state.state !== "blocked") this.#set("playing");
      }
      last = have;
      this.stats = {...stats, firstFrame: this.firstFrame ?? null, soundOnly};
      this.dispatchEvent(new CustomEvent("stats", {detail: this.stats}));

      const quiet = now - at.packet, dark = now - at.frame;
      if (quiet > limits.silence) {
        at.frame = now; // to be dark, packets must come
        if (at.answer - at.packet > limits.silence / 2) this.#set("stalled", last.packets ? "stalled" : "silent");
        else if (this.#state.reason !== "lost") this.#set("stalled", "quiet");
        if (now - at.probe > limits.probe) {
          at.probe = now;
          repair(() => session.probe()); // where the relay still knows us, waiting is right
        }
      } else if (document.hidden) {
        at.frame = now; // browsers may stop decoding what nobody sees
      } else if (dark > limits.frozen) {
        const codec = [video?.codec ?? session.videoCodec, video?.profile && `profile ${video.profile}`].filter(Boolean).join(", ");
        throw Object.assign(new WhepError(have.frames ? "lost" : "undecodable"), {codec});
      }
    }
  }

  #pause(ms, signal) {
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", wake);
        resolve();
      };
      const timer = setTimeout(wake, ms);
      this.#wake = wake;
      signal.addEventListener("abort", wake);
      if (signal.aborted) wake();
    });
  }
}
