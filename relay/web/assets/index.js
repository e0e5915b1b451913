// What is on the air: /api/v1/streams, asked again every two seconds while somebody looks.

import {parseProfile} from "/gantry-player/h264.js";

const $ = (id) => document.getElementById(id);
const token = new URLSearchParams(location.search).get("token") ?? "";
const query = token ? `?token=${encodeURIComponent(token)}` : "";
const every = 2_000;

const bits = (v) => v >= 1e6 ? `${(v / 1e6).toFixed(1)} Mb/s` : `${Math.round(v / 1e3)} kb/s`;
const plural = (n, one, many) => `${n} ${n === 1 ? one : many}`;

function since(time) {
  const s = Math.max(0, (Date.now() - new Date(time)) / 1000);
  if (s < 60) return `${Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s % 86400 / 3600)} h`;
}

/** Makes an element: el("a", {href}, "text", child…). */
function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) node.setAttribute(key, value);
  node.append(...children.filter((c) => c !== null));
  return node;
}

function describe(track) {
  const parts = [];
  if (track.channels) {
    parts.push(track.codec === "opus" ? "Opus" : track.codec, track.channels === 2 ? "stereo" : track.channels === 1 ? "mono" : `${track.channels} channels`);
  } else {
    const h264 = track.codec === "H264" ? parseProfile(track.profile) : null;
    parts.push(h264 ? `H264 ${h264.profile}` : track.codec);
    if (track.width) parts.push(`${track.width}×${track.height}`);
    parts.push(`${track.rate.toFixed(track.rate % 1 > 0.05 && track.rate % 1 < 0.95 ? 1 : 0)} fps`);
    if (track.keyFrameInterval) parts.push(`key frame every ${track.keyFrameInterval.toFixed(1)} s`);
  }
  parts.push(bits(track.bitrate));
  if (track.lost) parts.push(plural(track.lost, "gap", "gaps"));
  if (track.rid) parts.push(`layer ${track.rid}`);
  return el("li", {class: track.channels ? "sound" : "picture"}, parts.join(" · "));
}

function publisher(p) {
  return el("div", {class: `publisher${p.active ? " active" : ""}`},
    el("p", {class: "from"}, `${p.protocol.toUpperCase()}${p.remote ? ` from ${p.remote}` : ""}`, p.active ? null : el("span", {class: "tag"}, "standby"),
      p.priority ? el("span", {class: "tag"}, `priority ${p.priority}`) : null),
    el("ul", {}, ...(p.tracks ?? []).map(describe)),
    ...(p.faults ?? []).map((f) => el("p", {class: "fault"}, f.reason)));
}

function card(stream) {
  const path = stream.name.split("/").map(encodeURIComponent).join("/");
  const href = `/play/${path}${query}`;
  const waiting = stream.publishers.length ? "Waiting for a key frame" : "Waiting for the publisher to return";
  return el("article", {class: stream.live ? "live" : "waiting"},
    el("header", {},
      el("span", {class: "state"}, stream.live ? "Live" : "Waiting"),
      el("h2", {}, el("a", {href}, stream.name)),
      el("span", {class: "viewers"}, plural(stream.viewers, "viewer", "viewers"))),
    el("p", {class: "when"}, stream.live ? `for ${since(stream.since)}` : waiting),
    ...stream.publishers.map(publisher),
    stream.droppedPackets ? el("p", {class: "note"}, `${plural(stream.droppedPackets, "packet", "packets")} dropped for slow viewers`) : null,
    el("nav", {}, el("a", {class: "button", href}, "Play"), el("a", {href: `/play/${path}${query ? `${query}&` : "?"}stats=1`}, "with statistics")));
}

