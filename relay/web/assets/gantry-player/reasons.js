// Why nothing plays, in words: what is wrong, and what to do about it. `stream` is the stream's name, `detail` what the
// relay or the browser said, `addresses` where the relay's media should come from.

const words = {
  "not-live": ({stream}) => [`“${stream}” is not live yet.`, "The picture starts by itself as soon as somebody publishes it."],
  "token": ({token}) => token
    ? ["The relay does not accept this play token.", "Check it for missing characters, or ask whoever runs the relay for a new one."]
    : ["This relay asks for a play token.", "Enter it here, or put it in the address: ?token=…"],
  "unreachable": ({host, detail}) => [`The relay at ${host} does not answer.`, `Is it running, and is the address right? ${detail}`],
  "offline": () => ["This computer is offline.", "The picture returns when the network does."],
  "mixed-content": ({host}) => ["An https page may not play from an http relay.", `Serve the relay at ${host} over https (--tls-cert, --tls-key), or open this page over http.`],
  "no-route": ({addresses}) => ["The relay answers, but its picture cannot get through.",
    addresses.length
      ? `No media from ${addresses.slice(0, 4).join(", ")}. A firewall between here and there must let it pass; if the address is not one that you can reach, the relay needs --public-address.`
      : "The relay named no address for its media: start it with --public-address."],
  "lost": () => ["The connection to the relay was lost.", "Trying to get it back."],
  "quiet": () => ["Nothing is arriving.", "Finding out whether the network or the publisher has stopped."],
  "stalled": () => ["The publisher has stopped sending.", "The picture goes on when it sends again."],
  "silent": () => ["Connected, but no picture has come yet.", "The publisher may be starting up, or sends nothing."],
  "undecodable": ({codec}) => ["The picture arrives, but this browser cannot decode it.",
    `${codec ? `It is coded in ${codec}. ` : ""}Try another browser, or let the publisher send H.264 without B-frames.`],
  "codec": ({detail}) => ["This browser cannot decode the stream.",
    `${detail ? `The relay says: ${detail}. ` : ""}Chrome, Edge and Safari play H.264; some browsers need an H.264 plug-in to be installed.`],
  "busy": ({detail}) => ["The relay has no room for another viewer now.", detail || "It asks to try again later."],
  "relay-error": ({status, detail}) => [`The relay has a fault (${status}).`, detail || "Its log says more."],
  "refused": ({status, detail}) => [`The relay refused the request (${status}).`, detail],
  "bad-answer": ({detail}) => ["The relay's answer makes no sense to this browser.", detail],
  "autoplay-blocked": () => ["The browser waits for a click before it plays.", "Click the picture."],
  "no-webrtc": () => ["This browser has no WebRTC.", "It is too old, or WebRTC is turned off in its settings."],
  "bad-address": ({detail}) => ["This is no address of a stream.", detail],
  "internal": ({detail}) => ["The player has hit an error of its own.", detail],
};

/** Returns {text, help} for a reason. */
export function explain(reason, about) {
  const [text, help] = (words[reason] ?? words.internal)({stream: "", detail: "", addresses: [], host: "", codec: "", token: "", ...about});
  return {text, help: (help ?? "").trim()};
}

/** Reasons that trying again does not cure: something must be changed first. */
export const final = new Set(["token", "no-webrtc", "bad-address", "mixed-content"]);
