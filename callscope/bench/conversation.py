"""Two-party calls of any length, laid out of the utterances of a recording; pure.

Real recordings have their own shares of speech, and a load test needs a known one: each leg of these calls speaks 45 to
50 % of the time, in turns with short pauses between them and now and then over one another, and no two are alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Pcm = NDArray[np.int16]

_BLOCK_S: Final = 0.02
_PAUSE_BLOCKS: Final = 15
"""A pause of 0.3 s ends an utterance."""
_SPEECH_BELOW_PEAK_DB: Final = 32.0
"""Blocks this far below the loudest ones of a leg are pauses."""
_GAP_S: Final = (-0.3, 0.45)
"""Between two turns; below 0 they overlap. With turns of 2 to 4 s, each leg speaks 47 to 49 % of the time."""
_NOISE: Final = 12.0
"""Root mean square of the line's noise: -69 dBFS."""


@dataclass(frozen=True, slots=True, eq=False)
class Conversation:
    """A call.

    Attributes:
        pcm: int16, shape (samples, legs).
        rate_hz: samples a second.
        onsets: of each leg, where its utterances begin, seconds.
        speech_shares: of each leg, how much of the time it speaks, 0 to 1.
    """

    pcm: NDArray[np.int16]
    rate_hz: int
    onsets: tuple[tuple[float, ...], ...]
    speech_shares: tuple[float, ...]


def utterances(pcm: Pcm, rate_hz: int) -> list[Pcm]:
    """What one leg of a recording says between its pauses.

    Args:
        pcm: shape (samples,).
        rate_hz: samples a second.

    Returns:
        Each from its first to its last loud 20 ms, at least 0.2 s long; none for silence.
    """
    block = int(rate_hz * _BLOCK_S)
    loud = np.flatnonzero(_loud_blocks(pcm, rate_hz))
    if not len(loud):
        return []
    breaks = np.flatnonzero(np.diff(loud) > _PAUSE_BLOCKS)
    firsts = [loud[0], *loud[breaks + 1]]
    lasts = [*loud[breaks], loud[-1]]
    spans = zip(firsts, lasts, strict=True)
    return [pcm[first * block : (last + 1) * block] for first, last in spans if last - first >= 10]


def converse(spoken: Sequence[Sequence[Pcm]], rate_hz: int, seconds: float, seed: int) -> Conversation:
    """Lay out a call.

    Args:
        spoken: of each leg, one or two, what it can say.
        rate_hz: of all of it.
        seconds: how long.
        seed: which of the many calls that can be made of it.

    Raises:
        ValueError: a leg has nothing to say.
    """
    if not all(spoken):
        raise ValueError("a leg of the recording holds no speech")
    rng = np.random.default_rng(seed)
    samples = round(seconds * rate_hz)
    audio = rng.normal(0.0, _NOISE, (samples, len(spoken)))
    onsets: list[list[float]] = [[] for _ in spoken]
    said = [0.0] * len(spoken)
    at = round(rng.uniform(0.0, 2.0) * rate_hz)
    nobody = len(spoken) == 1
    while at < samples:
        leg = int(np.argmin(said))
        words = spoken[leg][int(rng.integers(len(spoken[leg])))]
        words = words[: samples - at]
        audio[at : at + len(words), leg] += words
        onsets[leg].append(at / rate_hz)
        said[leg] += len(words)
        pause = len(words) if nobody else 0  # a lone leg listens as long as it spoke
        at = max(0, at + len(words) + pause + round(rng.uniform(*_GAP_S) * rate_hz))
    pcm = np.clip(np.rint(audio), -32_768, 32_767).astype(np.int16)
    return Conversation(pcm, rate_hz, tuple(tuple(leg) for leg in onsets), tuple(spoke / samples for spoke in said))


def _loud_blocks(pcm: Pcm, rate_hz: int) -> NDArray[np.bool_]:
    block = int(rate_hz * _BLOCK_S)
    blocks = pcm[: len(pcm) // block * block].reshape(-1, block).astype(np.float64)
    if not len(blocks):
        return np.zeros(0, np.bool_)
    level_db = 10 * np.log10(np.mean(blocks**2, axis=1) + 1.0)
    loudest = float(np.percentile(level_db, 95))
    loud: NDArray[np.bool_] = level_db > max(loudest - _SPEECH_BELOW_PEAK_DB, 25.0)
    return loud
