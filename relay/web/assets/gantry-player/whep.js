// One WHEP session (draft-ietf-wish-whep): the HTTP requests and the peer connection between a relay and this page.
// It opens, trickles, restarts and ends; when to do which is the player's business (../gantry-player.js).

const captureTime = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
const relEvents = "urn:ietf:params:whep:ext:core:server-sent-events";
const relLayer = "urn:ietf:params:whep:ext:core:layer";
const pollEvery = 5_000; // ms between looks at the relay's events where they cannot be kept waiting for
const requestLimit = 10_000; // ms that the relay has to answer a request

/** Why a session could not be opened, or ended. `reason` is a key of reasons.js. */
export class WhepError extends Error {
  constructor(reason, detail = "", {status = 0, retryAfter = 0} = {}) {
    super(detail || reason);
    this.name = "WhepError";
    this.reason = reason;
    this.detail = detail;
    this.status = status;
    this.retryAfter = retryAfter; // ms; the relay asks to wait so long
  }
}

export class WhepSession extends EventTarget {
  #options;
  #abort = new AbortController();
  #location = null;
  #etag = null;
  #trickle = true; // until the relay refuses it
  #waiting = []; // candidates that were not sent yet
  #sending = Promise.resolve();
  #counterOffer = false;
  #connectedOnce = false;
  #extensions = new Map(); // relation → URL

  /** `url` is the WHEP endpoint, `token` a bearer token or "". Events: "change" when the connection's state changes,
   *  "relay" with {event, data} of what the relay tells, after listen(). */
  constructor({url, token = "", iceServers = []}) {
    super();
    this.#options = {url: new URL(url, document.baseURI), token};
    this.iceServers = iceServers;
    this.stream = new MediaStream();
    this.pc = null;
  }

  /** The addresses at which the relay says its media can be reached, for instance "192.0.2.7:8189 udp". */
  get addresses() {
    const sdp = this.pc?.remoteDescription?.sdp ?? "";
    const found = [...sdp.matchAll(/^a=candidate:\S+ 1 (\S+) \d+ (\S+) (\d+) typ/gm)];
    return [...new Set(found.map(([, protocol, host, port]) => `${host.includes(":") ? `[${host}]` : host}:${port} ${protocol.toLowerCase()}`))];
  }

  /** The codec that the relay sends pictures in, as both sides agreed: "H264". */
  get videoCodec() { return this.pc?.remoteDescription?.sdp.match(/^m=video [\s\S]*?^a=rtpmap:\d+ ([^/\s]+)/m)?.[1] ?? ""; }

  get connected() { return this.pc?.connectionState === "connected"; }
  /** True once the relay has ended the session (a DTLS close_notify). */
  get ended() { return this.pc?.getReceivers().some((r) => r.transport?.state === "closed") ?? false; }
  get wasConnected() { return this.#connectedOnce; }

  /** Asks the relay for the stream. Resolves when both sides have described themselves; media follows. */
  async open() {
    this.#newConnection();
    for (const kind of ["video", "audio"]) {
      const transceiver = this.pc.addTransceiver(kind, {direction: "recvonly"});
      // Where the browser has no such method, mungeOffer says it in the SDP.
      const extensions = transceiver.getHeaderExtensionsToNegotiate?.() ?? [];
      for (const e of extensions) if (e.uri === captureTime) e.direction = "sendrecv";
      if (extensions.length) try { transceiver.setHeaderExtensionsToNegotiate(extensions); } catch { /* mungeOffer does it */ }
    }
    const offer = mungeOffer(await this.pc.createOffer());
    const response = await this.#request("POST", this.#options.url, "application/sdp", offer.sdp);
    const sdp = await response.text();
    if (response.status === 406 && isSDP(response)) return this.#accept(response, sdp);
    if (response.status !== 201) throw await refusal(response, sdp);
    this.#adopt(response);
    // Gathering begins with the local description: only now are the relay's STUN and TURN servers known.
    await this.pc.setLocalDescription(offer);
    try {
      await this.pc.setRemoteDescription({type: "answer", sdp});
    } catch (e) {
      throw new WhepError("bad-answer", e.message);
    }
    this.#receivers();
    this.#sendSoon();
  }

  /** Answers the relay's own offer, which it makes where it cannot take ours. */
  async #accept(response, sdp) {
    this.#adopt(response);
    this.#counterOffer = true;
    this.pc.close();
    this.#newConnection();
    await this.pc.setRemoteDescription({type: "offer", sdp});
    const answer = mungeAnswer(await this.pc.createAnswer());
    const sections = (text) => text.split(/^(?=m=)/m).slice(1);
    const refused = sections(answer.sdp).map((s) => /^m=\w+ 0 /.test(s) || /^a=inactive/m.test(s));
    const video = sections(sdp).findIndex((s) => s.startsWith("m=video"));
    if (refused.every(Boolean) || refused[video]) {
      const codecs = [...(sections(sdp)[Math.max(video, 0)] ?? "").matchAll(/^a=rtpmap:\d+ ([^/\s]+)/gm)].map((m) => m[1]);
      throw new WhepError("codec", [...new Set(codecs)].filter((c) => !/^(rtx|red|ulpfec|flexfec-03)$/i.test(c)).join(", "));
    }
    await this.pc.setLocalDescription(answer);
    const reply = await this.#request("PATCH", this.#location, "application/sdp", answer.sdp, {"If-Match": this.#etag});
    if (!reply.ok) throw await refusal(reply, await reply.text());
    this.#receivers();
    this.#sendSoon();
  }

