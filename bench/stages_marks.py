"""What it costs a worker to say, once a second, how its streams can be rebuilt: the marks of all stages, as bytes."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import soundfile

from bench.stages_detect import CALL
from callscope.config import load
from callscope.streams import StreamId
from callscope.topics import AUDIO_FRAMES
from processors import mark_wire
from processors.app import build_pipeline
from processors.records import RATE_HZ, AudioFrame, Envelope, Ledger

RECORD = RATE_HZ // 10


def measure(streams: int, seconds: int) -> Iterator[tuple[str, float]]:
    """The pipeline without its marks, and the marks, in CPU milliseconds per second of audio and stream."""
    audio, _ = soundfile.read(CALL, dtype="int16", always_2d=True)
    pcm = np.resize(audio[:, 0], seconds * RATE_HZ)
    heard = {StreamId(f"call-{n}", "customer"): np.roll(pcm, -n * len(pcm) // streams) for n in range(streams)}
    pipeline = build_pipeline(load())
    analysis = marks = 0.0
    size = 0
    for number in range(seconds * 10):
        at = number * RECORD
        frames = [
            Envelope(AudioFrame(s, number, at, x[at : at + RECORD]), Ledger(arrived_ns=at + 1), number)
            for s, x in heard.items()
        ]
        began = time.process_time()
        pipeline(frames)
        between = time.process_time()
        analysis += between - began
        if number % 10 == 9:
            values = [
                mark_wire.encode("callscope-fused", AUDIO_FRAMES.name, kept.mark)
                for kept in pipeline.kept()
                if kept.mark is not None
            ]
            marks += time.process_time() - between
            size = sum(map(len, values)) // len(values)
    pipeline.drop(lambda stream: True)
    yield "all stages fused, records of 100 ms", analysis * 1e3 / seconds / streams
    yield f"their marks, {size} bytes each, once a second", marks * 1e3 / seconds / streams
