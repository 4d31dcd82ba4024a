/** What the page knows of calls and legs, kept from the messages of /v1/results. No DOM here; times are media time, in seconds. */

export const SPAN_S = 60;
const KEEP_ENDED_MS = 60_000;
const FORGET_SILENT_MS = 90_000;
const NO_SIGNAL_MS = 3_000;
const KEEP_S = SPAN_S + 2;

class Leg {
  constructor(name) {
    this.name = name;
    this.ended = false;
    this.startedNs = null;
    this.speaking = false;
    this.now = 0;
    this.heardAt = -Infinity; // page clock, ms
    this.levels = []; // {at, dbfs}, at the end of each span
    this.segments = []; // {start, end}, end null while it lasts
    this.arousals = []; // {at, value}
    this.arousal = null;
    this.unknownBecause = null;
    this.featureSeconds = 0;
    this.pitchHz = null;
    this.loudness = null;
    this.changed = true;
  }

  signalLost(pageNow) {
    return !this.ended && this.heardAt > 0 && pageNow - this.heardAt > NO_SIGNAL_MS;
  }

  advance(to) {
    if (to <= this.now) return;
    this.now = to;
    const from = to - KEEP_S;
    trim(this.levels, (level) => level.at < from);
    trim(this.arousals, (arousal) => arousal.at < from);
    trim(this.segments, (segment) => segment.end !== null && segment.end < from);
  }

  restart() {
    Object.assign(this, new Leg(this.name));
  }
}

class Call {
  constructor(id) {
    this.id = id;
    this.legs = new Map();
    this.source = null;
    this.metadata = {};
    this.startedNs = null;
    this.endedAt = null; // page clock, ms
    this.reason = null;
    this.heardAt = 0; // page clock, ms
    this.confirmed = false; // false: listed as running, but nothing was heard of it yet; not shown
  }

  get ended() {
    return this.endedAt !== null;
  }

  leg(name) {
    let leg = this.legs.get(name);
    if (!leg) this.legs.set(name, (leg = new Leg(name)));
    return leg;
  }

  /** Seconds after the call's first stream that a leg's media time begins; below half a second is the same moment. */
  offset(leg) {
    let first = Infinity;
    for (const { startedNs } of this.legs.values()) if (startedNs) first = Math.min(first, startedNs);
    const offset = leg.startedNs && first < Infinity ? (leg.startedNs - first) / 1e9 : 0;
    return offset < 0.5 ? 0 : offset;
  }

  /** How far the call is, in seconds. */
  get now() {
    let now = 0;
    for (const leg of this.legs.values()) now = Math.max(now, leg.now + this.offset(leg));
    return now;
  }

  get talkOver() {
    let speaking = 0;
    for (const leg of this.legs.values()) speaking += leg.speaking ? 1 : 0;
    return speaking > 1;
  }
}

export class Calls {
  byId = new Map();

  /** Takes a message in. @param {object} message @param {number} pageNow ms @returns {Call|null} the call it was about */
  take(message, pageNow) {
    if (message.type === "subscribed") {
      this.#resume(message.running, pageNow);
      return null;
    }
    if (!TAKERS[message.type]) return null;
    let call = this.byId.get(message.call_id);
    if (!call) {
      if (message.type === "call" && message.kind.endsWith("_ended")) return null;
      this.byId.set(message.call_id, (call = new Call(message.call_id)));
    }
    call.heardAt = pageNow;
    call.confirmed = true;
    TAKERS[message.type](call, message, pageNow);
    return call;
  }

  /** Drops calls that ended a minute ago, or fell silent for longer. @returns {string[]} their ids */
  sweep(pageNow) {
    const gone = [];
    for (const [id, call] of this.byId) {
      const over = call.ended ? pageNow - call.endedAt > KEEP_ENDED_MS : pageNow - call.heardAt > FORGET_SILENT_MS;
      if (over) {
        this.byId.delete(id);
        gone.push(id);
      }
    }
    return gone;
  }

