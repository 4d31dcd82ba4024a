/**
 * The three ways from a microphone to the gateway. Each takes a MediaStream and says how it goes by `onState`
 * ("connecting", "live", "reconnecting", "ended", "failed", and words); each gives a `stop` that returns when all is sent.
 */

import { Sender } from "./sender.js";
import { token, withToken } from "./token.js";

const PCM_RATE_HZ = 16_000;
const OPUS_RATE_HZ = 48_000;
const CHUNK_MS = 100;
const CONNECT_MS = 15_000;

/** What can go wrong with words for people. */
export class Failed extends Error {}

/** Opus over UDP: an offer over HTTP, candidates as they are found (RFC 9725, WHIP). */
export async function overWebRtc(stream, { places, callId, leg, metadata, onState }) {
  onState("connecting", "asking the gateway");
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  const connection = new RTCPeerConnection({ iceServers: await iceServers(places.webrtc, headers) });
  let session = null;
  const early = []; // candidates found before there was an answer
  const trickle = async (candidate) => {
    if (session === null) return early.push(candidate);
    const lines = [`a=mid:${candidate?.sdpMid ?? "0"}`, candidate ? `a=${candidate.candidate}` : "a=end-of-candidates"];
    const body = `${lines.join("\r\n")}\r\n`;
    await fetch(session, { method: "PATCH", body, headers: { ...headers, "Content-Type": "application/trickle-ice-sdpfrag" } });
  };
  connection.onicecandidate = ({ candidate }) => (candidate?.candidate !== "" ? trickle(candidate) : null);
  const impatience = setTimeout(() => onState("failed", "no connection to the gateway: UDP may be blocked"), CONNECT_MS);
  connection.onconnectionstatechange = () => {
    clearTimeout(impatience);
    if (connection.connectionState === "connected") onState("live", "live");
    if (connection.connectionState === "failed") onState("failed", "the connection was lost");
    if (connection.connectionState === "disconnected") onState("reconnecting", "the network is gone; waiting for it");
  };
  connection.addTransceiver(stream.getAudioTracks()[0], { direction: "sendonly", streams: [stream] });
  await connection.setLocalDescription();
  const query = new URLSearchParams({ call_id: callId, leg });
  for (const [name, value] of Object.entries(metadata)) query.set(`metadata.${name}`, value);
  const answer = await fetch(`${places.webrtc}?${query}`, {
    method: "POST",
    body: connection.localDescription.sdp,
    headers: { ...headers, "Content-Type": "application/sdp" },
  });
  if (answer.status !== 201) {
    clearTimeout(impatience);
    connection.close();
    throw new Failed(await reasonOf(answer));
  }
  session = new URL(answer.headers.get("Location"), places.webrtc).href;
  await connection.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  for (const candidate of early.splice(0)) await trickle(candidate);
  return {
    async stop() {
      clearTimeout(impatience);
      connection.onconnectionstatechange = null;
      const answer = await fetch(session, { method: "DELETE", headers });
      connection.close();
      if (!answer.ok) throw new Failed(await reasonOf(answer));
    },
  };
}

async function iceServers(url, headers) {
  const answer = await fetch(url, { method: "OPTIONS", headers });
  if (!answer.ok) throw new Failed(await reasonOf(answer));
  const links = answer.headers.get("Link") ?? "";
  return [...links.matchAll(/<([^>]+)>; rel="ice-server"(?:; username="([^"]*)"; credential="([^"]*)")?/g)].map(
    ([, urls, username, credential]) => (username === undefined ? { urls } : { urls, username, credential }),
  );
}

async function reasonOf(answer) {
  const text = await answer.text();
  try {
    return JSON.parse(text).message;
  } catch {
    return text.trim() || `the gateway answered ${answer.status}`;
  }
}

/** Samples, 16 kHz, over a WebSocket that comes back after every loss. */
export async function overWorklet(stream, { places, callId, leg, metadata, onState }) {
  const sender = new Sender({
    url: places.stream,
    hello: { call_id: callId, leg, encoding: "s16le", rate_hz: PCM_RATE_HZ, metadata },
    onState: (state, detail) => onState(state === "refused" ? "failed" : state, detail),
  });
  const context = new AudioContext({ sampleRate: PCM_RATE_HZ }); // the browser converts
  await context.audioWorklet.addModule("/pcm-worklet.js");
  const source = context.createMediaStreamSource(stream);
  const pcm = new AudioWorkletNode(context, "pcm", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
  pcm.port.onmessage = ({ data }) => sender.send(data);
  sender.open();
  source.connect(pcm);
  return {
    async stop() {
      pcm.port.onmessage = null;
      await context.close();
      await sender.end();
    },
  };
}

/** What the browser's own recorder writes, Opus in WebM (or Ogg), chunk by chunk over a WebSocket. */
export async function overRecorder(stream, { places, callId, leg, metadata, onState }) {
  const [mimeType, encoding] = [
    ["audio/webm;codecs=opus", "webm-opus"],
    ["audio/ogg;codecs=opus", "ogg-opus"],
  ].find(([type]) => MediaRecorder.isTypeSupported(type)) ?? [null, null];
  if (mimeType === null) throw new Failed("this browser records no Opus in WebM or Ogg");
  onState("connecting", "connecting");
  const socket = new WebSocket(withToken(places.stream));
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = () => reject(new Failed("the gateway does not answer"));
  });
  const recorder = new MediaRecorder(stream, { mimeType, audioBitsPerSecond: 64_000 });
  let problem = null;
  const ended = new Promise((resolve) => {
    socket.onclose = (event) => {
      if (recorder.state !== "inactive") recorder.stop();
      if (event.code !== 1000) onState("failed", problem ?? event.reason ?? "the connection was lost");
      resolve();
    };
  });
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "ready") onState("live", "live");
    if (message.type === "error") problem = message.message;
  };
  socket.send(JSON.stringify({ type: "hello", call_id: callId, leg, encoding, rate_hz: OPUS_RATE_HZ, metadata }));
  recorder.ondataavailable = ({ data }) => socket.readyState === WebSocket.OPEN && data.size && socket.send(data);
  recorder.start(CHUNK_MS);
  return {
    async stop() {
      if (recorder.state !== "inactive") {
        const stopped = new Promise((resolve) => (recorder.onstop = resolve));
        recorder.stop(); // the last chunk comes before `stop` is told
        await stopped;
      }
      if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "end" }));
      await ended;
    },
  };
}
