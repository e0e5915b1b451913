// <gantry-player>: a GantryPlayer with controls, a statistics overlay, and words where nothing plays.
//
//   <script type="module" src="https://relay.example/gantry-player/element.js"></script>
//   <gantry-player src="https://relay.example/whep/demo" token="…" stats></gantry-player>
//
// Attributes: src, token, and as in a URL: muted, controls, autoplay (on unless "0" or "false"), stats (off unless there).
// Keys: m sound, i statistics, f full screen, p picture in picture, space stop and play, arrows volume.
// element.player is the GantryPlayer, element.video the video element.

import {GantryPlayer} from "../gantry-player.js";
import {parseProfile} from "./h264.js";

const icon = (path, extra = "") => `<svg viewBox="0 0 24 24" aria-hidden="true" ${extra}><path d="${path}"/></svg>`;
const icons = {
  play: icon("M8 5.2v13.6L19 12z"),
  stop: icon("M7 7h10v10H7z"),
  muted: icon("M4 9.5v5h3.5L12 18.5v-13L7.5 9.5zM16 9.2l5.6 5.6M21.6 9.2 16 14.8", 'class="line"'),
  sound: icon("M4 9.5v5h3.5L12 18.5v-13L7.5 9.5zM15.5 9a4.4 4.4 0 0 1 0 6M18.2 6.4a8 8 0 0 1 0 11.2", 'class="line"'),
  stats: icon("M5 19v-6M12 19V5M19 19v-9", 'class="line"'),
  pip: icon("M3.5 5.5h17v13h-17zM12 12.5h6v4h-6z", 'class="line"'),
  full: icon("M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5", 'class="line"'),
};

const template = document.createElement("template");
template.innerHTML = `
<div class="stage" part="stage">
  <video playsinline disableremoteplayback tabindex="-1"></video>
  <div class="notice" role="status" aria-live="polite" hidden>
    <div class="spinner" aria-hidden="true"></div>
    <h2></h2><p class="help"></p>
    <form hidden><input name="token" type="password" autocomplete="off" aria-label="Play token" placeholder="Play token" required><button>Play</button></form>
    <button class="again" type="button" hidden>Try now</button>
    <p class="count"></p>
  </div>
  <button class="start" type="button" aria-label="Play" hidden>${icons.play}</button>
  <button class="loud" type="button" hidden>${icons.muted}<span>Click for sound</span></button>
  <p class="silent" role="status" hidden></p>
  <dl class="stats" aria-label="Statistics" hidden></dl>
  <div class="bar" role="group" aria-label="Controls">
    <button class="toggle" type="button" aria-label="Stop" title="Stop (space)">${icons.stop}</button>
    <button class="mute" type="button" aria-label="Sound" title="Sound (m)">${icons.muted}</button>
    <input class="volume" type="range" min="0" max="1" step="0.05" value="1" aria-label="Volume">
    <span class="live"><i></i><b>LIVE</b><span class="latency" title="Time from capture to this screen"></span></span>
    <span class="space"></span>
    <select class="quality" aria-label="Quality" title="Quality" hidden></select>
    <button class="info" type="button" aria-label="Statistics" aria-pressed="false" title="Statistics (i)">${icons.stats}</button>
    <button class="pip" type="button" aria-label="Picture in picture" title="Picture in picture (p)">${icons.pip}</button>
    <button class="full" type="button" aria-label="Full screen" title="Full screen (f)">${icons.full}</button>
  </div>
</div>`;

