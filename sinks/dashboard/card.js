/** One call on the page. Everything that came from outside is set as text, never as markup. */

import { talkOvers } from "./calls.js";
import { clock, drawStrip } from "./strip.js";

const ROLES = { customer: "Customer", caller: "Caller", agent: "Agent" };
const LEARNING = /^baseline: ([\d.]+) of ([\d.]+) s/;
const NOT_ANALYSED_AFTER_S = 3;

/** Sets text only where it differs: the layout is not touched for nothing. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function setHidden(element, hidden) {
  if (element.hidden !== hidden) element.hidden = hidden;
}

class LegRow {
  constructor(name, observer) {
    this.root = document.getElementById("leg-template").content.firstElementChild.cloneNode(true);
    this.root.dataset.leg = name;
    this.light = this.root.querySelector(".light");
    this.state = this.root.querySelector(".leg-state");
    this.canvas = this.root.querySelector("canvas");
    this.arousal = this.root.querySelector(".leg-arousal dd");
    this.arousalBox = this.root.querySelector(".leg-arousal");
    this.pitch = this.root.querySelector(".leg-pitch dd");
    this.loudness = this.root.querySelector(".leg-loudness dd");
    this.label = ROLES[name] ?? name;
    setText(this.root.querySelector(".leg-name"), this.label);
    this.root.querySelector(".leg-name").title = name;
    this.canvas.setAttribute("aria-label", `${this.label}: level, speech and arousal over the last 60 seconds`);
    this.visible = false;
    this.canvas.row = this;
    observer.observe(this.canvas);
  }

  update(leg, call, pageNow, live) {
    const speaking = leg.speaking && live && !leg.signalLost(pageNow);
    const state = stateOf(leg, call, pageNow, live, speaking);
    if (this.light.dataset.speaking !== String(speaking)) this.light.dataset.speaking = String(speaking);
    if (this.light.ariaLabel !== `${this.label} ${state}`) this.light.ariaLabel = `${this.label} ${state}`;
    setText(this.state, state);
    const [text, tone] = arousalOf(leg);
    setText(this.arousal, text);
    if (this.arousalBox.dataset.tone !== tone) this.arousalBox.dataset.tone = tone;
    setText(this.pitch, leg.pitchHz === null ? "–" : `${Math.round(leg.pitchHz)} Hz`);
    setText(this.loudness, leg.loudness === null ? "–" : leg.loudness.toFixed(2));
  }
}

function stateOf(leg, call, pageNow, live, speaking) {
  if (call.ended) return "ended";
  if (leg.ended) return "left";
  if (!live) return "unknown";
  if (leg.signalLost(pageNow)) return `no signal for ${Math.round((pageNow - leg.heardAt) / 1000)} s`;
  return speaking ? "speaking" : "quiet";
}

/** @returns {[string, string]} the text, and a tone for the style: "high", "low", "usual" or "none" */
function arousalOf(leg) {
  if (leg.arousal !== null) {
    const value = leg.arousal.toFixed(2);
    if (leg.arousal >= 0.65) return [`${value} ▲ raised`, "high"];
    if (leg.arousal <= 0.35) return [`${value} ▼ low`, "low"];
    return [`${value} usual`, "usual"];
  }
  if (leg.unknownBecause !== null) {
    const learning = LEARNING.exec(leg.unknownBecause);
    return [learning ? `learning this voice: ${learning[1]} of ${learning[2]} s` : leg.unknownBecause, "none"];
  }
  return [leg.featureSeconds > NOT_ANALYSED_AFTER_S ? "not analysed" : "–", "none"];
}

export class Card {
  constructor(call, observer) {
    this.call = call;
    this.observer = observer;
    this.root = document.getElementById("call-template").content.firstElementChild.cloneNode(true);
    this.root.dataset.call = call.id;
    this.root.setAttribute("aria-label", `Call ${call.id}`);
    this.legs = this.root.querySelector(".legs");
    this.time = this.root.querySelector(".call-time");
    this.about = this.root.querySelector(".call-about");
    this.over = this.root.querySelector(".badge-talkover");
    this.endedBadge = this.root.querySelector(".badge-ended");
    const id = this.root.querySelector(".call-id");
    setText(id, call.id);
    id.title = call.id;
    this.rows = new Map();
    this.needsDrawing = true;
    this.drawnAt = -Infinity;
  }

  /** Brings text and lights up to date. */
  update(pageNow, live) {
    const { call } = this;
    for (const [name, leg] of call.legs) {
      if (!this.rows.has(name)) this.#addLeg(name);
      this.rows.get(name).update(leg, call, pageNow, live);
      if (leg.changed) this.needsDrawing = true;
      leg.changed = false;
    }
    const state = call.ended ? "ended" : "running";
    if (this.root.dataset.state !== state) this.root.dataset.state = state;
    const over = call.talkOver && live && !call.ended;
    setHidden(this.over, !over);
    if (this.root.dataset.talkover !== String(over)) this.root.dataset.talkover = String(over);
    setHidden(this.endedBadge, !call.ended);
    setText(this.endedBadge, call.reason && call.reason !== "end" ? `ended: ${call.reason}` : "ended");
    setText(this.time, clock(call.now));
    const about = aboutOf(call);
    setText(this.about, about);
    setHidden(this.about, !about);
    if (this.about.title !== about) this.about.title = about;
  }

  /** Draws the strips that can be seen. */
  draw(pageNow, interval, colours) {
    if (!this.needsDrawing || pageNow - this.drawnAt < interval) return;
    const rows = [...this.rows.values()];
    if (!rows.some((row) => row.visible)) return; // drawn when it comes into view
    const { call } = this;
    const now = call.now;
    const overs = call.legs.size > 1 ? talkOvers(call) : [];
    rows.forEach((row, index) => {
      const leg = call.legs.get(row.root.dataset.leg);
      if (!leg) return;
      drawStrip(row.canvas, leg, { now, offset: call.offset(leg), overs, axis: index === rows.length - 1 }, colours);
    });
    this.needsDrawing = false;
    this.drawnAt = pageNow;
  }

  matches(words) {
    if (!words) return true;
    const { call } = this;
    const text = [call.id, call.source ?? "", ...call.legs.keys(), ...Object.entries(call.metadata).flat()];
    return text.join(" ").toLowerCase().includes(words);
  }

  remove() {
    for (const row of this.rows.values()) this.observer.unobserve(row.canvas);
    this.root.remove();
  }

  #addLeg(name) {
    const row = new LegRow(name, this.observer);
    row.card = this;
    this.rows.set(name, row);
    // The customer first, whichever leg spoke first.
    const rank = (leg) => (leg === "customer" || leg === "caller" ? 0 : 1);
    const before = [...this.legs.children].find((other) => rank(other.dataset.leg) > rank(name));
    this.legs.insertBefore(row.root, before ?? null);
    this.rows = new Map([...this.legs.children].map((element) => [element.dataset.leg, this.rows.get(element.dataset.leg)]));
  }
}

function aboutOf(call) {
  const parts = [];
  if (call.startedNs) {
    const started = new Date(call.startedNs / 1e6);
    parts.push(`since ${started.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}`);
  }
  for (const [key, value] of Object.entries(call.metadata)) parts.push(`${key}: ${value}`);
  if (call.source) parts.push(`by ${call.source}`);
  return parts.join(" · ");
}
