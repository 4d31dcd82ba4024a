"""The 88 functionals of eGeMAPSv02 over any window of rows, equal to those that openSMILE has of whole inputs.

openSMILE computes functionals when its input ends, or on windows of one fixed length. A live screen wants them of the
last seconds, however many there are. Here they are computed from the rows that the engine hands out anyway: moments
from running sums, in double precision; the rest from the contours of pitch and loudness (`functionals_contour`).
Held to openSMILE on the same rows by tests/processors/stages/test_functionals.py, to within 1e-4 relative; see
docs/decisions/0010-functionals-of-our-own.md.

The feature set: F. Eyben et al., The Geneva Minimalistic Acoustic Parameter Set, IEEE Trans. Affective Computing 7(2),
2016; its openSMILE configuration: eGeMAPSv02_core.func.conf.inc and GeMAPSv01b_core.func.conf.inc.
"""

from __future__ import annotations

from math import log

import numpy as np
from numpy.typing import NDArray

from callscope.feature_sets import EGEMAPS_LLDS
from processors.stages.functionals_contour import percentiles, slopes, voiced_and_unvoiced_runs
from processors.stages.recent_rows import PrefixSums, RecentRows

FUNCTIONAL_COUNT = 88

_PITCH = "F0semitoneFrom27.5Hz_sma3nz"
_LOUDNESS = "Loudness_sma3"
_OF_ALL_ROWS = ("spectralFlux_sma3", "mfcc1_sma3", "mfcc2_sma3", "mfcc3_sma3", "mfcc4_sma3")
_VOICE_QUALITY = EGEMAPS_LLDS[EGEMAPS_LLDS.index("jitterLocal_sma3nz") :]
_VOICED = (
    "alphaRatioV_sma3nz",
    "hammarbergIndexV_sma3nz",
    "slopeV0-500_sma3nz",
    "slopeV500-1500_sma3nz",
    "spectralFluxV_sma3nz",
    "mfcc1V_sma3nz",
    "mfcc2V_sma3nz",
    "mfcc3V_sma3nz",
    "mfcc4V_sma3nz",
)
_UNVOICED = (
    "alphaRatioUV_sma3nz",
    "hammarbergIndexUV_sma3nz",
    "slopeUV0-500_sma3nz",
    "slopeUV500-1500_sma3nz",
    "spectralFluxUV_sma3nz",
)
_ENERGY = "pcm_SQUAREDenergy"

INNER_NAMES = (*_VOICE_QUALITY, *_VOICED, *_UNVOICED, _ENERGY)
"""Columns an engine must hand out behind its descriptors: what the functionals rest on and the descriptors do not show.

Formants and spectral measures with the rows of the other voicing set to 0 *before* they were smoothed, and the mean
square of each 20 ms."""

_PITCH_AT, _LOUDNESS_AT = 0, 1
"""Among the columns whose moments are taken: pitch, loudness, `_OF_ALL_ROWS`, then `INNER_NAMES`."""
_COLUMNS = 2 + len(_OF_ALL_ROWS) + len(INNER_NAMES)
_ENERGY_AT = _COLUMNS - 1
_ZEROS_COUNT = np.zeros(_COLUMNS, np.bool_)
_ZEROS_COUNT[[*range(_LOUDNESS_AT, _LOUDNESS_AT + 1 + len(_OF_ALL_ROWS)), _ENERGY_AT]] = True
"""Where a zero is a value like any other; elsewhere it says that there is none."""
_WITH_DEVIATION = _ENERGY_AT - len(_UNVOICED)
"""This many columns have a mean and, behind it, a deviation; the unvoiced ones a mean only."""

_PITCH_OUT, _LOUDNESS_OUT, _MOMENTS_OUT, _UNVOICED_OUT = 2, 10, 20, 76
_TEMPORAL_OUT, _LEVEL_OUT = 81, 87
_DEVIATIONS_OUT = np.concatenate(([0, _LOUDNESS_OUT], np.arange(_MOMENTS_OUT, _UNVOICED_OUT, 2))) + 1
_MEANS_OUT = np.concatenate((_DEVIATIONS_OUT - 1, np.arange(_UNVOICED_OUT, _TEMPORAL_OUT)))

_ENERGY_FLOOR = np.float32(1e-12)
"""openSMILE's `logfloor`."""
_DOUBTFUL = 1e-8
"""Where a sum of squares has lost this share of the total it was taken from, it is taken again from the rows."""


