/** The connection to /v1/results: subscribes, hands messages on, comes back after every loss, and gets what it missed. */

import { whyRefused, withToken } from "./token.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
const SILENCE_MS = 10_000;
const ABNORMAL = 1006;

export class Connection {
  #socket = null;
  #attempt = 0;
  #timer = 0;
  #closed = false;
  #at = {}; // by type of message and partition, the first record that this page does not have

  /**
   * @param {{onMessage: (message: object) => void, onState: (state: string, detail: string) => void, request?: object}} handlers
   *   onState gets "connecting", "live" or "reconnecting", and words for people; request is what is subscribed to, or all.
   */
  constructor(handlers) {
    this.handlers = handlers;
    addEventListener("online", () => this.#retryNow());
    document.addEventListener("visibilitychange", () => document.hidden || this.#retryNow());
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(withToken(`${scheme}://${location.host}/v1/results`));
    this.#socket = socket;
    // An address that swallows packets never fails by itself.
    const impatience = setTimeout(() => socket.close(), SILENCE_MS);
    const request = this.handlers.request ?? { type: "subscribe" };
    socket.onopen = () => socket.send(JSON.stringify({ ...request, resume: this.#at }));
    socket.onmessage = (event) => {
      const message = JSON.parse(event.data);
      this.#notePosition(message);
      if (message.type === "position") return;
      if (message.type === "subscribed") {
        clearTimeout(impatience);
        this.#attempt = 0;
        this.handlers.onState("live", "live");
      }
      this.handlers.onMessage(message);
    };
    socket.onclose = (event) => {
      clearTimeout(impatience);
      if (socket === this.#socket) this.#comeBack(event);
    };
  }

  #notePosition({ type, at }) {
    if (type === "subscribed" || type === "position") {
      this.#at = at ?? {};
    } else if (at) {
      const [partition, offset] = at;
      this.#at[type][partition] = offset + 1;
    }
  }

  /** Leaves, and does not come back. */
  close() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    this.#closed = true;
    socket?.close();
  }

  #comeBack(event) {
    this.#socket = null;
    const longest = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.#attempt++);
    const wait = longest * (0.5 + Math.random() / 2); // jitter: many pages do not come back at once
    this.handlers.onState("reconnecting", event.reason ? `reconnecting (${event.reason})` : "reconnecting");
    if (event.code === ABNORMAL) this.#sayWhy();
    this.#timer = setTimeout(() => this.open(), wait);
  }

  /** Without a token, or with one that is not good, only this tells. */
  async #sayWhy() {
    const why = await whyRefused("/v1/results");
    if (why !== null && this.#socket === null) {
      this.handlers.onState("reconnecting", `not let in: ${why} Open this page with #token=… behind its address.`);
    }
  }

  #retryNow() {
    if (this.#closed || this.#socket !== null) return;
    clearTimeout(this.#timer);
    this.open();
  }
}
