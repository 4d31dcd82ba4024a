"""Does a long stream stay as it began: one recording looped for half an hour, through the stage `detect`.

Run `make bench-drift DATA=recording.wav`, or `python -m bench.drift recording.wav [--minutes 30]`. As fast as it goes,
in media time. The share of speech in each minute of the recording is compared with that in the same minute of the later
loops. They differ by a percent without any drift, as the loops fall differently on the detector's hops. Memory is the
process' resident set, after the first minute and at the end.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import psutil
import soundfile
import soxr
from rich.console import Console
from rich.progress import track
from rich.table import Table

from callscope.config import Detect as DetectConfig
from callscope.streams import StreamId
from processors.records import FRAME_SAMPLES, RATE_HZ, ActivityKind, AudioFrame, Envelope, Pcm, VoiceActivity
from processors.stages.detect import Detect
from processors.streams import DetectStreams

MINUTE = 60 * RATE_HZ
ALLOWED = 0.02


def legs_of(path: Path) -> list[Pcm]:
    """Each channel at 16 kHz, whole 20 ms frames."""
    audio, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    wide = np.asarray((soxr.resample(audio, rate_hz, RATE_HZ) * 32_768).round().clip(-32_768, 32_767), np.int16)
    return [np.ascontiguousarray(leg[: len(leg) // FRAME_SAMPLES * FRAME_SAMPLES]) for leg in wide.T]


def main() -> None:
    """Print speech share by minute of the recording, of the first loop and of the one that differs most."""
    parser = argparse.ArgumentParser(description="A long stream: no growth of memory, no drift of the detector.")
    parser.add_argument("recording", type=Path)
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--detector", choices=("silero", "webrtc", "energy"), default="silero")
    options = parser.parse_args()
    legs = legs_of(options.recording)
    config = DetectConfig(detector=options.detector)
    detect = DetectStreams(lambda stream: Detect(stream, config), lambda: 0, 600.0)
    ids = [StreamId("drift", f"leg-{n}") for n in range(len(legs))]
    length = len(legs[0])
    loops = max(2, round(options.minutes * MINUTE / length))
    speech = {stream: np.zeros(loops * length // FRAME_SAMPLES, bool) for stream in ids}
    process = psutil.Process()
    memory: list[int] = []
    console = Console()
    for seq in track(range(loops * length // FRAME_SAMPLES), "Listening", console=Console(stderr=True)):
        at = seq * FRAME_SAMPLES
        cut = slice(at % length, at % length + FRAME_SAMPLES)
        last = seq == loops * length // FRAME_SAMPLES - 1
        frames = [Envelope(AudioFrame(s, seq, at, leg[cut], last=last)) for s, leg in zip(ids, legs, strict=True)]
        for envelope in detect(frames):
            record = envelope.record
            if isinstance(record, VoiceActivity) and record.kind is ActivityKind.SPEECH_END:
                span = slice(record.start // FRAME_SAMPLES, (record.start + record.duration) // FRAME_SAMPLES)
                speech[record.stream][span] = True
        if (at + FRAME_SAMPLES) % MINUTE == 0:
            memory.append(process.memory_info().rss)

    table = Table(title=f"{options.recording.name}: {loops} loops of {length / RATE_HZ:.0f} s, {options.detector}")
    for heading in ("leg", "minute", "speech in loop 1", "farthest from it", "difference"):
        table.add_column(heading, justify="right")
    worst = 0.0
    for stream, heard in speech.items():
        shares_of: dict[str, list[float]] = defaultdict(list)
        for loop in heard.reshape(loops, -1):
            for minute in range(len(loop) * FRAME_SAMPLES // MINUTE):
                part = loop[minute * MINUTE // FRAME_SAMPLES : (minute + 1) * MINUTE // FRAME_SAMPLES]
                shares_of[str(minute + 1)].append(float(part.mean()))
            shares_of["all"].append(float(loop.mean()))
        for minutes, shares in sorted(shares_of.items()):
            far = max(shares, key=lambda share: abs(share - shares[0]))
            worst = max(worst, abs(far - shares[0]))
            table.add_row(stream.leg, minutes, f"{shares[0]:.2%}", f"{far:.2%}", f"{far - shares[0]:+.2%}")
    console.print(table)
    grown = (memory[-1] - memory[0]) / 1e6
    console.print(f"Memory after minute 1: {memory[0] / 1e6:.1f} MB, at the end {grown:+.1f} MB.")
    if worst > ALLOWED:
        sys.exit(f"The share of speech moved by {worst:.1%}, more than {ALLOWED:.0%}.")


if __name__ == "__main__":
    main()
