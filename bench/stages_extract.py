"""What extract costs, engine and functionals apart, beside the naive design: a 5 s window recomputed for every hop."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import opensmile
import soundfile
import soxr

import callscope.demo
from callscope.config import Detect as DetectConfig
from callscope.config import Extract as ExtractConfig
from callscope.streams import StreamId
from processors.extract_streams import ExtractStreams
from processors.records import RATE_HZ, AudioFrame, Envelope, Pcm, SpeechFrame
from processors.stages.detect import Detect
from processors.stages.engine import EngineFactory
from processors.stages.extract import Extract
from processors.stages.opensmile_engine import OpenSmilePool

CALL = Path(callscope.demo.__file__).parent / "call.ogg"
RECORD = RATE_HZ // 50
SEGMENT_S = 8
WARM_UP_S = 1
NAIVE_HOPS = 20


def measure(streams: int, seconds: int) -> Iterator[tuple[str, float]]:
    """The stage, its parts, and the naive design: CPU milliseconds per second of speech and stream."""
    pcm = np.resize(speech(), (seconds + WARM_UP_S) * RATE_HZ)
    spent: dict[str, float] = defaultdict(float)
    pool = OpenSmilePool()
    pool.warm(streams)
    yield "records of 20 ms", cost_of(pcm, streams, pool, spent)
    cost_of(pcm, streams, lambda: Timed(pool(), spent), spent)
    per_second = 1e3 / seconds / streams
    yield "  of which the engine", spent["engine"] * per_second
    yield "  of which functionals of windows", spent["functionals"] * per_second
    yield "naive: 5 s through opensmile.Smile every 100 ms", naive(pcm)


def speech() -> Pcm:
    """What detect takes for speech in the demo's call."""
    audio, rate_hz = soundfile.read(CALL, dtype="float32", always_2d=True)
    pcm = np.asarray(soxr.resample(audio[:, 0], rate_hz, RATE_HZ) * 32_767, np.int16)
    detect = Detect(StreamId("call", "customer"), DetectConfig(detector="webrtc"))
    whole = len(pcm) // RECORD * RECORD
    heard = [*detect.step(AudioFrame(StreamId("call", "customer"), 0, 0, pcm[:whole], last=True)), *detect.flush()]
    return np.concatenate([record.pcm for record in heard if isinstance(record, SpeechFrame)])


def cost_of(pcm: Pcm, streams: int, engines: EngineFactory, spent: dict[str, float]) -> float:
    """Every stream speaks all the time, from another place of the recording; they take turns every 20 ms."""
    voices = {StreamId(f"call-{n}", "customer"): np.roll(pcm, -n * len(pcm) // streams) for n in range(streams)}
    extract = ExtractStreams(lambda stream: Extract(stream, ExtractConfig(), engines), lambda: 0)
    cost_s = 0.0
    for at in range(0, len(pcm), RECORD):
        if at == WARM_UP_S * RATE_HZ:
            spent.clear()
            cost_s = 0.0
        segment = at // (SEGMENT_S * RATE_HZ) * SEGMENT_S * RATE_HZ
        last = at + RECORD == segment + SEGMENT_S * RATE_HZ
        turn = [Envelope(SpeechFrame(s, segment, at, voice[at : at + RECORD], last)) for s, voice in voices.items()]
        began = time.process_time()
        extract(turn)
        cost_s += time.process_time() - began
    extract.drop(lambda _: True)
    return cost_s * 1e3 / (len(pcm) / RATE_HZ - WARM_UP_S) / streams


def naive(pcm: Pcm) -> float:
    """Each hop by itself, of one stream; functionals only, no descriptors."""
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    signal = np.resize(pcm, (5 * 10 + NAIVE_HOPS) * RATE_HZ // 10).astype(np.float32) / 32_768
    began = time.process_time()
    for hop in range(NAIVE_HOPS):
        smile.process_signal(signal[hop * RATE_HZ // 10 :][: 5 * RATE_HZ], RATE_HZ)
    return (time.process_time() - began) * 1e3 / (NAIVE_HOPS / 10)


class Timed:
    """An object whose calls are timed under a name; what makes functionals is handed out timed, too."""

    def __init__(self, inner: Any, spent: dict[str, float], name: str = "engine") -> None:
        self._inner, self._spent, self._name = inner, spent, name

    def window_functionals(self, keep: int) -> Timed:
        """As the engine's."""
        return Timed(self._inner.window_functionals(keep), self._spent, "functionals")

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._timed(found) if callable(found) else found

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            began = time.process_time()
            try:
                return call(*arguments)
            finally:
                self._spent[self._name] += time.process_time() - began

        return timed