class Functionals:
    """The rows of one segment, and functionals of any window of its recent past.

    Results depend on the rows of the segment up to the window's end, not on how they came, and on those before the
    window by rounding only (double precision).

    Args:
        lld_names: the engine's descriptors, the first columns of each row; `INNER_NAMES` follow.
        keep: rows back from the newest that a window may reach, at least.
    """

    def __init__(self, lld_names: tuple[str, ...], keep: int) -> None:
        behind = len(lld_names)
        self._columns = np.array(
            [
                *(lld_names.index(name) for name in (_PITCH, _LOUDNESS, *_OF_ALL_ROWS)),
                *range(behind, behind + len(INNER_NAMES)),
            ]
        )
        self._rows = RecentRows(_COLUMNS, keep, np.float32)
        self._pitch = RecentRows(None, keep, np.float32)
        self._loudness = RecentRows(None, keep, np.float32)
        self._sums = PrefixSums(3 * _COLUMNS, keep)
        self._origin = np.zeros(_COLUMNS)
        """First value of each column: sums are taken of the distance to it, which loses fewer digits."""
        self._known = np.zeros(_COLUMNS, np.bool_)
        self._all_known = False

    def append(self, rows: NDArray[np.float32]) -> None:
        """Take in the next rows, shape (n, descriptors + inner columns)."""
        rows = rows[:, self._columns]
        if not self._all_known and len(rows):
            self._find_origins(rows)
        summands = np.empty((len(rows), 3, _COLUMNS))
        apart, squares, counts = summands[:, 0], summands[:, 1], summands[:, 2]
        np.not_equal(rows, 0, out=counts)
        np.maximum(counts, _ZEROS_COUNT, out=counts)
        np.subtract(rows, self._origin, out=apart)
        np.multiply(apart, counts, out=apart)
        np.multiply(apart, apart, out=squares)
        self._sums.append(summands.reshape(-1, 3 * _COLUMNS))
        self._rows.append(rows)
        self._pitch.append(rows[:, _PITCH_AT])
        self._loudness.append(rows[:, _LOUDNESS_AT])

    def _find_origins(self, rows: NDArray[np.float32]) -> None:
        counts = (rows != 0) | _ZEROS_COUNT
        new = counts.any(axis=0) & ~self._known
        self._origin[new] = rows[counts.argmax(axis=0)[new], new]
        self._known |= new
        self._all_known = bool(self._known.all())

    def of(self, first: int, end: int) -> NDArray[np.float32]:
        """Functionals over the rows `first` to `end` (not included), at least one, in openSMILE's order, shape (88,).

        As in openSMILE, what has no row to rest on (the pitch of a window without voice) is 0.

        Raises:
            IndexError: some of these rows are no longer, or not yet, known.
        """
        out = np.zeros(FUNCTIONAL_COUNT, np.float32)
        self._moments(first, end, out)

        pitch, loudness = self._pitch.between(first, end), self._loudness.between(first, end)
        voicing = pitch != 0
        pitch = pitch[voicing]
        if len(pitch):
            ranked = np.sort(pitch)
            out[_PITCH_OUT:_LOUDNESS_OUT] = (*percentiles(ranked), *slopes(pitch, ranked[-1] - ranked[0])[:4])
        ranked = np.sort(loudness)
        shape = slopes(loudness, ranked[-1] - ranked[0])
        out[_LOUDNESS_OUT + 2 : _MOMENTS_OUT] = (*percentiles(ranked), *shape[:4])

        seconds = np.float32(end - first) * np.float32(0.01)
        runs, pauses = voiced_and_unvoiced_runs(voicing)
        out[_TEMPORAL_OUT:_LEVEL_OUT] = (
            np.float32(shape.peaks) / seconds,
            np.float32(runs.number) / seconds,
            runs.mean_s,
            runs.stddev_s,
            pauses.mean_s,
            pauses.stddev_s,
        )
        return out

    def _moments(self, first: int, end: int, out: NDArray[np.float32]) -> None:
        apart, squares, counts = self._sums.between(first, end).reshape(3, _COLUMNS)
        rests_on = np.maximum(counts, 1)
        mean_apart = apart / rests_on
        exact = np.where(counts > 0, self._origin + mean_apart, 0.0)
        mean = exact.astype(np.float32)
        variance = squares / rests_on - mean_apart * mean_apart
        total = self._sums.total[_COLUMNS : 2 * _COLUMNS]
        doubtful = variance * rests_on < _DOUBTFUL * total
        doubtful[_WITH_DEVIATION:] = False
        if doubtful.any():
            rows = self._rows.between(first, end)[:, doubtful]
            off = rows - exact[doubtful]
            off[(rows == 0) & ~_ZEROS_COUNT[doubtful]] = 0.0
            variance[doubtful] = (off * off).sum(axis=0) / rests_on[doubtful]
        # openSMILE takes the deviation from the mean as rounded to single precision, and divides by that
        rounded = mean.astype(np.float64)
        variance += (exact - rounded) ** 2
        variance[counts == 0] = 0.0
        deviation = np.sqrt(np.maximum(variance, 0.0)) / np.where(rounded == 0, 1.0, rounded)
        out[_MEANS_OUT] = mean[:_ENERGY_AT]
        out[_DEVIATIONS_OUT] = deviation[:_WITH_DEVIATION]
        energy = max(mean[_ENERGY_AT], _ENERGY_FLOOR)
        out[_LEVEL_OUT] = np.float32(10 / log(10)) * np.float32(log(energy))
