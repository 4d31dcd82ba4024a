"""The running picture of a voice: what a screen shows of a window, and what a stream's statistics are merged from."""

from __future__ import annotations

from math import log10, sqrt

import numpy as np
from numpy.typing import NDArray

from processors.records import StreamStatistics, VoiceSummary
from processors.stages.baseline import Baseline
from processors.stages.recent_rows import PrefixSums, RecentRows
from processors.stages.syllables import Syllables

SILENCE_DBFS = -100.0
"""The lowest level that is told."""

_FULL_SCALE = 32_768.0**2
_ROW_S = 0.01
_SHORTEST_RATE_ROWS = 50
"""Half a second: in less, a peak more or less makes the speech rate anything."""

_DESCRIPTORS = (
    "Loudness_sma3",
    "F0semitoneFrom27.5Hz_sma3nz",
    "alphaRatio_sma3",
    "hammarbergIndex_sma3",
    "jitterLocal_sma3nz",
    "shimmerLocaldB_sma3nz",
    "HNRdBACF_sma3nz",
)
"""What the picture is made of. Pitch is 0 in rows without voice, the last three where there is nothing to measure."""
_LOUDNESS, _PITCH, _ALPHA_RATIO, _JITTER = 0, 1, 2, 4
(
    _SUM_LOUDNESS,
    _SUM_PITCH,
    _SUM_ALPHA_RATIO,
    _SUM_HAMMARBERG,
    _SUM_JITTER,
    _SUM_SHIMMER,
    _SUM_HNR,
    _SQUARES_LOUDNESS,
    _SQUARES_PITCH,
    _VOICED,
    _WITH_JITTER,
    _WITH_SHIMMER,
    _WITH_HNR,
    _ENERGY,
) = range(14)


class RunningPicture:
    """Follows one segment; results do not depend on how its rows were grouped.

    Args:
        lld_names: the engine's descriptors, the first columns of each row.
        keep: rows back from the newest that a window may reach, at least.
    """

    def __init__(self, lld_names: tuple[str, ...], keep: int) -> None:
        self._columns = [lld_names.index(name) for name in _DESCRIPTORS]
        self._sums = PrefixSums(_ENERGY + 1, keep)
        self._pitch = RecentRows(None, keep, np.float32)
        self._lowest, self._highest = np.inf, -np.inf
        self._syllables = Syllables()
        self._rows = 0

    def append(self, rows: NDArray[np.float32], energy: NDArray[np.float64]) -> None:
        """Take in the next rows of the segment.

        Args:
            rows: descriptors, shape (n, columns).
            energy: sum of squares of each row's own 160 samples, shape (n,).
        """
        shown = rows[:, self._columns]
        pitch = shown[:, _PITCH]
        voiced = pitch > 0
        summands = np.empty((len(rows), _ENERGY + 1))
        summands[:, :_SQUARES_LOUDNESS] = shown
        summands[:, _SUM_PITCH:_SUM_JITTER] *= voiced[:, None]
        np.multiply(summands[:, :2], summands[:, :2], out=summands[:, _SQUARES_LOUDNESS:_VOICED])
        summands[:, _VOICED] = voiced
        summands[:, _WITH_JITTER:_ENERGY] = shown[:, _JITTER:] != 0
        summands[:, _ENERGY] = energy
        self._sums.append(summands)
        self._pitch.append(pitch)
        self._syllables.append(shown[:, _LOUDNESS], voiced)
        for semitones in pitch.tolist():
            if semitones > 0:
                self._lowest = min(self._lowest, semitones)
                self._highest = max(self._highest, semitones)
        self._rows += len(rows)

    def of(self, first: int, end: int, heard: int) -> VoiceSummary:
        """Of the rows `first` to `end` (not included), at least one.

        Args:
            first: the first row.
            end: the row after the last.
            heard: how many samples of them were heard; the others are silence.

        Raises:
            IndexError: they are no longer, or not yet, known.
        """
        sums = self._sums.between(first, end)
        pitch = self._pitch.between(first, end)
        lowest = float(pitch.min(where=pitch > 0, initial=np.inf))
        mean_square = float(sums[_ENERGY]) / heard if heard else 0.0
        return self._summary(sums, first, end, lowest, float(pitch.max()), mean_square)

    def of_all(self, mean_square: float) -> VoiceSummary:
        """Of the whole segment.

        Args:
            mean_square: of the samples that were heard, those of no row included.
        """
        return self._summary(self._sums.total, 0, self._rows, self._lowest, self._highest, mean_square)

    def add_to(self, statistics: StreamStatistics, summary: VoiceSummary, heard_s: float) -> StreamStatistics:
        """The statistics of a stream's finished segments with this one.

        Args:
            statistics: of the segments before.
            summary: of this segment.
            heard_s: seconds of it that were heard.
        """
        sums = self._sums.total.tolist()

        def with_one(before: Baseline, value: float | None) -> Baseline:
            return before if value is None or not heard_s else before.add((value,), heard_s)

        return StreamStatistics(
            segments=statistics.segments + 1,
            f0=statistics.f0.merge(_moments(sums[_VOICED], sums[_SUM_PITCH], sums[_SQUARES_PITCH])),
            loudness=statistics.loudness.merge(_moments(self._rows, sums[_SUM_LOUDNESS], sums[_SQUARES_LOUDNESS])),
            level_dbfs=with_one(statistics.level_dbfs, summary.level_dbfs),
            speech_rate_hz=with_one(statistics.speech_rate_hz, summary.speech_rate_hz),
        )

    def _summary(
        self, sums: NDArray[np.float64], first: int, end: int, lowest: float, highest: float, mean_square: float
    ) -> VoiceSummary:
        known = sums.tolist()
        rows, voiced = end - first, known[_VOICED]
        f0_mean = _over(known[_SUM_PITCH], voiced)
        return VoiceSummary(
            voiced_share=voiced / rows if rows else 0.0,
            f0_mean=f0_mean,
            f0_stddev=None if f0_mean is None else sqrt(max(0.0, known[_SQUARES_PITCH] / voiced - f0_mean * f0_mean)),
            loudness_mean=known[_SUM_LOUDNESS] / rows if rows else 0.0,
            alpha_ratio_mean=_over(known[_SUM_ALPHA_RATIO], voiced),
            hammarberg_mean=_over(known[_SUM_HAMMARBERG], voiced),
            f0_min=lowest if voiced else None,
            f0_max=highest if voiced else None,
            level_dbfs=max(SILENCE_DBFS, 10 * log10(mean_square / _FULL_SCALE)) if mean_square else SILENCE_DBFS,
            speech_rate_hz=self._rate_hz(first, end),
            jitter_mean=_over(known[_SUM_JITTER], known[_WITH_JITTER]),
            shimmer_db_mean=_over(known[_SUM_SHIMMER], known[_WITH_SHIMMER]),
            hnr_db_mean=_over(known[_SUM_HNR], known[_WITH_HNR]),
        )

    def _rate_hz(self, first: int, end: int) -> float | None:
        if end - first < _SHORTEST_RATE_ROWS:
            return None
        return self._syllables.count(first, end) / ((end - first) * _ROW_S)


def _over(total: float, count: float) -> float | None:
    return total / count if count else None


def _moments(rows: float, total: float, squares: float) -> Baseline:
    """Of one feature over some rows of 10 ms, from its sums."""
    if not rows:
        return Baseline.empty(1)
    return Baseline(rows * _ROW_S, (total / rows,), (max(0.0, squares - total * total / rows) * _ROW_S,))
