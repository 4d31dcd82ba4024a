"""Reads a folder of recordings in EMO-DB's naming: each one as an utterance that the extract stage has described."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import soundfile

from callscope.config import Extract as ExtractConfig
from callscope.streams import StreamId
from processors.records import FeatureWindow, SpeechFrame
from processors.stages.extract import Extract
from processors.stages.opensmile_engine import OpenSmilePool

ANGER, HAPPINESS, SADNESS, NEUTRAL = "WFTN"
"""The sixth character of a file's name."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording.

    Attributes:
        name: of its file.
        speaker: two digits.
        emotion: one letter.
        window: all of it as one segment.
    """

    name: str
    speaker: str
    emotion: str
    window: FeatureWindow


def utterances(folder: Path) -> Iterator[Utterance]:
    """Every recording of a folder, by name.

    Raises:
        SystemExit: one is not 16 kHz, or there is none.
    """
    engines = OpenSmilePool()
    paths = sorted(folder.glob("*.wav"))
    if not paths:
        raise SystemExit(f"{folder} holds no WAV files")
    for path in paths:
        pcm, rate_hz = soundfile.read(path, dtype="int16")
        if rate_hz != 16_000:
            raise SystemExit(f"{path}: {rate_hz} Hz, not 16000")
        stream = StreamId(path.stem, "customer")
        window = Extract(stream, ExtractConfig(), engines).step(SpeechFrame(stream, 0, 0, pcm, last=True))[-1]
        yield Utterance(path.name, path.name[:2], path.name[5], window)