const sheet = new CSSStyleSheet();
sheet.replaceSync(`
:host { display: block; position: relative; background: #000; color: #e9edf2; aspect-ratio: 16 / 9; overflow: hidden;
  font: 15px/1.45 system-ui, "Segoe UI", Roboto, sans-serif; -webkit-tap-highlight-color: transparent; }
:host([hidden]) { display: none; }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
.stage { position: absolute; inset: 0; container-type: size; outline: none; }
video { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; background: #000; outline: none; }
.dim video { filter: brightness(.35) saturate(.6); }
button { font: inherit; color: inherit; cursor: pointer; border: 0; background: none; }
:focus-visible { outline: 2px solid #5cc8ff; outline-offset: 2px; }
svg { width: 24px; height: 24px; display: block; fill: currentColor; }
svg.line { fill: none; stroke: currentColor; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }

.notice { position: absolute; inset: 0; display: flex; flex-direction: column; align-items: center; justify-content: center;
  gap: 8px; padding: 16px 24px 56px; text-align: center; overflow: auto; }
.notice h2 { margin: 0; font-size: clamp(17px, 4.2cqmin + 6px, 26px); font-weight: 600; letter-spacing: -.01em; text-wrap: balance; }
.notice p { margin: 0; max-width: 46em; color: #a9b4c0; text-wrap: balance; overflow-wrap: anywhere; }
.notice .count { font-size: 13px; color: #7f8b98; min-height: 1.4em; font-variant-numeric: tabular-nums; }
.spinner { width: 34px; height: 34px; margin-bottom: 6px; border-radius: 50%; border: 3px solid #ffffff22; border-top-color: #5cc8ff;
  animation: turn 1s linear infinite; }
.calm .spinner { display: none; }
@keyframes turn { to { transform: rotate(1turn); } }
@media (prefers-reduced-motion: reduce) { .spinner { animation-duration: 4s; } }
form { display: flex; gap: 8px; margin-top: 8px; }
input[name=token] { font: inherit; color: inherit; background: #12161b; border: 1px solid #33404d; border-radius: 8px; padding: 8px 12px; width: 15em; }
form button, .again { background: #5cc8ff; color: #06121b; font-weight: 600; border-radius: 8px; padding: 8px 16px; }
.again { margin-top: 8px; background: #ffffff1a; color: inherit; }
form button:hover, .again:hover { filter: brightness(1.12); }

.start { position: absolute; inset: 0; margin: auto; width: 84px; height: 84px; border-radius: 50%; background: #000a; backdrop-filter: blur(6px);
  display: grid; place-items: center; }
.start svg { width: 44px; height: 44px; }
.start:hover { background: #5cc8ff; color: #06121b; }
.silent { position: absolute; left: 50%; bottom: 64px; translate: -50%; margin: 0; max-width: 90%; padding: 8px 14px; border-radius: 10px;
  background: #05080bd9; color: #ffbe4d; font-size: 13px; overflow-wrap: anywhere; }
.loud { position: absolute; top: 14px; right: 14px; display: flex; gap: 8px; align-items: center; padding: 7px 14px 7px 10px; border-radius: 99px;
  background: #000b; backdrop-filter: blur(6px); font-size: 14px; transition: opacity .25s; }
.loud:hover { background: #5cc8ff; color: #06121b; }
.loud svg { width: 20px; height: 20px; }

.bar { position: absolute; left: 0; right: 0; bottom: 0; display: flex; align-items: center; gap: 4px; padding: 28px 10px 8px;
  background: linear-gradient(transparent, #000c); transition: opacity .25s; }
.bar button { width: 38px; height: 38px; border-radius: 8px; display: grid; place-items: center; flex: none; }
.bar button:hover, .bar button[aria-pressed=true] { background: #ffffff26; }
.bar svg { width: 22px; height: 22px; }
.volume { width: 84px; accent-color: #5cc8ff; cursor: pointer; margin-right: 4px; }
.live { display: inline-flex; align-items: center; gap: 6px; font-size: 13px; padding: 0 8px; white-space: nowrap;  }
.live b { font-weight: 700; letter-spacing: .06em; font-size: 12px; }
.stage:not(.on) .live { visibility: hidden; }
.live i { width: 8px; height: 8px; border-radius: 50%; background: #ff4b4b; box-shadow: 0 0 0 3px #ff4b4b33; }
.latency { font-variant-numeric: tabular-nums; color: #b9c3cd; }
.space { flex: 1; }
.quality { font: inherit; font-size: 13px; color: inherit; background: #0006; border: 1px solid #ffffff26; border-radius: 8px; padding: 5px 6px; cursor: pointer; max-width: 11em; }
.quality option { background: #12161b; }
.idle .bar, .idle .loud { opacity: 0; }
.idle .bar:focus-within, .idle .loud:focus-visible { opacity: 1; }
.idle { cursor: none; }
.bare .bar { display: none; }
@container (max-width: 420px) { .volume, .pip { display: none !important; } }
@container (max-width: 280px) { .latency { display: none; } .loud span { display: none; } .loud { padding: 8px; } }

.stats { position: absolute; left: 12px; top: 12px; margin: 0; padding: 10px 14px; border-radius: 10px; background: #05080bd9; backdrop-filter: blur(8px);
  border: 1px solid #ffffff14; font: 12.5px/1.55 ui-monospace, "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", monospace;
  display: grid; grid-template-columns: auto auto; gap: 0 14px; max-width: calc(100% - 24px); max-height: calc(100% - 76px); overflow: auto; }
.stats dt { color: #8695a4; }
.stats dd { margin: 0; font-variant-numeric: tabular-nums; white-space: pre-wrap; overflow-wrap: anywhere; }
.stats dd.warn { color: #ffbe4d; }
`);

