/** Draws the last minute of one leg on a canvas: level, speech, talk-over, arousal, over the time of the call. */

import { SPAN_S } from "./calls.js";

const FLOOR_DBFS = -60;
const BAR = 7; // px: the speech bar along the top
const TICKS_S = 10;
const LABELS_S = 20;
const HOLE_S = 0.35; // levels come every 0.1 s; further apart lies a gap
const AROUSAL_HOLE_S = 1.0;

/** Colours come from the style sheet, so that light and dark are decided in one place. */
export function readColours() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  return {
    level: colour("--level"),
    speech: colour("--speech"),
    talkOver: colour("--talkover"),
    arousal: colour("--arousal"),
    halo: colour("--strip"),
    grid: colour("--grid"),
    label: colour("--quiet-ink"),
  };
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {object} leg
 * @param {{now: number, offset: number, overs: {start: number, end: number}[], axis: boolean}} call
 *   `now` is the right edge in call time, `offset` what the leg's media time lies behind it, `axis` whether times are written.
 * @param {object} colours from `readColours`
 */
export function drawStrip(canvas, leg, call, colours) {
  const ratio = devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (!width || !height) return;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);

  const right = Math.max(call.now, SPAN_S); // a young call grows from the left
  const left = right - SPAN_S;
  const x = (at) => ((at + call.offset - left) / SPAN_S) * width;
  const callX = (at) => ((at - left) / SPAN_S) * width;
  const top = BAR + 2;
  const y = (share) => top + (1 - share) * (height - top);

  drawGrid(context, left, right, callX, height, colours);
  drawLevels(context, leg.levels, x, y, width, colours);
  drawSegments(context, leg, x, width, colours);
  drawTalkOvers(context, call.overs, callX, height, width, colours);
  drawMiddle(context, y(0.5), width, colours);
  drawArousal(context, leg.arousals, x, y, colours);
  if (call.axis) drawTimes(context, left, right, callX, height, colours);
}

function drawGrid(context, left, right, callX, height, colours) {
  context.strokeStyle = colours.grid;
  context.lineWidth = 1;
  context.beginPath();
  for (let at = Math.ceil(left / TICKS_S) * TICKS_S; at < right; at += TICKS_S) {
    const position = Math.round(callX(at)) + 0.5;
    context.moveTo(position, BAR + 2);
    context.lineTo(position, height);
  }
  context.stroke();
}

function drawTimes(context, left, right, callX, height, colours) {
  context.font = "10px system-ui, sans-serif";
  context.lineWidth = 3;
  context.lineJoin = "round";
  context.strokeStyle = colours.halo;
  context.fillStyle = colours.label;
  for (let at = Math.ceil(left / LABELS_S) * LABELS_S; at < right; at += LABELS_S) {
    context.strokeText(clock(at), callX(at) + 3, height - 3);
    context.fillText(clock(at), callX(at) + 3, height - 3);
  }
}

function drawLevels(context, levels, x, y, width, colours) {
  context.fillStyle = colours.level;
  for (const run of runs(levels, HOLE_S)) {
    context.beginPath();
    context.moveTo(x(run[0].at), y(0));
    for (const { at, dbfs } of run) context.lineTo(x(at), y(share(dbfs)));
    context.lineTo(x(run.at(-1).at), y(0));
    context.fill();
  }
}

function share(dbfs) {
  return Math.min(1, Math.max(0, 1 - dbfs / FLOOR_DBFS));
}

function drawSegments(context, leg, x, width, colours) {
  context.fillStyle = colours.speech;
  for (const { start, end } of leg.segments) {
    const from = Math.max(0, x(start));
    const to = Math.min(width, x(end ?? leg.now));
    if (to <= 0 || to <= from) continue;
    context.beginPath();
    context.roundRect(from, 0, Math.max(2, to - from), BAR, 2);
    context.fill();
  }
}

/** A wash over the whole height, and stripes in the speech bar: seen without hiding the curves below. */
function drawTalkOvers(context, overs, callX, height, width, colours) {
  for (const { start, end } of overs) {
    const from = Math.max(0, callX(start));
    const span = Math.max(3, Math.min(width, callX(end)) - from);
    if (callX(end) <= 0 || from >= width) continue;
    context.save();
    context.fillStyle = colours.talkOver;
    context.globalAlpha = 0.14;
    context.fillRect(from, BAR, span, height - BAR);
    context.globalAlpha = 1;
    context.fillRect(from, 0, span, BAR);
    context.beginPath();
    context.rect(from, 0, span, BAR);
    context.clip();
    context.strokeStyle = colours.halo;
    context.lineWidth = 1.5;
    context.beginPath();
    for (let at = Math.floor(from / 6) * 6 - BAR; at < from + span; at += 6) {
      context.moveTo(at, BAR);
      context.lineTo(at + BAR, 0);
    }
    context.stroke();
    context.restore();
  }
}

function drawMiddle(context, middle, width, colours) {
  context.strokeStyle = colours.label;
  context.globalAlpha = 0.55;
  context.lineWidth = 1;
  context.setLineDash([3, 4]);
  context.beginPath();
  context.moveTo(0, Math.round(middle) + 0.5);
  context.lineTo(width, Math.round(middle) + 0.5);
  context.stroke();
  context.setLineDash([]);
  context.globalAlpha = 1;
}

function drawArousal(context, arousals, x, y, colours) {
  context.lineJoin = "round";
  context.lineCap = "round";
  for (const [colour, width] of [[colours.halo, 5], [colours.arousal, 2]]) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    for (const run of runs(arousals, AROUSAL_HOLE_S)) {
      run.forEach(({ at, value }, index) => {
        if (index) context.lineTo(x(at), y(value));
        else context.moveTo(x(at), y(value));
      });
      if (run.length === 1) context.lineTo(x(run[0].at) + 0.5, y(run[0].value));
    }
    context.stroke();
  }
}

/** Splits points where more than `hole` seconds lie between them. */
function runs(points, hole) {
  const split = [];
  let run = null;
  let before = -Infinity;
  for (const point of points) {
    if (!run || point.at - before > hole) split.push((run = []));
    run.push(point);
    before = point.at;
  }
  return split;
}

/** @param {number} seconds @returns {string} m:ss or h:mm:ss */
export function clock(seconds) {
  const whole = Math.floor(seconds);
  const two = (number) => String(number).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}:${two(whole % 60)}`;
  return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
}
