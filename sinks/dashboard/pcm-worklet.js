/** Runs beside the sound: turns what the microphone gives into 16-bit samples and hands them on every 20 ms. */

const CHUNK_S = 0.02;

class Pcm extends AudioWorkletProcessor {
  #size = Math.round(sampleRate * CHUNK_S);
  #chunk = new Int16Array(this.#size);
  #filled = 0;

  process([channels]) {
    for (const sample of channels[0] ?? []) {
      this.#chunk[this.#filled++] = Math.round(Math.max(-1, Math.min(1, sample)) * 32_767);
      if (this.#filled === this.#size) {
        this.port.postMessage(this.#chunk.buffer, [this.#chunk.buffer]);
        this.#chunk = new Int16Array(this.#size); // the other one has gone with the message
        this.#filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("pcm", Pcm);