const off = (value) => value === "0" || value === "false";
const ms = (v) => v === null || v === undefined ? "–" : v >= 9_950 ? `${(v / 1000).toFixed(0)} s` : v >= 995 ? `${(v / 1000).toFixed(1)} s` : `${v.toFixed(0)} ms`;
const bits = (v) => v === null || v === undefined ? "–" : v >= 1e6 ? `${(v / 1e6).toFixed(2)} Mb/s` : `${(v / 1e3).toFixed(0)} kb/s`;
const percent = (v) => v === null || v === undefined ? "–" : `${(v * 100).toFixed(v && v < 0.1 ? 2 : 1)} %`;

/** The overlay's rows: [label, value, whether it is worth a look]. */
function rows(s, video) {
  const all = [];
  if (s.latency.median !== null) all.push(["latency", `${ms(s.latency.median)}  p95 ${ms(s.latency.p95)}${s.latency.source === "picture" ? "  (clock in the picture)" : ""}`, s.latency.median > 500]);
  else all.push(["latency", "the publisher tells no capture times"]);
  const v = s.video;
  if (v) {
    all.push(["picture", `${v.width ?? video.videoWidth}×${v.height ?? video.videoHeight}  ${v.fps === null ? "–" : v.fps.toFixed(1)} fps`]);
    const h264 = parseProfile(v.profile);
    all.push(["video", `${v.codec ?? "–"}${h264 ? ` ${h264.profile} ${h264.level}` : ""}  ${bits(v.bitrate)}`]);
    all.push(["loss", `${percent(v.loss)}  ${v.packetsLost} of ${v.packets + v.packetsLost}`, v.loss > 0.01]);
    all.push(["jitter", `${ms(v.jitter)}  buffer ${ms(v.buffer)}  decode ${ms(v.decode)}`, v.jitter > 50]);
    all.push(["frames", `${v.frames} decoded  ${v.keyFrames} key  ${v.dropped} dropped  ${v.freezes} freezes`, v.freezes > 0 && v.fps < 5]);
    all.push(["repair", `${v.nacks} NACK  ${v.plis} PLI`]);
  }
  const a = s.audio;
  if (a?.packets) all.push(["audio", `${a.codec ?? "–"}${a.channels ? ` ${a.channels === 2 ? "stereo" : "mono"}` : ""}  ${bits(a.bitrate)}  loss ${percent(a.loss)}  buffer ${ms(a.buffer)}`]);
  if (s.path) all.push(["path", `${(s.path.protocol ?? "").toUpperCase()}  ${s.path.address}:${s.path.port}  RTT ${ms(s.rtt)}`, s.path.protocol === "tcp"]);
  if (s.firstFrame !== null) all.push(["start", `first picture after ${ms(s.firstFrame)}`]);
  return all;
}

export class GantryPlayerElement extends HTMLElement {
  static observedAttributes = ["src", "token", "stats", "controls"];
  #root;
  #timer = 0;
  #ticker = 0;
  #placed = false; // in a document
  #key;
  #silence = 0; // reports of statistics without any sound

  constructor() {
    super();
    this.#root = this.attachShadow({mode: "open"});
    this.#root.adoptedStyleSheets = [sheet];
    this.#root.append(template.content.cloneNode(true));
    this.video = this.#$("video");
    this.player = null;
    this.#wire();
  }

