"""What openSMILE says of the shape of one contour: percentiles, peaks and slopes, runs of zero and non-zero.

Each function does what the named component of openSMILE 3.0.2 does with the options of eGeMAPSv02, in the same order
and in the same single precision where a comparison or a short sum depends on it, so that results are its results.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from math import ceil, floor, inf, nextafter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Contour = NDArray[np.float32]
"""Values one row, 10 ms, after the other, shape (n,)."""

_ZERO = np.float32(0)
_PERIOD = np.float32(0.01)
"""Seconds from one row to the next."""
_SALIENT = np.float32(0.1)
"""`relThresh`: a peak or dip smaller than this share of the contour's range is none."""
_SHORTEST_RUN = 3
"""`segMinLng`, rows."""
_SHORTEST_BREAK = 2
"""`pauseMinLng`, rows."""
_NOT_YET, _PERHAPS, _INSIDE = range(3)


class Percentiles(NamedTuple):
    """As `cFunctionalPercentiles` gives them."""

    p20: np.float32
    p50: np.float32
    p80: np.float32
    spread: np.float32
    """From the 20th to the 80th."""


class Slopes(NamedTuple):
    """As `cFunctionalPeaks2` gives them, in units per second."""

    mean_rising: np.float32
    stddev_rising: np.float32
    mean_falling: np.float32
    stddev_falling: np.float32
    peaks: int


class Runs(NamedTuple):
    """As `cFunctionalSegments` gives them."""

    number: int
    mean_s: np.float32
    stddev_s: np.float32


def percentiles(ranked: Contour) -> Percentiles:
    """20th, 50th and 80th, linearly interpolated (`cFunctionalPercentiles`, `interp = 1`).

    Args:
        ranked: at least one value, sorted.
    """
    below, of_below, above, of_above = _between_ranks(len(ranked))
    p20, p50, p80 = ranked[below] * of_below + ranked[above] * of_above
    return Percentiles(p20, p50, p80, abs(p80 - p20))


@lru_cache(maxsize=4_096)
def _between_ranks(count: int) -> tuple[NDArray[np.intp], Contour, NDArray[np.intp], Contour]:
    """Where the three percentiles of so many values lie: the rank below and its weight, the rank above and its."""
    at = [share * (count - 1) for share in (0.2, 0.5, 0.8)]
    below, above = [floor(index) for index in at], [ceil(index) for index in at]
    of_below = [b - index if b != a else 1.0 for index, a, b in zip(at, below, above, strict=True)]
    of_above = [index - a for index, a in zip(at, below, strict=True)]
    return np.array(below), np.array(of_below, np.float32), np.array(above), np.array(of_above, np.float32)


def slopes(contour: Contour, spread: np.float32) -> Slopes:
    """Slopes between the salient peaks and dips (`cFunctionalPeaks2`).

    Two habits of the original are kept: the slope from the last peak to the end counts as falling with its sign
    turned round, and it takes part in the mean and in the count, but not in the sum, of the deviation.

    Args:
        contour: at least one value.
        spread: from its lowest to its highest.
    """
    first, last = contour[0], contour[-1]
    at, height, is_peak = _salient_extremes(contour, spread)
    if not len(at):
        slope = (last - first) / np.float32(len(contour))
        return Slopes(max(_ZERO, slope), _ZERO, min(_ZERO, slope), _ZERO, 0)
    climb, run = height.copy(), at.astype(np.float32)
    climb[0] -= first
    climb[1:] -= height[:-1]
    run[1:] -= at[:-1]
    slope_of = climb / (run * _PERIOD)
    tail = (last - height[-1]) / (np.float32(len(contour) - 1 - at[-1]) * _PERIOD)
    ends_high = is_peak[-1]
    rising = _mean_and_deviation(slope_of[is_peak], None if ends_high else tail)
    falling = _mean_and_deviation(-slope_of[~is_peak], tail if ends_high else None)
    return Slopes(*rising, *falling, int(np.count_nonzero(is_peak)))


def _mean_and_deviation(between: Contour, tail: np.float32 | None) -> tuple[np.float32, np.float32]:
    """Of the slopes between extremes and, in the mean and in the count only, the one at the end of the contour."""
    count = len(between) + (tail is not None)
    if not count:
        return _ZERO, _ZERO
    summed = _sum(between) if tail is None else _sum(between) + tail
    mean = summed / np.float32(count)
    off = between - mean
    return mean, np.sqrt(_sum(off * off) / np.float32(count))


