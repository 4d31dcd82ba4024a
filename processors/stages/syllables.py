"""Finds the peaks of loudness that syllables make.

After N. H. de Jong & T. Wempe, Praat script to detect syllable nuclei and measure speech rate automatically, Behavior
Research Methods 41(2), 2009: a syllable's nucleus is a voiced peak of intensity, at most 25 dB below the loudest, with
dips of at least 2 dB around it. Two things differ. The contour is openSMILE's loudness (smoothed over 30 ms) told as a
level: loudness goes with the power 0.33 of intensity (the `compression` of eGeMAPS), so that 2 dB stay 2 dB. And
"the loudest" is the loudest so far, since a live stream does not know what comes.
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

_DIP_DB = 2.0
_RANGE_DB = 25.0
_DB_PER_DECADE = 10 / 0.33
_SILENT = 1e-3
"""Loudness below which the contour is flat: about -90 dB re loud speech."""


class Syllables:
    """Follows one segment's loudness; results do not depend on how its rows were grouped."""

    def __init__(self) -> None:
        self._peaks: list[int] = []
        """Rows of the nuclei found so far."""
        self._rows = 0
        self._loudest = -np.inf
        self._rising = True
        self._low = np.inf
        """Lowest level since the last peak."""
        self._high, self._high_row, self._high_voiced = -np.inf, 0, False
        """Highest level since the last dip; voiced if one of the rows around it is."""
        self._was_voiced = False

    def append(self, loudness: NDArray[np.float32], voiced: NDArray[np.bool_]) -> None:
        """Take in the next rows of the segment, both of shape (n,)."""
        levels = _DB_PER_DECADE * np.log10(np.maximum(loudness, _SILENT).astype(np.float64))
        for row, (level, is_voiced) in enumerate(zip(levels.tolist(), voiced.tolist(), strict=True), self._rows):
            if level > self._loudest:
                self._loudest = level
            if self._low == np.inf:
                self._low = level
            if self._rising:
                if level > self._high:
                    self._high, self._high_row, self._high_voiced = level, row, is_voiced or self._was_voiced
                elif is_voiced and row == self._high_row + 1:
                    self._high_voiced = True
                if self._high - level >= _DIP_DB:
                    if self._is_nucleus():
                        self._peaks.append(self._high_row)
                    self._rising, self._low = False, level
            elif level < self._low:
                self._low = level
            elif level - self._low >= _DIP_DB:
                self._rising = True
                self._high, self._high_row, self._high_voiced = level, row, is_voiced or self._was_voiced
            self._was_voiced = is_voiced
        self._rows += len(levels)

    def count(self, first: int, end: int) -> int:
        """Nuclei in the rows `first` to `end` (not included), one whose falling side is not known yet included."""
        found = bisect_left(self._peaks, end) - bisect_left(self._peaks, first)
        return found + (self._rising and first <= self._high_row < end and self._is_nucleus())

    def _is_nucleus(self) -> bool:
        return self._high_voiced and self._high - self._low >= _DIP_DB and self._high > self._loudest - _RANGE_DB
