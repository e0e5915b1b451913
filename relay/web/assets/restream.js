// Where streams are sent on to: /api/v1/restream, asked again every two seconds, and changed by the buttons and the form. The token
// stays in this tab's memory. All text goes in as text, never as markup: reasons come from other servers.

const $ = (id) => document.getElementById(id);
let token = sessionStorage.getItem("publish-token") ?? "";

function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) node.setAttribute(key, value);
  node.append(...children.filter((c) => c !== null));
  return node;
}

const bytes = (v) => v >= 1e9 ? `${(v / 1e9).toFixed(2)} GB` : v >= 1e6 ? `${(v / 1e6).toFixed(1)} MB` : `${Math.round(v / 1e3)} kB`;
const address = (stream) => `/api/v1/streams/${stream.split("/").map(encodeURIComponent).join("/")}/restream`;

function trouble(text) {
  $("trouble").hidden = !text;
  $("trouble").textContent = text;
}

/** Asks the relay; null where it wants another token. */
async function ask(method, path, body) {
  const headers = token ? {Authorization: `Bearer ${token}`} : {};
  if (method !== "GET") headers["Content-Type"] = "application/json";
  const response = await fetch(path, {method, headers, body: body && JSON.stringify(body), cache: "no-store", signal: AbortSignal.timeout(10_000)});
  if (response.status === 401) {
    $("wrong").hidden = !token;
    $("ask").hidden = false;
    $("add").hidden = true;
    $("streams").replaceChildren();
    return null;
  }
  if (!response.ok) throw new Error((await response.json().catch(() => ({}))).detail ?? `the relay answered ${response.status}`);
  $("ask").hidden = true;
  return response.status === 200 ? response.json() : {};
}

function change(method, path, body) {
  return ask(method, path, body).then(() => (trouble(""), refresh()), (e) => trouble(e.message));
}

function destination(d) {
  const stopped = d.state === "stopped";
  const path = `${address(d.stream)}/${encodeURIComponent(d.name)}`;
  const steer = el("button", {type: "button", "data-key": `${path} steer`}, stopped ? "Start" : "Stop");
  steer.onclick = () => change("POST", `${path}/${stopped ? "start" : "stop"}`, {});
  const remove = el("button", {type: "button", class: "plain", "data-key": `${path} remove`}, "Remove");
  remove.onclick = () => confirm(`Send ${d.stream} to ${d.name} no more?`) && change("DELETE", path);
  return el("div", {class: `publisher active destination ${d.state}`},
    el("p", {class: "from"}, el("span", {class: "state"}, d.state), ` ${d.name} `, el("span", {class: "tag"}, d.to), d.fixed ? el("span", {class: "tag"}, "of the configuration") : null),
    el("p", {class: "note"}, `since ${new Date(d.since).toLocaleTimeString()}${d.bytes ? ` · ${bytes(d.bytes)} sent` : ""}`),
    d.reason ? el("p", {class: "fault"}, d.reason) : null,
    el("nav", {}, steer, remove));
}

let shown = "";
function show(list) {
  const text = JSON.stringify(list);
  if (text === shown) return;
  shown = text;
  const streams = Map.groupBy(list, (d) => d.stream);
  const focused = document.activeElement?.dataset?.key;
  $("streams").replaceChildren(...[...streams].map(([stream, all]) => el("article", {},
    el("header", {}, el("h2", {}, stream)), ...all.map(destination))));
  if (focused) document.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  const sending = list.filter((d) => d.state === "sending").length;
  $("summary").textContent = list.length ? `${sending} of ${list.length} sending` : "Nothing is sent on";
}

async function refresh() {
  const list = await ask("GET", "/api/v1/restream");
  if (!list) return;
  $("add").hidden = false;
  show(list);
}

async function streams() {
  const answer = await ask("GET", "/api/v1/streams");
  $("live").replaceChildren(...(answer?.streams ?? []).map((s) => el("option", {value: s.name})));
}

$("ask").addEventListener("submit", (e) => {
  e.preventDefault();
  token = e.target.elements.token.value.trim();
  sessionStorage.setItem("publish-token", token);
  refresh().catch((e) => trouble(e.message));
});
$("add").addEventListener("submit", (e) => {
  e.preventDefault();
  const {stream, name, url, token: whip} = e.target.elements;
  change("POST", address(stream.value), {name: name.value, url: url.value, token: whip.value}).then(() => {
    if ($("trouble").hidden) e.target.reset();
  });
});
$("add").elements.stream.addEventListener("focus", () => streams().catch(() => {}));

for (;;) {
  if (!document.hidden && $("ask").hidden) await refresh().catch((e) => trouble(`The relay does not answer (${e.message}). Trying again.`));
  await new Promise((resolve) => setTimeout(resolve, 2_000));
}
