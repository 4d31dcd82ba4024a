"""What detect costs, with each detector, by how long the records are and how many streams come in one batch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

import callscope.demo
from callscope.config import Detect as DetectConfig
from callscope.config import DetectorName
from callscope.streams import StreamId
from processors.records import RATE_HZ, AudioFrame, Envelope, Ledger, Pcm
from processors.stages.detect import Detect
from processors.streams import DetectStreams

CALL = Path(callscope.demo.__file__).parent / "call.ogg"
CASES: tuple[tuple[DetectorName, int, int | None], ...] = (
    ("silero", 20, None),
    ("silero", 100, None),
    ("silero", 20, 4),
    ("webrtc", 20, None),
    ("webrtc", 100, None),
    ("energy", 20, None),
    ("energy", 100, None),
)
"""Detector, milliseconds a record, streams in one batch (None: all)."""


def measure(streams: int, seconds: int) -> Iterator[tuple[str, float]]:
    """Each case, and its CPU milliseconds per second of audio and stream."""
    audio, rate_hz = soundfile.read(CALL, dtype="float32", always_2d=True)
    pcm = np.asarray(soxr.resample(audio[:, 0], rate_hz, RATE_HZ) * 32_767, np.int16)
    for detector, record_ms, together in CASES:
        together = together or streams
        cost_ms = cost_of(detector, np.resize(pcm, seconds * RATE_HZ), streams, record_ms, together)
        yield f"{detector}, records of {record_ms} ms, {together} streams in a batch", cost_ms


def cost_of(detector: DetectorName, pcm: Pcm, streams: int, record_ms: int, together: int) -> float:
    """CPU milliseconds per second of audio and stream; each stream hears the recording from another place."""
    length = record_ms * RATE_HZ // 1_000
    heard = {StreamId(f"call-{n}", "customer"): np.roll(pcm, -n * len(pcm) // streams) for n in range(streams)}
    config = DetectConfig(detector=detector)
    detect = DetectStreams(lambda stream: Detect(stream, config), lambda: 0, 600.0)
    began = 0.0
    count = len(pcm) // length
    for seq in range(count):
        at = seq * length
        frames = [Envelope(AudioFrame(s, seq, at, x[at : at + length]), Ledger(arrived_ns=1)) for s, x in heard.items()]
        if seq == 1:  # the first one made the stages
            began = time.process_time()
        for first in range(0, streams, together):
            detect(frames[first : first + together])
    return (time.process_time() - began) * 1e3 / ((count - 1) * length / RATE_HZ) / streams
