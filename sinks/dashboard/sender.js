/**
 * Sends audio to /v1/stream and stays with it: reconnects, resumes, says what was lost. docs/protocols/websocket.md.
 *
 *   const sender = new Sender({url: "ws://127.0.0.1:7070/v1/stream", hello: {call_id, leg, encoding: "s16le", rate_hz}});
 *   sender.open();
 *   sender.send(pcm);           // ArrayBuffer or typed array: whole samples of all channels
 *   await sender.end();         // the gateway's `ended`
 */

import { withToken } from "./token.js";

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 15_000;
const SILENCE_MS = 15_000;
const BUFFERED_BYTES = 256 * 1024; // what a socket may have waiting; the rest stays here, where it can be resumed from
const PUMP_MS = 20;
const UNDECIDED_S = 0.25; // a gateway may hold so much back, waiting for the rest of a frame or in a resampler
const GIVE_UP_CODES = new Set([1003, 1007, 1008, 1009, 4400, 4401, 4403, 4409, 4415]);

export class Sender {
  #socket = null;
  #session = null;
  #attempt = 0;
  #timer = 0;
  #pump = 0;
  #chunks = []; // {at, bytes}: sent and not acknowledged, and not sent yet
  #position = 0; // the next sample to send on this connection
  #expected = 0; // where the gateway believes that it begins
  #ready = false;
  #ending = null;
  #endSent = false;
  #heardAt = 0;
  #waitsSince = 0;
  #done = false;
  #refused = null;

