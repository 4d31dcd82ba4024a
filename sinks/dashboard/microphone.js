/** The page "Try your microphone": one's own voice as a call of one leg, sent by one of three ways, and what is heard of it. */

import { Calls } from "./calls.js";
import { Card } from "./card.js";
import { Connection } from "./connection.js";
import { Latency } from "./latency.js";
import { clock, readColours } from "./strip.js";
import { overRecorder, overWebRtc, overWorklet } from "./ways.js";

const WAYS = { webrtc: overWebRtc, worklet: overWorklet, recorder: overRecorder };
const LEG = "customer"; // arousal is inferred for customers only, by default
const REDRAW_MS = 90;
const SHOWN_LINES = 40;

const element = (id) => document.getElementById(id);
const places = await (await fetch("/microphone.json")).json();
const latency = new Latency();
let calls = new Calls();
let card = null;
let colours = readColours();
let callId = null;
let microphone = null;
let sending = null;
let results = null;
let resultsLive = false;

for (const input of document.querySelectorAll("input[name=way]")) {
  input.disabled = !(input.value === "webrtc" ? places.webrtc : places.stream);
  if (input.disabled) input.closest("label").title = "The configuration of this page names no gateway for it.";
}
const possible = document.querySelector("input[name=way]:not(:disabled)");
if (possible) possible.checked = true;
else say("failed", "this page does not know where the gateway is: set CALLSCOPE_SINK__MICROPHONE__STREAM");
element("start").disabled = !possible;

const observer = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    target.row.visible = isIntersecting;
    if (isIntersecting) target.row.card.needsDrawing = true;
  }
});

function say(state, detail) {
  element("state").dataset.state = state;
  element("state-text").textContent = detail;
}

async function start() {
  const way = document.querySelector("input[name=way]:checked").value;
  setRunning(true);
  say("connecting", "asking for the microphone");
  try {
    // Echo cancellation and noise suppression would change what is analysed.
    const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    microphone = await navigator.mediaDevices.getUserMedia({ audio });
    callId = `microphone-${crypto.randomUUID().slice(0, 8)}`;
    await follow(callId);
    const metadata = { way: element(`way-${way}`).textContent.trim() };
    sending = await WAYS[way](microphone, { places, callId, leg: LEG, metadata, onState });
  } catch (error) {
    const denied = error.name === "NotAllowedError";
    release();
    say("failed", denied ? "the microphone was not allowed; the browser's address bar can allow it" : error.message);
    setRunning(false);
  }
}

function onState(state, detail) {
  say(state, state === "live" ? "your voice is being analysed" : detail);
  if (state === "failed" && sending) stop(detail);
}

async function stop(problem = null) {
  const ending = sending;
  sending = null;
  element("stop").disabled = true;
  if (problem === null) say("connecting", "sending what is left");
  try {
    await ending?.stop();
    if (problem === null) say("ended", "stopped");
  } catch (error) {
    say("failed", error.message);
  }
  release();
  setRunning(false);
}

function release() {
  for (const track of microphone?.getTracks() ?? []) track.stop();
  microphone = null;
}

function setRunning(running) {
  element("start").hidden = running;
  element("stop").hidden = !running;
  element("stop").disabled = false;
  element("ways").disabled = running;
}

/** Subscribes to the call before its first sound is sent, so that nothing is missed. */
function follow(id) {
  calls = new Calls();
  card?.remove();
  card = null;
  element("lines").replaceChildren();
  results?.close();
  return new Promise((resolve) => {
    results = new Connection({
      request: { type: "subscribe", calls: [id] },
      onMessage(message) {
        const now = performance.now();
        if (message.ledger?.latency_ms != null && message.type !== "call") latency.add(now, message.ledger.latency_ms);
        calls.take(message, now);
        const line = lineOf(message);
        if (line) addLine(message, line);
      },
      onState(state, detail) {
        resultsLive = state === "live";
        element("connection").dataset.connection = state;
        element("connection-text").textContent = detail;
        if (resultsLive) resolve();
      },
    });
    results.open();
  });
}

function lineOf(message) {
  if (message.type === "call" && message.kind === "gap") return `${message.duration.toFixed(2)} s of sound are missing`;
  if (message.type === "activity" && message.kind === "speech_start") return "speech begins";
  if (message.type === "activity" && message.kind === "speech_end") return `speech ends, after ${message.duration.toFixed(1)} s`;
  if (message.type === "features" && message.kind === "utterance") {
    const { f0_mean: semitones, loudness_mean: loudness, speech_rate_hz: rate } = message.summary;
    const parts = [`utterance of ${message.duration.toFixed(1)} s`];
    if (semitones !== null) parts.push(`pitch ${Math.round(27.5 * 2 ** (semitones / 12))} Hz`);
    parts.push(`loudness ${loudness.toFixed(2)}`);
    if (rate != null) parts.push(`${rate.toFixed(1)} syllables a second`);
    return parts.join(", ");
  }
  if (message.type === "insight" && message.is_final) {
    return Object.entries(message.outputs)
      .map(([name, { value, unknown_because }]) => `${name} ${value === null ? `unknown (${unknown_because})` : value.toFixed(2)}`)
      .join(", ");
  }
  return null;
}

function addLine(message, text) {
  const item = document.createElement("li");
  const time = document.createElement("time");
  time.textContent = clock((message.start ?? 0) + (message.duration ?? 0));
  item.append(time, text);
  element("lines").prepend(item);
  while (element("lines").children.length > SHOWN_LINES) element("lines").lastElementChild.remove();
  element("heard").hidden = false;
}

function frame(now) {
  const call = calls.byId.get(callId);
  if (call?.confirmed) {
    if (!card) {
      card = new Card(call, observer);
      element("card").replaceChildren(card.root);
    }
    card.update(now, resultsLive);
    card.draw(now, REDRAW_MS, colours);
  }
  requestAnimationFrame(frame);
}

setInterval(() => {
  const times = latency.percentiles(performance.now());
  element("figure-latency").textContent = times ? `${Math.round(times.p50)} · ${Math.round(times.p95)} ms` : "–";
}, 1_000);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  colours = readColours();
  if (card) card.needsDrawing = true;
});
element("start").addEventListener("click", start);
element("stop").addEventListener("click", () => stop());
addEventListener("pagehide", () => sending?.stop());
requestAnimationFrame(frame);
