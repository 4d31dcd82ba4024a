"""Spans of time and frames of 10 ms, and the way from one to the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from processors.records import RATE_HZ

GRID = 160
"""Samples of a frame that is counted: 10 ms."""

Span = tuple[float, float]
"""Start and end, seconds of media time."""
Bools = NDArray[np.bool_]


def merge(spans: Iterable[Span], bridged_s: float) -> tuple[Span, ...]:
    """The spans in order, without overlap and without silences shorter than that between them."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and (start <= merged[-1][1] or start - merged[-1][1] < bridged_s):
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif end > start:
            merged.append((start, end))
    return tuple(merged)


def spoken_in(spans: Sequence[Span], frames: int) -> Bools:
    """Whether the middle of each frame lies in one of the spans."""
    middle = (np.arange(frames) + 0.5) * GRID / RATE_HZ
    out = np.zeros(frames, bool)
    for start, end in spans:
        first, last = np.searchsorted(middle, (start, end))
        out[first:last] = True
    return out


def spans_of(spoken: Bools) -> tuple[Span, ...]:
    """Runs of frames that are true, seconds."""
    edges = np.flatnonzero(np.diff(spoken.astype(np.int8), prepend=0, append=0)) * GRID / RATE_HZ
    return tuple(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def on_grid(hops: Sequence[tuple[int, int, float]], frames: int) -> NDArray[np.float64]:
    """A probability for each frame: that of the hop in which its middle lies, or else of the last hop before.

    Args:
        hops: start and length, samples, and probability of each.
        frames: how many frames.
    """
    out = np.full(frames, np.nan)
    for start, length, probability in hops:
        out[-((GRID // 2 - start) // GRID) : -((GRID // 2 - start - length) // GRID)] = probability
    last = np.maximum.accumulate(np.where(np.isnan(out), 0, np.arange(frames))) if frames else np.zeros(0, int)
    return np.asarray(np.nan_to_num(out[last]))


def overlap_s(one: Span, other: Span) -> float:
    """How long two spans have in common, seconds; 0 where they do not meet."""
    return max(0.0, min(one[1], other[1]) - max(one[0], other[0]))


def both_s(some: Sequence[Span], others: Sequence[Span]) -> float:
    """How long spans of two lists overlap, seconds. Each list is in order and without overlap in itself."""
    total, i, k = 0.0, 0, 0
    while i < len(some) and k < len(others):
        total += overlap_s(some[i], others[k])
        if some[i][1] < others[k][1]:
            i += 1
        else:
            k += 1
    return total


def length_s(spans: Iterable[Span]) -> float:
    """The sum of their lengths, seconds."""
    return sum(end - start for start, end in spans)