function showPublish(answer) {
  const live = answer.streams.length > 0;
  const address = `${location.origin}/whip/demo`;
  const bearer = answer.publishTokenNeeded;
  $("publish").hidden = false;
  $("publish").classList.toggle("quiet", live);
  $("publish").querySelector("h2").textContent = live ? "Publish another" : "Nothing is on the air";
  $("whip").textContent = address;
  $("needs-token").hidden = !bearer;
  $("gantryd").textContent = `uplinks:\n  - name: relay\n    whip: {url: "${address}"${bearer ? ', token: "…"' : ""}}`;
  $("ffmpeg").textContent = `ffmpeg -re -i INPUT -c:v libx264 -profile:v baseline -bf 0 -g 60 -c:a libopus -ar 48000 -f whip${bearer ? " -authorization TOKEN" : ""} ${address}`;
  showPorts(answer.publish, bearer);
}

/** Shows the addresses of the other ports that take publishers. */
function showPorts({srt, srtPassphraseNeeded, rtmp, rtmps} = {}, tokenNeeded) {
  const host = location.hostname;
  const show = (name, lines) => {
    for (const node of document.querySelectorAll(`#publish .${name}`)) node.hidden = lines.length === 0;
    $(name).textContent = lines.join("\n");
  };
  show("srt", srt ? [`srt://${host}:${srt}?streamid=${tokenNeeded ? "publish:demo:TOKEN" : "demo"}${srtPassphraseNeeded ? "&passphrase=PASSPHRASE" : ""}`] : []);
  const path = `/live/demo${tokenNeeded ? "?token=TOKEN" : ""}`;
  show("rtmp", [...rtmp ? [`rtmp://${host}:${rtmp}${path}`] : [], ...rtmps ? [`rtmps://${host}:${rtmps}${path}`] : []]);
}

let shown = "";
function show(answer) {
  const live = answer.streams.filter((s) => s.live).length;
  $("summary").textContent = live ? `${plural(live, "stream", "streams")} on the air · ${plural(answer.streams.reduce((n, s) => n + s.viewers, 0), "viewer", "viewers")}` : "";
  $("version").textContent = `gantry-relay ${answer.version}`;
  // Only what differs is replaced, or the focus would jump away from a link every two seconds.
  const cards = answer.streams.map(card);
  const old = [...$("streams").children];
  if (cards.length !== old.length) {
    const focused = document.activeElement?.getAttribute("href");
    $("streams").replaceChildren(...cards);
    if (focused) $("streams").querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  } else cards.forEach((c, i) => {
    if (c.isEqualNode(old[i])) return;
    const focused = old[i].contains(document.activeElement) ? [...old[i].querySelectorAll("a")].indexOf(document.activeElement) : -1;
    old[i].replaceWith(c);
    if (focused >= 0) c.querySelectorAll("a")[focused]?.focus();
  });
  const publish = JSON.stringify([answer.publishTokenNeeded, answer.streams.length > 0]);
  if (publish !== shown) showPublish(answer);
  shown = publish;
}

function trouble(text) {
  $("trouble").hidden = !text;
  if ($("trouble").textContent !== text) $("trouble").textContent = text;
  document.body.classList.toggle("stale", Boolean(text));
}

async function refresh() {
  try {
    const response = await fetch("/api/v1/streams", {headers: token ? {Authorization: `Bearer ${token}`} : {}, cache: "no-store", signal: AbortSignal.timeout(10_000)});
    if (response.status === 401) {
      $("ask").hidden = false;
      $("wrong").hidden = !token;
      return trouble("");
    }
    if (!response.ok) throw new Error(`it answered ${response.status}`);
    show(await response.json());
    trouble("");
  } catch (e) {
    trouble(navigator.onLine === false ? "This computer is offline." : `The relay does not answer (${e.message}). Trying again.`);
  }
}

$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("whip").textContent);
    $("copy").textContent = "Copied";
  } catch { // no clipboard outside secure contexts
    getSelection().selectAllChildren($("whip"));
    $("copy").textContent = "Selected";
  }
  setTimeout(() => { $("copy").textContent = "Copy"; }, 1500);
});
$("json").href += query;

for (;;) {
  if (!document.hidden) await refresh();
  if (!$("ask").hidden) break;
  await new Promise((resolve) => {
    const timer = setTimeout(done, every);
    function done() {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", done);
      resolve();
    }
    document.addEventListener("visibilitychange", done);
  });
}
