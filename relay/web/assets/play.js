// The player page, /play/{stream}. Parameters of its address: token, muted, controls, autoplay (0 turns them off) and
// stats (1 shows the overlay).

import "/gantry-player/element.js";

const stream = location.pathname.replace(/^\/play\//, "");
const parameters = new URLSearchParams(location.search);
const element = document.querySelector("#player");
const off = (value) => value === "0" || value === "false";

for (const name of ["muted", "controls", "autoplay", "token"]) {
  if (parameters.has(name)) element.setAttribute(name, parameters.get(name));
}
if (parameters.has("stats") && !off(parameters.get("stats"))) element.setAttribute("stats", "");
element.setAttribute("src", `/whep/${stream}`);
document.title = `${decodeURIComponent(stream)} · Gantry`;

// The page holds nothing else, so keys are the player's wherever the focus is.
document.addEventListener("keydown", (e) => element.handleKey(e));
