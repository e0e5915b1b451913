// Shows what /api/v1/events says. All text goes in as text, never as markup: names and reasons come from outside.
const $ = (selector) => document.querySelector(selector);

function element(name, text, className) {
  const e = document.createElement(name);
  e.textContent = text;
  if (className) e.className = className;
  return e;
}

const bits = (v) => (v >= 1e6 ? `${(v / 1e6).toFixed(2)} Mbit/s` : `${Math.round(v / 1e3)} kbit/s`);
const count = (v) => v.toLocaleString("en");

function ago(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

function state(section, text, className) {
  const p = $(`#${section} .state`);
  p.textContent = text;
  p.className = `state ${className}`;
}

function facts(section, list) {
  $(`#${section} dl`).replaceChildren(...list.filter(([, v]) => v).flatMap(([k, v]) => [element("dt", k), element("dd", v)]));
}

function showVideo(v) {
  state("video", v.signal ? "Signal" : v.reason || "No picture yet", v.signal ? "good" : "bad");
  facts("video", [["Source", v.name], ["Format", v.format], ["Comes as", v.codec && v.codec + (v.b_frames ? " with B-frames" : "") + (v.decoding ? ", decoded" : "")], ["Measured", v.rate && `${v.rate.toFixed(1)} pictures/s`],
    ["Pictures", count(v.frames)], ["Slate", v.slates && count(v.slates)], ["Lost", v.dropped && count(v.dropped)]]);
}

// took says how much of the time between two pictures one is in the encoder.
const took = (e) => e.took && e.rate && `${(e.took * 1000).toFixed(1)} ms of ${(1000 / e.rate).toFixed(0)} ms a picture`;

function showRenditions(main, list, s) {
  const section = $("#renditions");
  section.hidden = !list.length;
  section.querySelector("tbody").replaceChildren(...[main, ...list].map((e) => {
    const row = document.createElement("tr");
    row.className = e.name ? "" : "bad";
    row.append(element("th", e.rendition || "main"), element("td", e.name ? `${e.codec} ${e.width}x${e.height}` : e.reason || "waiting"),
      element("td", e.name && `${bits(e.bitrate)} of ${bits(e.target)}`), element("td", e.rate && `${e.rate.toFixed(1)}/s`), element("td", took(e) || ""),
      element("td", e.name || ""));
    return row;
  }));
  facts("renditions", [["Processors", s.cpus && `${s.cpu.toFixed(2)} of ${s.cpus} busy`]]);
}

function showEncoder(e) {
  state("encoder", e.name ? `${e.codec} with ${e.name}` : e.reason || "Waiting for a picture", e.name ? "good" : e.reason ? "bad" : "warn");
  const meter = $("#bitrate");
  meter.max = Math.max(e.ceiling, e.bitrate, 1);
  meter.value = e.bitrate;
  meter.textContent = bits(e.bitrate);
  meter.parentElement.hidden = !e.name;
  facts("encoder", [["Bitrate", e.name && bits(e.bitrate)], ["Target", e.name && `${bits(e.target)} of ${bits(e.ceiling)}`],
    ["Size", e.width && `${e.width}x${e.height}`], ["Measured", e.rate && `${e.rate.toFixed(1)} pictures/s`], ["In the encoder", took(e)],
    ["Key frames", count(e.key_frames)]]);
}

// meters writes each channel's peak in dBFS.
function meters(levels) {
  const peaks = (levels || []).map((l) => l.peak <= -120 ? "silent" : l.peak.toFixed(1) + " dBFS");
  return peaks.join(" · ");
}

function showAudio(a) {
  state("audio", !a.name ? "None" : a.reason || (!a.bitrate ? "Waiting" : a.passed ? "Passed through" : "Signal"), !a.name ? "" : a.reason ? "bad" : a.bitrate ? "good" : "warn");
  facts("audio", a.name ? [["Source", a.name], ["Format", a.format], [a.passed ? "Sent as" : "Codec", a.codec], ["Bitrate", a.bitrate && bits(a.bitrate)],
    ["Input level", meters(a.inputs)], ["Output level", meters(a.outputs)], ["Clock drift", a.drift && a.drift.toFixed(1) + " ppm"],
    ["Silence", a.silence && a.silence.toFixed(1) + " s"], ["Overruns", a.overruns]] : []);
}

function steerButton(name, stopped) {
  const button = element("button", stopped ? "Start" : "Stop");
  button.type = "button";
  button.setAttribute("aria-label", `${button.textContent} ${name}`);
  button.dataset.steer = `${encodeURIComponent(name)}/${stopped ? "start" : "stop"}`;
  return button;
}

// The list is drawn anew each second, so the click is taken where it stays: a button may be gone between down and up.
$("#uplinks .list").addEventListener("pointerdown", (e) => e.button === 0 && steer(e.target));
$("#uplinks .list").addEventListener("keydown", (e) => {
  if (e.key === "Enter" || e.key === " ") steer(e.target);
});

function steer(target) {
  const path = target.dataset?.steer;
  if (path) void fetch(`api/v1/uplinks/${path}`, { method: "POST" });
}

function showUplink(u, now) {
  const box = document.createElement("div");
  const since = ago((now - Date.parse(u.since)) / 1000);
  const words = { connected: `on the air for ${since}`, connecting: `connecting for ${since}`, waiting: "not connected",
    stopped: "stopped", standby: `ready to stand in for ${u.backup_of}` }[u.state] || u.state;
  const colour = { connected: "good", connecting: "warn", stopped: "", standby: "" }[u.state] ?? (u.reason ? "bad" : "warn");
  const line = element("p", `${u.name}: ${words}`, `state ${colour}`);
  line.append(" ", steerButton(u.name, u.state === "stopped"));
  box.append(line);
  const dl = document.createElement("dl");
  const wait = u.next && (Date.parse(u.next) - now) / 1000;
  for (const [k, v] of [["Why", u.reason], ["Next try", wait > 0 && `in ${ago(wait)}`], ["Stands in for", u.state !== "standby" && u.backup_of],
    ["To", u.sent.remote], ["Receivers", u.sent.peers > 1 && count(u.sent.peers)], ["Coded as", u.codecs], ["Pictures", u.codecs && u.pictures],
    ["Layers", u.layers?.length > 1 && u.layers.map((l) => (u.paused?.includes(l) ? `${l} (paused: no room)` : l)).join(", ")], ["Sent", u.bitrate && bits(u.bitrate)],
    ["Path carries", u.carries && bits(u.carries)], ["Round trip", u.sent.rtt && `${Math.round(u.sent.rtt * 1000)} ms`],
    ...(u.sent.paths ?? []).map((p) => [`By ${p.name}`, p.connected ? `${Math.round(p.rtt * 1000)} ms, ${(p.loss * 100).toFixed(1)} % lost` : "down"]),
    ["Lost on the way", u.sent.loss > 0.001 && `${(u.sent.loss * 100).toFixed(1)} %`], ["Sent again", u.sent.retransmitted && count(u.sent.retransmitted)],
    ["Dropped packets", (u.dropped + u.sent.dropped) && count(u.dropped + u.sent.dropped)]]) {
    if (v) dl.append(element("dt", k), element("dd", v));
  }
  box.append(dl);
  return box;
}

const names = {
  "no-signal": "No signal", "source-down": "The input does not work", "source-rate": "The input gives another number of pictures than it says",
  "source-warning": "The input needs a look", "encoder-down": "The encoder does not work",
  "source-b-frames": "The camera sends B-frames", "decoder-down": "The input's pictures cannot be decoded",
  "encoder-slow": "The encoder is too slow", "encoder-hung": "An encoder hangs",
  "audio-down": "The sound input does not work", "audio-mix": "The sound cannot be mixed as configured", "uplink-down": "A destination cannot be reached",
  "uplink-refused": "A destination refuses the stream", "uplink-silent": "A destination gets no sound", "uplink-warning": "A destination needs a look", "config-bad": "The configuration file has errors and is not in use",
};

function show(s) {
  const now = Date.parse(s.time);
  $("#health").replaceChildren(...s.health.map((c) => {
    const li = element("li", "", c.severity);
    li.append(element("b", (names[c.code] || c.code) + (c.subject ? `: ${c.subject}` : "")),
      element("span", `${c.reason} (for ${ago((now - Date.parse(c.since)) / 1000)})`));
    return li;
  }));
  showVideo(s.video);
  showEncoder(s.encoder);
  showRenditions(s.encoder, s.renditions || [], s);
  showAudio(s.audio);
  const focused = document.activeElement?.dataset?.steer?.split("/")[0];
  $("#uplinks .list").replaceChildren(...(s.uplinks.length ? s.uplinks.map((u) => showUplink(u, now))
    : [element("p", "The configuration names none: nothing is sent.", "state warn")]));
  if (focused) $(`#uplinks [data-steer^="${focused}/"]`)?.focus();
  const live = s.uplinks.filter((u) => u.state === "connected").length;
  const summary = $("#summary");
  summary.textContent = live ? `On the air to ${live} of ${s.uplinks.length}` : "Off the air";
  summary.className = live === 0 || s.health.some((c) => c.severity !== "degraded") ? (live ? "warn" : "bad") : "good";
  document.title = `${summary.textContent} · Gantry`;
  $("#version").textContent = `Version ${s.version}`;
  $("#uptime").textContent = `Up ${ago(s.uptime)}`;
}

// EventSource connects again by itself, except after an HTTP error: then this does.
function watch() {
  const events = new EventSource("api/v1/events");
  events.onmessage = (e) => show(JSON.parse(e.data));
  events.onerror = () => {
    const summary = $("#summary");
    summary.textContent = "The box does not answer; trying again";
    summary.className = "bad";
    if (events.readyState === EventSource.CLOSED) setTimeout(watch, 3000);
  };
}
watch();