def _sum(values: Contour) -> np.float32:
    """One after the other in single precision, as a loop in C does it."""
    return np.add.accumulate(values)[-1] if len(values) else _ZERO


def _salient_extremes(x: Contour, spread: np.float32) -> tuple[NDArray[np.intp], Contour, NDArray[np.bool_]]:
    """Peaks and dips in turn: where, how high, and which of them are peaks."""
    up, down = x[1:] > x[:-1], x[1:] < x[:-1]
    peak = up[1:-2] & down[2:-1]
    at = (peak | (down[1:-2] & up[2:-1])).nonzero()[0]
    is_peak = peak[at]
    at += 2
    y = x[at]
    heights, kinds, first = y.tolist(), is_peak.tolist(), float(x[0])
    limit = _below_when_rounded(_SALIENT * spread)
    kept = _salient(heights, kinds, _high_enough(heights, kinds, first, limit), first, limit)
    return at[kept], y[kept], is_peak[kept]


def _below_when_rounded(limit: np.float32) -> float:
    """Where a difference lies below this, it lies below the limit when rounded to single precision."""
    before = np.nextafter(limit, _ZERO)
    middle = (float(before) + float(limit)) / 2
    return nextafter(middle, inf) if before.view(np.uint32) % 2 == 0 else middle  # in the middle the even one wins


def _high_enough(heights: list[float], is_peak: list[bool], first: float, limit: float) -> list[int]:
    """Which extremes remain when peaks that rise too little are dropped (step 2a of the original)."""
    kept: list[int] = []
    last_dip = highest = before = first
    holder, after_dip = -1, False
    for i, height in enumerate(heights):
        small = abs(height - before) < limit
        before = height
        if is_peak[i]:
            if small:
                if height - last_dip < limit:
                    continue
                higher = height > highest * 1.05
                if not (higher or after_dip):
                    after_dip = False
                    continue
                if higher and holder >= 0:
                    kept.remove(holder)
            highest, holder, after_dip = height, i, False
        elif not small:
            last_dip, after_dip = height, True
        kept.append(i)
    return kept


def _salient(heights: list[float], is_peak: list[bool], among: list[int], first: float, limit: float) -> list[int]:
    """Without dips that fall too little; then of neighbours of one kind the first extreme one (steps 2b and 3)."""
    kept: list[int] = []
    last_peak, kind = first, None
    for i in among:
        height = heights[i]
        if is_peak[i]:
            last_peak = height
            if kind is not True:
                kept.append(i)
                kind = True
            elif height > heights[kept[-1]]:
                kept[-1] = i
        elif last_peak - height >= limit:
            if kind is not False:
                kept.append(i)
                kind = False
            elif height < heights[kept[-1]]:
                kept[-1] = i
    return kept


def voiced_and_unvoiced_runs(voiced: NDArray[np.bool_]) -> tuple[Runs, Runs]:
    """Runs of pitch other than 0, and of 0 (`cFunctionalSegments`, algorithms `nonX` and `eqX`).

    A run of at least three rows counts, one-row breaks do not end it, and one that ends before the contour does is
    measured one row short, as in the original.

    Args:
        voiced: whether a row has a pitch, at least one.
    """
    edges = [0, *((voiced[1:] != voiced[:-1]).nonzero()[0] + 1).tolist(), len(voiced)]
    begins_voiced = bool(voiced[0])
    return _runs(edges, begins_voiced), _runs(edges, not begins_voiced)


def _runs(edges: list[int], begins_inside: bool) -> Runs:
    lengths: list[int] = []
    state, start, heard, silent = _NOT_YET, 0, 0, 0
    for number, (first, end) in enumerate(pairwise(edges)):
        rows = end - first
        if (number % 2 == 0) == begins_inside:
            if state == _NOT_YET:
                state, start = _PERHAPS, first
            heard, silent = heard + rows, 0
            if heard >= _SHORTEST_RUN:
                state = _INSIDE
        elif state != _NOT_YET:
            silent += rows
            if silent >= _SHORTEST_BREAK:
                if state == _INSIDE:
                    lengths.append(first - 1 - start)
                state, heard, silent = _NOT_YET, 0, 0
    if state == _INSIDE:
        lengths.append(edges[-1] - silent - 1 - start)
    mean, deviation = _mean_and_deviation(np.array(lengths, np.float32), None)
    return Runs(len(lengths), mean * _PERIOD, deviation * _PERIOD)
