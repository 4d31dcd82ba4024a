"""Makes the demo call `callscope/demo/call.ogg`: two espeak-ng voices, left the customer, right the agent.

The customer begins calm, interrupts, grows loud, high and fast, and is calmed down again, so that every part of the
dashboard has something to show. Needs espeak-ng on the PATH, but only when the call is to change: it is committed.
"""

from __future__ import annotations

import io
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

RATE_HZ = 16_000
OUT = Path(__file__).resolve().parent.parent / "callscope" / "demo" / "call.ogg"


@dataclass(frozen=True)
class Line:
    """One turn: who, after what pause (negative: over the end of the turn before), how, and what."""

    leg: int
    pause_s: float
    pitch: int
    words_per_minute: int
    gain: float
    text: str


CUSTOMER, AGENT = 0, 1
LINES = (
    Line(AGENT, 0.6, 38, 155, 0.30, "Good morning, Northwind Energy, this is Sam. How can I help you?"),
    Line(CUSTOMER, 0.5, 72, 160, 0.28, "Hello. I am calling about my bill for October. It seems rather high to me."),
    Line(AGENT, 0.4, 38, 155, 0.30, "I am sorry to hear that. May I have your customer number, please?"),
    Line(CUSTOMER, 0.6, 72, 155, 0.28, "Yes, one moment. It is four, seven, two, nine, one."),
    Line(AGENT, 0.5, 38, 155, 0.30, "Thank you. I can see the bill. There was a reading at the end of the month, and"),
    Line(CUSTOMER, -0.9, 84, 195, 0.55, "But nobody came to read the meter! I was at home the whole week!"),
    Line(AGENT, 0.3, 38, 155, 0.30, "I understand. It may have been an estimate, in that case."),
    Line(CUSTOMER, 0.2, 95, 215, 0.70, "An estimate? It is three times what I paid last year! I have called twice!"),
    Line(AGENT, -0.5, 36, 150, 0.30, "You are right, and I apologise. Let me correct that for you now."),
    Line(CUSTOMER, 0.5, 90, 205, 0.62, "And I am not going to pay a reminder fee for your mistake, either!"),
    Line(AGENT, 0.4, 36, 145, 0.28, "You will not have to. The fee is cancelled, and a new bill will be sent today."),
    Line(CUSTOMER, 0.9, 74, 165, 0.34, "Oh. Well, thank you. That is what I wanted to hear."),
    Line(AGENT, 0.5, 38, 150, 0.28, "Is there anything else I can do for you?"),
    Line(CUSTOMER, 0.5, 72, 155, 0.28, "No, that is all. Thank you for your help, Sam. Goodbye."),
    Line(AGENT, 0.4, 38, 150, 0.28, "Thank you for calling. Goodbye."),
)


def speak(line: Line) -> np.ndarray:
    """The line as float samples at 16 kHz, peak at `gain`."""
    voice = "en-gb+f3" if line.leg == CUSTOMER else "en-gb+m3"
    command = ["espeak-ng", "-v", voice, "-p", str(line.pitch), "-s", str(line.words_per_minute), "--stdout", line.text]
    wav = subprocess.run(command, check=True, capture_output=True).stdout
    samples, rate_hz = soundfile.read(io.BytesIO(wav), dtype="float64")
    samples = soxr.resample(samples, rate_hz, RATE_HZ)
    return samples / np.max(np.abs(samples)) * line.gain


def call() -> np.ndarray:
    """Both legs with a little line noise, shape (samples, 2)."""
    turns: list[tuple[int, int, np.ndarray]] = []
    end = 0
    for line in LINES:
        samples = speak(line)
        start = end + int(line.pause_s * RATE_HZ)
        turns.append((line.leg, start, samples))
        end = start + len(samples)
    audio = np.random.default_rng(1).normal(0.0, 0.0006, (end + RATE_HZ, 2))
    for leg, start, samples in turns:
        audio[start : start + len(samples), leg] += samples
    return audio


if __name__ == "__main__":
    audio = call()
    soundfile.write(OUT, audio, RATE_HZ, format="OGG", subtype="VORBIS", compression_level=0.9)
    print(f"{OUT.name}: {len(audio) / RATE_HZ:.1f} s, {OUT.stat().st_size / 1024:.0f} KiB")
