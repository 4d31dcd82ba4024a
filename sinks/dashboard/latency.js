/** Percentiles of the results' latency over the last seconds. */

const SPAN_MS = 10_000;
const MOST = 60_000;

export class Latency {
  #times = [];
  #values = [];

  /** @param {number} now page clock, ms  @param {number} latency ms */
  add(now, latency) {
    this.#times.push(now);
    this.#values.push(latency);
  }

  /** @param {number} now page clock, ms  @returns {{p50: number, p95: number} | null} null without results */
  percentiles(now) {
    let first = this.#times.findIndex((time) => time >= now - SPAN_MS);
    if (first < 0) first = this.#times.length;
    first = Math.max(first, this.#times.length - MOST);
    this.#times.splice(0, first);
    this.#values.splice(0, first);
    if (!this.#values.length) return null;
    const sorted = Float64Array.from(this.#values).sort();
    const at = (share) => sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)];
    return { p50: at(0.5), p95: at(0.95) };
  }
}
