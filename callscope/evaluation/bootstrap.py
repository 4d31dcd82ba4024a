"""How far a score might lie elsewhere with other calls of the same kind: intervals by resampling calls.

The percentile bootstrap (Efron 1979): calls are drawn with replacement, as many as there are, over and over; the middle
95 % of what the score comes to is its interval. Calls are drawn, not frames: frames of one call are not independent.
A comparison draws the same calls for both sides (paired), so that what makes a call hard for both does not widen it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Measure = Callable[[Sequence[T]], dict[str, float]]

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a value lies in 95 % of the resamples; NaN where it has no value in most of them.

    Attributes:
        low: lower end.
        high: upper end.
        above: share of resamples in which the value is above 0; of equal ones half.
    """

    low: float
    high: float
    above: float


def draws(calls: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """Which calls each resample is made of, shape (resamples, calls); the same for the same numbers."""
    return np.random.default_rng(seed).integers(0, max(1, calls), (resamples, calls))


def values(tallies: Sequence[T], measure: Measure[T], chosen: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Every measure of every resample.

    Args:
        tallies: one a call.
        measure: scores of some calls together.
        chosen: as `draws` gives it.

    Returns:
        Measure → shape (resamples,).
    """
    rows = [measure([tallies[i] for i in of_one]) for of_one in chosen]
    return {name: np.array([row.get(name, np.nan) for row in rows]) for name in (rows[0] if rows else ())}


NO_INTERVAL = Interval(np.nan, np.nan, np.nan)


def interval(resampled: NDArray[np.float64], calls: int) -> Interval:
    """The interval of a value, or of a difference, over resamples; those in which it has none are left out.

    Args:
        resampled: shape (resamples,).
        calls: how many there are to draw from; one call says nothing of others.
    """
    known = resampled[np.isfinite(resampled)]
    if calls < 2 or len(known) < max(1, len(resampled) / 2):
        return NO_INTERVAL
    low, high = np.quantile(known, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(float(low), float(high), float((known > 0).mean() + (known == 0).mean() / 2))