  /** After a reconnection: what the server lists is running, everything else has ended meanwhile. */
  #resume(running, pageNow) {
    const listed = new Set();
    for (const item of running) {
      listed.add(item.call_id);
      let call = this.byId.get(item.call_id);
      if (!call || call.ended) this.byId.set(item.call_id, (call = new Call(item.call_id)));
      call.heardAt = pageNow;
      call.confirmed ||= item.heard_ns !== null;
      call.source = item.source;
      call.metadata = item.metadata ?? {};
      call.startedNs = item.started_ns;
      for (const { leg: name, started_ns, ended } of item.legs) {
        const leg = call.leg(name);
        leg.startedNs = started_ns;
        leg.ended = ended;
        leg.changed = true;
      }
    }
    for (const call of this.byId.values()) if (!listed.has(call.id)) end(call, null, pageNow);
  }
}

const TAKERS = {
  call(call, message, pageNow) {
    if (message.source) call.source = message.source;
    Object.assign(call.metadata, message.metadata);
    switch (message.kind) {
      case "call_started":
        if (call.ended) {
          call.endedAt = null; // the id is used again
          call.reason = null;
          call.legs.clear();
        }
        call.startedNs = message.time_ns;
        break;
      case "stream_started": {
        const leg = call.leg(message.leg);
        if (leg.ended) leg.restart();
        leg.startedNs = message.time_ns;
        break;
      }
      case "stream_ended": {
        const leg = call.leg(message.leg);
        leg.ended = true;
        quieten(leg);
        break;
      }
      case "call_ended":
        end(call, message.reason, pageNow);
        break;
    }
  },

  activity(call, message, pageNow) {
    const leg = call.leg(message.leg);
    const to = message.start + message.duration;
    leg.advance(to);
    leg.heardAt = pageNow;
    leg.changed = true;
    if (message.kind === "level") leg.levels.push({ at: to, dbfs: message.level_dbfs ?? -100 });
    if (message.kind === "speech_end") {
      const open = leg.segments.findLast((segment) => segment.end === null);
      if (open) Object.assign(open, { start: message.start, end: to });
      else leg.segments.push({ start: message.start, end: to });
    } else if (message.speaking && leg.segments.at(-1)?.end !== null) {
      const last = leg.segments.at(-1);
      // A level computed before the end of speech may arrive after it.
      if (!last || message.start >= last.end) leg.segments.push({ start: message.start, end: null });
    }
    leg.speaking = message.speaking && !leg.ended && !call.ended;
    if (!message.speaking || leg.ended || call.ended) quieten(leg);
  },

  features(call, message) {
    const leg = call.leg(message.leg);
    const { f0_mean: semitones, loudness_mean: loudness } = message.summary;
    leg.featureSeconds = Math.max(leg.featureSeconds, message.duration);
    if (semitones !== null) leg.pitchHz = 27.5 * 2 ** (semitones / 12);
    leg.loudness = loudness;
    leg.changed = true;
  },

  insight(call, message) {
    const output = message.outputs.arousal;
    if (!output) return;
    const leg = call.leg(message.leg);
    leg.arousal = output.value;
    leg.unknownBecause = output.value === null ? output.unknown_because ?? "unknown" : null;
    // The judgement of a whole utterance belongs to no moment: it is shown as a number, not as a point.
    if (output.value !== null && !message.is_final) {
      leg.arousals.push({ at: message.start + message.duration, value: output.value });
    }
    leg.changed = true;
  },
};

function end(call, reason, pageNow) {
  call.reason ??= reason; // after a break it comes when the end is known already
  if (call.ended) return;
  call.endedAt = pageNow;
  for (const leg of call.legs.values()) quieten(leg);
}

function quieten(leg) {
  leg.speaking = false;
  leg.changed = true;
  const last = leg.segments.at(-1);
  if (last && last.end === null) last.end = leg.now;
}

function trim(items, isOld) {
  let count = 0;
  while (count < items.length && isOld(items[count])) count++;
  if (count > 50 || count === items.length) items.splice(0, count);
}

/** The moments at which at least two legs of a call speak, in call time. @returns {{start: number, end: number}[]} */
export function talkOvers(call) {
  const edges = [];
  for (const leg of call.legs.values()) {
    const offset = call.offset(leg);
    for (const { start, end: until } of leg.segments) {
      edges.push([start + offset, 1], [(until ?? leg.now) + offset, -1]);
    }
  }
  edges.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const overs = [];
  let speaking = 0;
  let since = 0;
  for (const [at, change] of edges) {
    if (speaking === 1 && change === 1) since = at;
    if (speaking === 2 && change === -1 && at - since > 0.05) overs.push({ start: since, end: at });
    speaking += change;
  }
  return overs;
}