  /** Moves the session to another path (RFC 9725 §4.3.3). The present path stays in use until the new one stands. */
  async restart() {
    if (this.#counterOffer) throw new WhepError("lost", "the relay made the offer");
    const offer = mungeOffer(await this.pc.createOffer({iceRestart: true}));
    const {ufrag, pwd} = credentials(offer.sdp);
    const body = fragment(ufrag, pwd, offer.sdp, []);
    const response = await this.#request("PATCH", this.#location, "application/trickle-ice-sdpfrag", body, {"If-Match": "*"});
    const text = await response.text();
    if (response.status !== 200) throw await refusal(response, text);
    this.#etag = response.headers.get("ETag");
    this.#waiting = [];
    const remote = this.pc.remoteDescription.sdp;
    await this.pc.setLocalDescription(offer);
    await this.pc.setRemoteDescription({type: "answer", sdp: withFragment(remote, text)});
    this.#sendSoon();
  }

  /** Asks whether the relay still knows the session, by a PATCH that changes nothing. Throws "lost" when it does not. */
  async probe() {
    if (!this.#location || !this.#trickle) return;
    const {ufrag, pwd} = credentials(this.pc.localDescription.sdp);
    const body = fragment(ufrag, pwd, this.pc.localDescription.sdp, [null]);
    const headers = this.#etag ? {"If-Match": this.#etag} : {};
    const response = await this.#request("PATCH", this.#location, "application/trickle-ice-sdpfrag", body, headers);
    if (response.status === 404 || response.status === 410) throw new WhepError("lost", "the relay has ended the session");
  }

  /** Whether the relay has layers to choose from. */
  get selects() { return this.#extensions.has(relLayer); }

  /** Asks for a layer: {rid}, {maxWidth} or {maxHeight}; {} leaves it to the relay. */
  async select(layer) {
    if (!this.selects) return;
    const response = await this.#request("POST", this.#extensions.get(relLayer), "application/json", JSON.stringify(layer));
    if (!response.ok) throw await refusal(response, await response.text());
  }

  /** Takes the relay's events (layers, active, inactive, viewercount, reconnect) until the session ends. */
  async listen() {
    const at = this.#extensions.get(relEvents);
    if (!at) return;
    const headers = this.#options.token ? {Authorization: `Bearer ${this.#options.token}`} : {};
    const signal = this.#abort.signal;
    try {
      const made = await this.#request("POST", at, "application/json", JSON.stringify(["layers", "active", "inactive", "viewercount", "reconnect"]));
      if (made.status !== 201) return;
      const url = new URL(made.headers.get("Location"), made.url);
      // Without HTTP/2 a browser has six connections to a host, for all its pages: none may be held.
      const hold = /^h[23]/.test(performance.getEntriesByName(made.url).at(-1)?.nextHopProtocol ?? "");
      if (!hold) url.searchParams.set("once", "1");
      while (!signal.aborted) {
        const response = await fetch(url, {headers, signal, cache: "no-store"});
        if (!response.ok) return;
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        for (let rest = ""; ;) {
          const {value, done} = await reader.read();
          if (done) break;
          const blocks = (rest + value).split("\n\n");
          rest = blocks.pop();
          for (const block of blocks) this.#tell(block);
        }
        await new Promise((resolve) => setTimeout(resolve, hold ? 1_000 : pollEvery));
      }
    } catch { /* the session ended, or plays on without events */ }
  }

  #tell(block) {
    const event = block.match(/^event: (.*)$/m)?.[1], data = block.match(/^data: (.*)$/m)?.[1];
    if (!event || !data) return;
    try {
      this.dispatchEvent(new CustomEvent("relay", {detail: {event, data: JSON.parse(data)}}));
    } catch { /* no event of ours */ }
  }

  /** Ends the session here and at the relay. `leaving` is for a page that is going away. */
  close(leaving = false) {
    this.#abort.abort();
    const pc = this.pc;
    if (!this.#location) return pc?.close();
    const headers = this.#options.token ? {Authorization: `Bearer ${this.#options.token}`} : {};
    // The relay would notice by itself, but later. The connection goes last, or the relay has ended the session already.
    fetch(this.#location, {method: "DELETE", headers, keepalive: leaving, signal: AbortSignal.timeout(2_000)}).catch(() => {}).finally(() => pc.close());
    this.#location = null;
  }

  #newConnection() {
    const pc = new RTCPeerConnection({bundlePolicy: "max-bundle", rtcpMuxPolicy: "require", iceServers: this.iceServers});
    pc.addEventListener("track", ({track}) => this.stream.addTrack(track));
    pc.addEventListener("connectionstatechange", () => {
      this.#connectedOnce ||= pc.connectionState === "connected";
      this.dispatchEvent(new Event("change"));
    });
    pc.addEventListener("icecandidate", ({candidate}) => {
      this.#waiting.push(candidate); // null: no more will come
      if (this.#location) this.#sendSoon();
    });
    this.pc = pc;
  }

  #receivers() {
    for (const receiver of this.pc.getReceivers()) {
      // Live: show each frame as soon as it is whole. Browsers know one or the other.
      if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
      else receiver.playoutDelayHint = 0;
    }
  }

  /** Takes from a response what the rest of the session needs. */
  #adopt(response) {
    const location = response.headers.get("Location");
    if (!location) throw new WhepError("bad-answer", "the answer has no Location header, or does not expose it to other origins");
    this.#location = new URL(location, response.url);
    this.#etag = response.headers.get("ETag");
    for (const {url, parameters} of links(response.headers.get("Link"))) {
      for (const rel of (parameters.rel ?? "").split(/\s+/)) this.#extensions.set(rel, new URL(url, response.url));
    }
    const servers = iceServers(response.headers.get("Link"));
    if (servers.length) {
      this.iceServers = [...this.iceServers, ...servers];
      this.pc.setConfiguration({...this.pc.getConfiguration(), iceServers: this.iceServers});
    }
  }

  /** Sends waiting candidates, all that come within a tenth of a second in one request (RFC 9725 §4.3.2). */
  #sendSoon() {
    if (!this.#trickle || !this.#location) return;
    this.#sending = this.#sending.then(async () => {
      await new Promise((resolve) => setTimeout(resolve, 100));
      const sdp = this.pc.localDescription?.sdp;
      if (!this.#waiting.length || !sdp || this.#abort.signal.aborted || !this.#trickle) return;
      const {ufrag, pwd} = credentials(sdp);
      const candidates = this.#waiting.filter((c) => !c || !c.usernameFragment || c.usernameFragment === ufrag);
      this.#waiting = [];
      if (!candidates.some(Boolean) && this.connected) return;
      const headers = this.#etag ? {"If-Match": this.#etag} : {};
      const response = await this.#request("PATCH", this.#location, "application/trickle-ice-sdpfrag", fragment(ufrag, pwd, sdp, candidates), headers);
      // 412: a restart has overtaken these candidates. Else the relay takes none, and finds us by our checks.
      if (response.status >= 400 && response.status !== 412) this.#trickle = false;
    }).catch(() => {}); // a lost connection shows elsewhere
  }

  async #request(method, url, type, body, headers = {}) {
    const all = {"Content-Type": type, ...headers};
    if (!all["If-Match"]) delete all["If-Match"];
    if (this.#options.token) all.Authorization = `Bearer ${this.#options.token}`;
    const timeout = new AbortController();
    const timer = setTimeout(() => timeout.abort(), requestLimit);
    const stop = () => timeout.abort();
    this.#abort.signal.addEventListener("abort", stop);
    try {
      return await fetch(url, {method, headers: all, body, signal: timeout.signal, cache: "no-store"});
    } catch (e) {
      if (this.#abort.signal.aborted) throw new WhepError("stopped");
      if (location.protocol === "https:" && url.protocol === "http:") throw new WhepError("mixed-content");
      throw new WhepError(navigator.onLine === false ? "offline" : "unreachable", timeout.signal.aborted ? "no answer in time" : e.message);
    } finally {
      clearTimeout(timer);
      this.#abort.signal.removeEventListener("abort", stop);
    }
  }
}

const isSDP = (response) => (response.headers.get("Content-Type") ?? "").startsWith("application/sdp");

/** What a refusing response means to who watches. */
async function refusal(response, body) {
  let detail = "";
  try {
    const problem = JSON.parse(body); // RFC 9457
    detail = problem.detail ?? problem.title ?? "";
  } catch {
    detail = (response.headers.get("Content-Type") ?? "").startsWith("text/plain") ? body.trim().slice(0, 200) : "";
  }
  const status = response.status;
  const header = response.headers.get("Retry-After");
  const seconds = Number(header);
  const retryAfter = header === null ? 0 : Math.max(0, Number.isFinite(seconds) ? seconds * 1000 : Date.parse(header) - Date.now() || 0);
  const reason = status === 401 || status === 403 ? "token"
    : status === 404 || status === 409 ? "not-live"
    : status === 429 || status === 503 ? "busy"
    : status === 406 || status === 422 ? "codec"
    : status >= 500 ? "relay-error" : "refused";
  return new WhepError(reason, detail, {status, retryAfter});
}

/** Asks for stereo sound and for capture times where the browser does not by itself. */
function mungeOffer({type, sdp}) {
  const sections = sdp.split(/^(?=m=)/m);
  for (let i = 1; i < sections.length; i++) {
    if (sections[i].includes(captureTime)) continue;
    // One number means one extension in all bundled sections.
    const other = sdp.match(new RegExp(`^a=extmap:(\\d+)(?:/\\w+)? ${captureTime}`, "m"));
    const taken = new Set([...sdp.matchAll(/^a=extmap:(\d+)/gm)].map((m) => Number(m[1])));
    const id = other ? Number(other[1]) : [...Array(14).keys()].map((n) => n + 1).find((n) => !taken.has(n));
    if (id) sections[i] = sections[i].replace(/^(a=mid:.*\r\n)/m, `$1a=extmap:${id} ${captureTime}\r\n`);
  }
  return mungeAnswer({type, sdp: sections.join("")});
}

function mungeAnswer({type, sdp}) {
  const opus = sdp.match(/^a=rtpmap:(\d+) opus\/48000/im)?.[1];
  if (opus) sdp = sdp.replace(new RegExp(`^(a=fmtp:${opus} (?!.*\\bstereo=).*)$`, "m"), (line) => `${line.trimEnd()};stereo=1`);
  return {type, sdp};
}

function credentials(sdp) {
  return {ufrag: sdp.match(/^a=ice-ufrag:(\S+)/m)?.[1], pwd: sdp.match(/^a=ice-pwd:(\S+)/m)?.[1]};
}

/** An application/trickle-ice-sdpfrag body (RFC 8840 §9). */
function fragment(ufrag, pwd, sdp, candidates) {
  const mid = sdp.match(/^a=mid:(\S+)/m)?.[1] ?? "0";
  const media = sdp.match(/^m=(\w+)/m)?.[1] ?? "video";
  const lines = [`a=ice-ufrag:${ufrag}`, `a=ice-pwd:${pwd}`, `m=${media} 9 UDP/TLS/RTP/SAVPF 0`, `a=mid:${mid}`];
  for (const c of candidates) if (c?.candidate) lines.push(`a=${c.candidate}`);
  if (candidates.includes(null)) lines.push("a=end-of-candidates");
  return lines.join("\r\n") + "\r\n";
}

/** The relay's description with the credentials and candidates of a fragment in place of its own. */
function withFragment(sdp, text) {
  const {ufrag, pwd} = credentials(text);
  if (!ufrag || !pwd) throw new WhepError("bad-answer", "no credentials in the answer to an ICE restart");
  const fresh = text.split(/\r?\n/).filter((l) => l.startsWith("a=candidate:")).map((l) => l + "\r\n").join("");
  const old = sdp.replace(/^a=(candidate:.*|end-of-candidates)\r?\n/gm, "")
    .replace(/^a=ice-ufrag:.*$/gm, `a=ice-ufrag:${ufrag}`).replace(/^a=ice-pwd:.*$/gm, `a=ice-pwd:${pwd}`);
  const sections = old.split(/^(?=m=)/m);
  sections[1] += fresh + "a=end-of-candidates\r\n";
  return sections.join("");
}

/** The links of a Link header (RFC 8288), as {url, parameters}. */
function links(header) {
  const all = [];
  for (const [, url, rest] of (header ?? "").matchAll(/<([^>]*)>((?:\s*;\s*[\w-]+\s*(?:=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]+))?)*)/g)) {
    const parameters = {};
    for (const [, key, quoted, plain] of rest.matchAll(/;\s*([\w-]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]+)))?/g)) {
      parameters[key.toLowerCase()] ??= quoted?.replace(/\\(.)/g, "$1") ?? plain ?? "";
    }
    all.push({url, parameters});
  }
  return all;
}

/** STUN and TURN servers of a Link header (RFC 9725 §4.6). */
export function iceServers(header) {
  const servers = [];
  for (const {url, parameters} of links(header)) {
    if (!(parameters.rel ?? "").split(/\s+/).includes("ice-server") || !/^(stuns?|turns?):/i.test(url)) continue;
    const server = {urls: url};
    if (parameters.username !== undefined) Object.assign(server, {username: parameters.username, credential: parameters.credential ?? ""});
    servers.push(server);
  }
  return servers;
}
