/** The page "Calls": messages change the model at once, the page is brought up to date once a frame. */

import { Calls } from "./calls.js";
import { Card } from "./card.js";
import { Connection } from "./connection.js";
import { Latency } from "./latency.js";
import { Overload } from "./overload.js";
import { readColours } from "./strip.js";

const FIND_FROM_CALLS = 7;
const REDRAW_MS = 90; // levels come every 100 ms
const CALM_REDRAW_MS = 1_000; // where less motion is wanted

const element = (id) => document.getElementById(id);
const calls = new Calls();
const latency = new Latency();
const overload = new Overload(element("overload"));
const cards = new Map();
const touched = new Set();
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let colours = readColours();
let live = false;
let everLive = false;

const observer = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      target.row.visible = isIntersecting;
      if (isIntersecting) target.row.card.needsDrawing = true;
    }
  },
  { rootMargin: "100px" },
);

new Connection({
  onMessage(message) {
    const now = performance.now();
    overload.take(message);
    if (message.type === "system") return;
    if (message.ledger?.latency_ms != null && message.type !== "call") latency.add(now, message.ledger.latency_ms);
    const call = calls.take(message, now);
    if (call) touched.add(call.id);
    if (message.type === "subscribed") for (const id of calls.byId.keys()) touched.add(id);
  },
  onState(state, detail) {
    live = state === "live";
    everLive ||= live;
    element("connection").dataset.connection = state;
    element("connection-text").textContent = detail;
    document.body.dataset.live = String(live);
    touchAll();
  },
}).open();

function touchAll() {
  for (const id of cards.keys()) touched.add(id);
}

function frame(now) {
  for (const id of touched) {
    const call = calls.byId.get(id);
    if (!call?.confirmed) continue;
    let card = cards.get(id);
    if (card && card.call !== call) {
      card.remove(); // the id came back as another call
      card = undefined;
    }
    if (!card) {
      card = new Card(call, observer);
      cards.set(id, card);
      element("calls").prepend(card.root);
      applyFind();
    }
    card.update(now, live);
  }
  touched.clear();
  const interval = calm.matches ? CALM_REDRAW_MS : REDRAW_MS;
  for (const card of cards.values()) card.draw(now, interval, colours);
  requestAnimationFrame(frame);
}

/** What changes with time alone: figures, calls that are over, lost signals. */
function everySecond() {
  const now = performance.now();
  for (const id of calls.sweep(now)) {
    cards.get(id)?.remove();
    cards.delete(id);
  }
  touchAll();
  const running = [...calls.byId.values()].filter((call) => call.confirmed && !call.ended);
  element("figure-running").textContent = live ? String(running.length) : "–";
  element("figure-talkover").textContent = live ? String(running.filter((call) => call.talkOver).length) : "–";
  const times = live ? latency.percentiles(now) : null;
  element("figure-latency").textContent = times ? `${Math.round(times.p50)} · ${Math.round(times.p95)} ms` : "–";
  element("empty").hidden = !everLive || cards.size > 0;
  element("legend").hidden = !element("empty").hidden;
  element("find").hidden = cards.size < FIND_FROM_CALLS && !element("find-text").value;
  document.title = running.length && live ? `${running.length} calls – Callscope` : "Calls – Callscope";
  applyFind();
}

function applyFind() {
  const words = element("find-text").value.trim().toLowerCase();
  let found = 0;
  for (const card of cards.values()) {
    const matches = card.matches(words);
    card.root.hidden = !matches;
    found += matches ? 1 : 0;
  }
  element("nothing-found").hidden = found > 0 || !cards.size;
}

function recolour() {
  colours = readColours();
  for (const card of cards.values()) card.needsDrawing = true;
}

element("find-text").addEventListener("input", applyFind);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
addEventListener("resize", recolour);
if (matchMedia("(min-width: 60rem)").matches) element("legend").open = true;
setInterval(everySecond, 1_000);
requestAnimationFrame(frame);
