// Choosing the input, and looking at its picture. What the form holds goes to /api/v1/source, which answers with what is wrong.
const $ = (selector) => document.querySelector(selector);
const form = $("#source form"), said = $("#source output");
const words = { testsrc: "Test picture", v4l2: "Capture device", rtsp: "Camera on the network (RTSP)", file: "Media file, in a loop", udp: "MPEG-TS over UDP" };

function fit() {
  for (const e of form.querySelectorAll("[data-kind]")) e.hidden = !e.dataset.kind.split(" ").includes(form.kind.value);
}

const field = (name) => form.elements[name];

async function read() {
  const answer = await fetch("api/v1/source");
  if (!answer.ok) return void ($("#source").hidden = true);
  const s = await answer.json();
  form.kind.replaceChildren(...s.kinds.map((k) => new Option(words[k] || k, k)));
  form.kind.value = s.kind;
  for (const [name, value] of [["v4l2", s.v4l2], ["file", s.file], ...["url", "user", "transport"].map((k) => [`rtsp.${k}`, s.rtsp[k]]),
    ["udp.addr", s.udp.addr], ["udp.interface", s.udp.interface], ["rtsp.password", ""]]) field(name).value = value;
  form.sound.checked = s.sound;
  fit();
}

// complain puts what is wrong beside the fields that it is about, and returns the rest.
function complain(text) {
  form.querySelectorAll("label > .bad").forEach((e) => e.remove());
  form.querySelectorAll("[aria-invalid]").forEach((e) => e.removeAttribute("aria-invalid"));
  const rest = [];
  for (const line of text.split("\n")) {
    const [, key, words] = line.match(/video\.([a-z0-9]+\.[a-z]+): (.*)/) ?? [];
    const input = key && field({ "v4l2.device": "v4l2", "file.path": "file" }[key] ?? key);
    if (input) {
      const e = document.createElement("span");
      e.className = "bad";
      e.textContent = words;
      input.after(e);
      input.setAttribute("aria-invalid", "true");
    } else rest.push(line);
  }
  return rest.join("\n");
}

form.addEventListener("change", () => {
  complain("");
  said.textContent = "";
  fit();
});
form.addEventListener("submit", async (e) => {
  e.preventDefault();
  const v = (name) => field(name).value.trim();
  const body = { kind: form.kind.value, sound: form.sound.checked, v4l2: v("v4l2"), file: v("file"), udp: { addr: v("udp.addr"), interface: v("udp.interface") },
    rtsp: { url: v("rtsp.url"), user: v("rtsp.user"), password: field("rtsp.password").value, transport: v("rtsp.transport") } };
  complain("");
  said.textContent = "…";
  said.className = "";
  try {
    const answer = await fetch("api/v1/source", { method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    const wrong = answer.ok ? "" : complain((await answer.text()).trim());
    said.textContent = answer.ok ? "In use." : wrong;
    said.className = answer.ok ? "good" : "bad";
    if (answer.ok) field("rtsp.password").value = "";
  } catch (err) {
    said.textContent = `The box does not answer: ${err.message}`;
    said.className = "bad";
  }
});
$("#source").addEventListener("toggle", () => { if ($("#source").open) void read(); });

// The picture is fetched while somebody looks.
const image = new Image();
image.alt = "The newest picture";
let next = 0;
function look() {
  clearTimeout(next);
  if (!$("#picture").open) return void image.remove();
  $("#picture").append(image);
  image.src = `snapshot.jpg?width=640&t=${Date.now()}`;
}
for (const event of ["load", "error"]) image.addEventListener(event, () => { next = setTimeout(look, 2000); });
$("#picture").addEventListener("toggle", look);