  /** Acts on a keydown event as if it were the element's own: for a page that holds nothing else. */
  handleKey(event) { this.#key(event); }

  #$(selector) { return this.#root.querySelector(selector); }

  connectedCallback() {
    this.#placed = true;
    if (this.hasAttribute("src")) this.#open();
    this.#ticker = setInterval(() => this.#countDown(), 250);
  }

  disconnectedCallback() {
    this.#placed = false;
    clearInterval(this.#ticker);
    clearTimeout(this.#timer);
    this.player?.close();
    this.player = null;
  }

  attributeChangedCallback(name, before, value) {
    if (before === value) return;
    if (name === "stats") this.#showStats(value !== null && !off(value));
    else if (name === "controls") this.#$(".stage").classList.toggle("bare", off(value));
    else if (!this.#placed) return; // connectedCallback reads them all
    else if (name === "src") this.#open();
    else if (this.player) {
      this.player.token = value ?? "";
      this.player.stop();
      this.player.play();
    }
  }

  #open() {
    this.player?.close();
    this.player = new GantryPlayer(this.video, {
      url: this.getAttribute("src"), token: this.getAttribute("token") ?? "",
      muted: !off(this.getAttribute("muted")), autoplay: !off(this.getAttribute("autoplay")),
    });
    this.player.addEventListener("state", ({detail}) => {
      this.#showState(detail);
      this.dispatchEvent(new CustomEvent("state", {detail}));
    });
    this.player.addEventListener("stats", ({detail}) => {
      this.#showFigures(detail);
      this.dispatchEvent(new CustomEvent("stats", {detail}));
    });
    this.player.addEventListener("layers", ({detail}) => {
      this.#showLayers(detail);
      this.dispatchEvent(new CustomEvent("layers", {detail}));
    });
    this.#$(".quality").hidden = true;
    this.#silence = 0;
    this.#$(".silent").hidden = true;
    this.#showState(this.player.status);
    this.#showSound();
  }

  /** Asks the relay, once, why a stream that plays has no sound, and says it. */
  async #explainSilence(stats) {
    if (stats.audio?.packets || this.player.state !== "playing") this.#$(".silent").hidden = true;
    else if (++this.#silence === 3) {
      const source = new URL(this.getAttribute("src"), location.href), token = this.getAttribute("token");
      const name = decodeURIComponent(source.pathname.replace(/^.*\/whep\//, ""));
      try {
        const answer = await fetch(new URL("/api/v1/streams", source), {headers: token ? {Authorization: `Bearer ${token}`} : {}});
        const stream = (await answer.json()).streams.find((s) => s.name === name);
        const fault = stream?.publishers.find((p) => p.active)?.faults?.find((f) => f.code === "no-transcoder");
        this.#$(".silent").textContent = fault ? `No sound: ${fault.reason}.` : "";
        this.#$(".silent").hidden = !fault;
      } catch { // it is a comfort, no more
      }
    }
  }

  #wire() {
    const stage = this.#$(".stage"), on = (selector, type, fn) => this.#$(selector).addEventListener(type, fn);
    const attempt = (promise) => promise?.catch?.(() => {}); // the browser says no, as to full screen in some frames
    const fullscreen = () => attempt(document.fullscreenElement ? document.exitFullscreen() : this.requestFullscreen?.() ?? this.video.webkitEnterFullscreen?.());
    const pip = () => attempt(document.pictureInPictureElement ? document.exitPictureInPicture() : this.video.requestPictureInPicture?.());
    const toggle = () => this.player?.state === "idle" || this.player?.state === "failed" || this.player?.state === "blocked" ? this.player.play() : this.player?.stop();
    const sound = () => this.video.muted ? this.player?.unmute() : this.player?.mute();
    const stats = () => this.toggleAttribute("stats");
    const volume = (v) => { this.video.volume = Math.min(1, Math.max(0, v)); if (v > 0 && this.video.muted) this.player?.unmute(); };
    on(".toggle", "click", toggle);
    on(".start", "click", () => this.player?.play());
    on(".mute", "click", sound);
    on(".loud", "click", () => this.player?.unmute());
    on(".info", "click", stats);
    on(".pip", "click", pip);
    on(".full", "click", fullscreen);
    on(".again", "click", () => this.player?.play());
    on(".quality", "change", (e) => { if (this.player) this.player.quality = e.target.value; });
    on(".volume", "input", (e) => volume(e.target.valueAsNumber));
    on("video", "click", () => this.player?.state === "blocked" ? this.player.play() : this.video.muted && this.player?.unmute());
    on("video", "dblclick", fullscreen);
    on("video", "volumechange", () => this.#showSound());
    on("form", "submit", (e) => {
      e.preventDefault();
      this.setAttribute("token", new FormData(e.target).get("token").trim());
    });
    if (!document.pictureInPictureEnabled) this.#$(".pip").hidden = true;
    const keys = {m: sound, i: stats, f: fullscreen, p: pip, k: toggle, ArrowUp: () => volume(this.video.volume + 0.1), ArrowDown: () => volume(this.video.volume - 0.1)};
    this.#key = (e) => {
      const target = e.composedPath()[0];
      if (e.defaultPrevented || e.ctrlKey || e.metaKey || e.altKey || target.matches?.("input, select")) return;
      const act = e.key === " " && !target.matches?.("button") ? toggle : keys[e.key.length === 1 ? e.key.toLowerCase() : e.key];
      if (!act) return;
      e.preventDefault();
      act();
      this.#awake();
    };
    this.addEventListener("keydown", this.#key);
    for (const type of ["pointermove", "pointerdown", "focusin"]) stage.addEventListener(type, () => this.#awake());
    stage.addEventListener("pointerleave", () => this.#sleep(600));
    this.tabIndex = this.tabIndex < 0 ? 0 : this.tabIndex;
  }

  #awake() {
    this.#$(".stage").classList.remove("idle");
    this.#sleep(2_600);
  }

  #sleep(after) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.player?.state === "playing") this.#$(".stage").classList.add("idle");
    }, after);
  }

  #showState({state, reason, text, help}) {
    const stage = this.#$(".stage"), well = state === "playing" || state === "idle" || state === "blocked";
    stage.classList.toggle("on", state === "playing");
    stage.classList.toggle("dim", !well);
    stage.classList.toggle("calm", state === "failed");
    const notice = this.#$(".notice");
    notice.hidden = well;
    this.#$("h2").textContent = text || (state === "connecting" ? "Connecting…" : "");
    this.#$(".help").textContent = help;
    const form = this.#$("form"), ask = reason === "token" && state === "failed";
    if (ask && form.hidden) queueMicrotask(() => this.shadowRoot.activeElement || form.querySelector("input").focus({preventScroll: true}));
    form.hidden = !ask;
    this.#$(".again").hidden = !(state === "waiting" || state === "failed" && !ask);
    this.#$(".start").hidden = !(state === "idle" || state === "blocked");
    const button = this.#$(".toggle"), idle = state === "idle" || state === "failed" || state === "blocked";
    button.innerHTML = idle ? icons.play : icons.stop;
    button.ariaLabel = idle ? "Play" : "Stop";
    button.title = `${button.ariaLabel} (space)`;
    if (state !== "playing") {
      this.#$(".latency").textContent = "";
      stage.classList.remove("idle");
    } else this.#sleep(2_600);
    this.#showSound();
    this.#countDown();
  }

  #countDown() {
    const {state, retryAt} = this.player?.status ?? {};
    const left = state === "waiting" ? Math.max(0, Math.ceil((retryAt - performance.now()) / 1000)) : 0;
    const text = left ? `Next attempt in ${left} s` : "";
    const count = this.#$(".count");
    if (count.textContent !== text) count.textContent = text;
  }

