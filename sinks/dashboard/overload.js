/** The banner that says what workers leave out while they have more to do than they can. */

const WORDS = { infer: "insights while people speak", extract: "voice features" };

export class Overload {
  #byWorker = new Map();

  constructor(banner) {
    this.banner = banner;
  }

  take(message) {
    if (message.type === "subscribed") {
      this.#byWorker.clear();
      for (const status of message.shedding ?? []) this.#byWorker.set(status.worker, status);
    } else if (message.type !== "system") {
      return;
    } else if (message.shed.length) {
      this.#byWorker.set(message.worker, message);
    } else {
      this.#byWorker.delete(message.worker);
    }
    this.#show();
  }

  #show() {
    const statuses = [...this.#byWorker.values()];
    this.banner.hidden = !statuses.length;
    if (!statuses.length) return;
    const shed = [...new Set(statuses.flatMap((status) => status.shed))];
    const since = new Date(Math.min(...statuses.map((status) => status.since_ns)) / 1e6);
    const what = shed.map((stage) => WORDS[stage] ?? stage).join(" and ");
    this.banner.textContent = `Overload since ${since.toLocaleTimeString()}: ${what} are left out. Speech is still detected.`;
  }
}