  /**
   * @param {object} options
   * @param {string} options.url
   * @param {object} options.hello call_id, leg or legs, encoding, rate_hz, channels, metadata.
   * @param {string | null} [options.token] null: the page's own.
   * @param {number} [options.bufferSeconds] audio kept at most; then the oldest is given up and becomes a gap.
   * @param {number} [options.silenceMs] audio that is not acknowledged for so long means a dead connection.
   * @param {number} [options.firstWaitMs] the first pause before another attempt; doubled each time, with jitter.
   * @param {(state: string, detail: string) => void} [options.onState] "connecting", "live", "reconnecting", "ended",
   *   "refused", and words for people.
   */
  constructor({
    url,
    hello,
    token = null,
    bufferSeconds = 30,
    silenceMs = SILENCE_MS,
    firstWaitMs = FIRST_WAIT_MS,
    onState = () => {},
  }) {
    this.url = url;
    this.hello = { type: "hello", channels: 1, ...hello, resumable: true };
    this.token = token;
    this.silenceMs = silenceMs;
    this.firstWaitMs = firstWaitMs;
    this.onState = onState;
    this.step = this.hello.channels * (this.hello.encoding === "s16le" ? 2 : 1);
    this.limit = bufferSeconds * this.hello.rate_hz;
    /**
     * Samples per channel: handed in, safe in Kafka, given up (a gap, if they had not arrived); attempts to connect
     * anew, and times the gateway did not know the session any more and the stream was opened anew.
     */
    this.progress = { taken: 0, acknowledged: 0, dropped: 0, reconnects: 0, restarts: 0 };
    addEventListener("online", () => this.#retryNow());
  }

  open() {
    if (this.#done) return;
    clearTimeout(this.#timer);
    this.onState("connecting", "connecting");
    const url = this.token === null ? withToken(this.url) : withToken(this.url, this.token);
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    this.#heardAt = performance.now();
    const hello = this.#session ? { ...this.hello, resume: this.#session } : this.hello;
    socket.onopen = () => socket.send(JSON.stringify(hello));
    socket.onmessage = (event) => socket === this.#socket && this.#hear(JSON.parse(event.data));
    socket.onclose = (event) => socket === this.#socket && this.#comeBack(event.code, event.reason);
    clearInterval(this.#pump);
    this.#pump = setInterval(() => this.#work(), PUMP_MS);
  }

  /** @param {ArrayBuffer | ArrayBufferView} data whole samples of all channels; not changed afterwards. */
  send(data) {
    if (this.#refused) throw this.#refused;
    const bytes = ArrayBuffer.isView(data)
      ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
      : new Uint8Array(data);
    if (bytes.length % this.step) throw new RangeError(`${bytes.length} bytes are no whole samples of ${this.step} bytes`);
    this.#chunks.push({ at: this.progress.taken, bytes });
    this.progress.taken += bytes.length / this.step;
    while (this.#chunks.length > 1 && this.progress.taken - this.#first() > this.limit) {
      const before = this.#first();
      this.#chunks.shift();
      this.progress.dropped += this.#first() - before;
    }
    this.#work();
  }

  /** @returns {Promise<object>} the gateway's `ended`, when everything is safe. */
  end() {
    if (!this.#ending) {
      let settle;
      const promise = new Promise((resolve, reject) => (settle = { resolve, reject }));
      this.#ending = { promise, ...settle };
      if (this.#refused) this.#ending.reject(this.#refused);
      else this.#work();
    }
    return this.#ending.promise;
  }

  /** Leave without an end. */
  abandon() {
    this.#stop();
    this.#socket?.close(1000);
  }

  #first() {
    return this.#chunks.length ? Math.max(this.#chunks[0].at, this.progress.acknowledged) : this.progress.taken;
  }

  #hear(message) {
    this.#heardAt = performance.now();
    if (message.type === "ready") {
      this.#position = this.#expected = this.#session ? (message.received ?? 0) : 0;
      this.#session = message.session ?? null;
      this.#attempt = 0;
      this.#ready = true;
      this.#endSent = false;
      this.onState("live", "live");
      this.#work();
    } else if (message.type === "ack" || message.type === "ended") {
      const published = Math.min(...Object.values(message.streams).map((leg) => leg.published_s));
      this.#acknowledge(message.type === "ended" ? this.progress.taken : Math.floor(published * this.hello.rate_hz));
      if (message.type !== "ended") return;
      this.#stop();
      this.onState("ended", "ended");
      this.#ending?.resolve(message);
    } else if (message.type === "error" && message.code === "unknown_session") {
      this.#session = null; // opened anew next; its media time goes on where it was
      this.progress.restarts += 1;
    } else if (message.type === "error" && !message.retriable) {
      if (message.code === "stream_exists" && this.progress.reconnects) return; // the one before is still being ended
      this.#refuse(message.message);
    }
  }

  #acknowledge(until) {
    this.progress.acknowledged = Math.max(this.progress.acknowledged, Math.min(until, this.progress.taken));
    while (this.#chunks.length && this.#end(this.#chunks[0]) <= this.progress.acknowledged) this.#chunks.shift();
  }

  #end(chunk) {
    return chunk.at + chunk.bytes.length / this.step;
  }

  /** Send what there is room for; find out whether anybody is still there. */
  #work() {
    const socket = this.#socket;
    const now = performance.now();
    const waits = !this.#ready || this.#ending || this.progress.taken - this.#first() > UNDECIDED_S * this.hello.rate_hz;
    this.#waitsSince = waits ? this.#waitsSince || now : 0;
    if (socket && waits && now - Math.max(this.#heardAt, this.#waitsSince) > this.silenceMs) {
      this.#socket = null; // a close handshake would be waited for in vain
      socket.close();
      this.#comeBack(1006, "nothing came back");
      return;
    }
    if (!this.#ready || socket?.readyState !== WebSocket.OPEN) return;
    for (const chunk of this.#chunks) {
      if (socket.bufferedAmount > BUFFERED_BYTES) return;
      if (this.#end(chunk) <= this.#position) continue;
      const skip = Math.max(0, this.#position - chunk.at);
      const at = chunk.at + skip;
      if (at !== this.#expected) socket.send(JSON.stringify({ type: "at", sample: at }));
      socket.send(chunk.bytes.subarray(skip * this.step));
      this.#position = this.#expected = this.#end(chunk);
    }
    if (this.#ending && !this.#endSent) {
      this.#endSent = true;
      socket.send(JSON.stringify({ type: "end" }));
    }
  }

  #comeBack(code, reason) {
    this.#socket = null;
    this.#ready = false;
    clearInterval(this.#pump);
    if (this.#done) return;
    if (GIVE_UP_CODES.has(code) && !(code === 4409 && this.progress.reconnects)) {
      this.#refuse(reason || `closed with ${code}`);
      return;
    }
    this.progress.reconnects += 1;
    const longest = Math.min(LONGEST_WAIT_MS, this.firstWaitMs * 2 ** this.#attempt++);
    this.onState("reconnecting", reason ? `reconnecting (${reason})` : "reconnecting");
    this.#timer = setTimeout(() => this.open(), longest * (0.5 + Math.random() / 2));
  }

  #retryNow() {
    if (this.#socket === null && !this.#done && this.progress.reconnects) this.open();
  }

  #refuse(reason) {
    this.#refused = new Error(reason);
    this.#stop();
    this.onState("refused", reason);
    this.#ending?.reject(this.#refused);
  }

  #stop() {
    this.#done = true;
    clearTimeout(this.#timer);
    clearInterval(this.#pump);
  }
}