  #showSound() {
    const muted = this.video.muted, mute = this.#$(".mute");
    mute.innerHTML = muted || this.video.volume === 0 ? icons.muted : icons.sound;
    mute.ariaLabel = muted ? "Sound on" : "Sound off";
    this.#$(".volume").value = muted ? 0 : this.video.volume;
    const hasSound = this.video.srcObject?.getAudioTracks().some((t) => !t.muted) ?? false;
    this.#$(".loud").hidden = !(muted && hasSound && this.player?.state === "playing");
  }

  /** Fills the menu, which is there where there is a choice. */
  #showLayers({layers, quality}) {
    const menu = this.#$(".quality"), now = layers.find((l) => l.current);
    const name = (l) => l.height ? `${l.height}p` : l.rid;
    const twice = new Set(layers.map(name)).size < layers.length;
    const options = [["", now && !quality ? `Auto (${name(now)})` : "Auto", true],
      ...layers.map((l) => [l.rid, `${name(l)}${twice ? ` ${l.rid}` : ""}  ${l.bitrate ? bits(l.bitrate) : "paused"}`, Boolean(l.bitrate)])];
    menu.hidden = layers.length < 2;
    if (this.shadowRoot.activeElement === menu && menu.length === options.length) { // an open menu is not built anew
      options.forEach(([, text], i) => { menu.options[i].text = text; });
      return;
    }
    menu.replaceChildren(...options.map(([value, text, on]) => Object.assign(new Option(text, value), {disabled: !on && value !== quality})));
    menu.value = quality;
  }

  #showStats(shown) {
    this.#$(".stats").hidden = !shown;
    this.#$(".info").ariaPressed = String(shown);
    if (shown && this.player?.stats) this.#showFigures(this.player.stats);
  }

  #showFigures(stats) {
    this.#showSound();
    this.#explainSilence(stats);
    this.#$(".latency").textContent = stats.latency.median === null ? "" : ms(stats.latency.median);
    const list = this.#$(".stats");
    if (list.hidden) return;
    const nodes = rows(stats, this.video).flatMap(([label, value, warn]) => {
      const dt = document.createElement("dt"), dd = document.createElement("dd");
      dt.textContent = label;
      dd.textContent = value;
      dd.classList.toggle("warn", Boolean(warn));
      return [dt, dd];
    });
    list.replaceChildren(...nodes);
  }
}

if (!customElements.get("gantry-player")) customElements.define("gantry-player", GantryPlayerElement);
