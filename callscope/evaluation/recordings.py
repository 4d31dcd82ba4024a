"""Recordings as calls: audio files of any kind that libsndfile reads, one leg a channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from callscope.errors import BadEvaluation
from callscope.streams import StreamId
from processors.records import FRAME_SAMPLES, RATE_HZ, AudioFrame, Consent, Pcm

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif")


@dataclass(frozen=True, eq=False)
class Call:
    """A call, or a recording that is taken for one.

    Attributes:
        name: call id, or the file's name without its ending.
        legs: leg → its records, in order; the last one ends the stream.
        consents: what its speakers allowed or refused.
    """

    name: str
    legs: Mapping[str, Sequence[AudioFrame]]
    consents: Sequence[Consent] = ()

    @property
    def length_s(self) -> float:
        """Of its longest leg."""
        return max((end_of(records) for records in self.legs.values()), default=0) / RATE_HZ


def end_of(records: Sequence[AudioFrame]) -> int:
    """Media time at which a stream's audio ends, samples."""
    return max((record.start + len(record.pcm) for record in records), default=0)


def audio_of(records: Sequence[AudioFrame], start: int, end: int) -> Pcm:
    """The audio of a stretch of a stream, silence where there is none.

    Args:
        records: of the stream.
        start: media time, samples.
        end: media time, samples.
    """
    out = np.zeros(max(0, end - start), np.int16)
    for record in records:
        a, b = max(start, record.start), min(end, record.start + len(record.pcm))
        if a < b:
            out[a - start : b - start] = record.pcm[a - record.start : b - record.start]
    return out


def files_of(path: Path) -> list[Path]:
    """The audio files of a folder and those below it, by name; or the file itself.

    Raises:
        BadEvaluation: there is none, or two have the same name.
    """
    if path.is_file():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not found:
        raise BadEvaluation(f"{path} holds no audio files ({', '.join(SUFFIXES)}) and is no export.")
    by_name: dict[str, Path] = {}
    for file in found:
        if by_name.setdefault(file.stem, file) != file:
            raise BadEvaluation(f"{by_name[file.stem]} and {file} have the same name; labels cannot tell them apart.")
    return found


def read_call(path: Path, legs: Sequence[str], mono: bool) -> Call:
    """A file as a call, in records of 20 ms.

    Args:
        path: the file.
        legs: names of the channels, left first; a file of one channel is the first of them.
        mono: take all channels as one.

    Raises:
        BadEvaluation: it cannot be read, or has more channels than there are names.
    """
    try:
        audio, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise BadEvaluation(f"{path} cannot be read as audio ({error}).") from error
    channels = [audio.mean(axis=1)] if mono else list(audio.T)
    if len(channels) > len(legs):
        raise BadEvaluation(f"{path} has {len(channels)} channels, --legs names {len(legs)}.")
    named = zip(legs, channels, strict=False)
    return Call(
        path.stem,
        {leg: framed(StreamId(path.stem, leg), to_pcm(soxr.resample(x, rate_hz, RATE_HZ))) for leg, x in named},
    )


def to_pcm(audio: NDArray[np.float32]) -> Pcm:
    """Rounded and clipped; whole 20 ms frames."""
    whole = len(audio) // FRAME_SAMPLES * FRAME_SAMPLES
    return np.asarray(np.clip(np.round(audio[:whole] * 32_768), -32_768, 32_767), np.int16)


def framed(stream: StreamId, pcm: Pcm, lost: Sequence[bool] | NDArray[np.bool_] = ()) -> list[AudioFrame]:
    """Audio as records of 20 ms.

    Args:
        stream: whose it is.
        pcm: whole frames.
        lost: which frames are holes; empty: none.
    """
    records: list[AudioFrame] = []
    gap = 0
    frames = len(pcm) // FRAME_SAMPLES
    for number in range(frames):
        if len(lost) and lost[number]:
            gap += FRAME_SAMPLES
            continue
        at = number * FRAME_SAMPLES
        records.append(AudioFrame(stream, len(records), at, pcm[at : at + FRAME_SAMPLES], gap))
        gap = 0
    end = frames * FRAME_SAMPLES
    return [*records, AudioFrame(stream, len(records), end, pcm[:0], gap, last=True)]
