"""The interface between `extract` and whatever computes the features of a segment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from processors.records import RATE_HZ, Pcm

HOP_SAMPLES = RATE_HZ // 100
"""One low-level descriptor row every 10 ms."""


class WindowFunctionals(Protocol):
    """Functionals of any window of one segment's rows; they depend on the rows only, not on how they were grouped."""

    def append(self, rows: NDArray[np.float32]) -> None:
        """Take in the next rows, as `FeatureEngine.feed` gives them."""

    def of(self, first: int, end: int) -> NDArray[np.float32]:
        """Functionals of the rows `first` to `end` (not included), at least one, shape (functionals,).

        Raises:
            IndexError: some of these rows are no longer, or not yet, known.
        """


class FeatureEngine(Protocol):
    """Computes the features of one segment, from its first sample on.

    Results depend on the audio only, not on how it was cut into calls, nor on what the engine did before.
    """

    @property
    def feature_set(self) -> str:
        """Goes into `FeatureWindow.feature_set`."""

    @property
    def lld_names(self) -> tuple[str, ...]:
        """The columns of the low-level descriptors."""

    @property
    def functional_names(self) -> tuple[str, ...]:
        """The functionals, of windows and of utterances."""

    @property
    def delay(self) -> int:
        """Samples from the end of a row's own 10 ms to the earliest moment at which the row can be known."""

    def window_functionals(self, keep: int) -> WindowFunctionals:
        """What computes functionals of windows of this segment.

        Args:
            keep: rows back from the newest that a window may reach, at least.
        """

    def feed(self, pcm: Pcm) -> NDArray[np.float32]:
        """Take in audio.

        Returns:
            The rows that became known, shape (n, columns): the descriptors, and behind them what only functionals
            need. Row k of a segment stands for its samples from k * `HOP_SAMPLES` on, and is never known before them.
        """

    def finish(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The segment has ended.

        Returns:
            The remaining rows, and the functionals of the whole segment, shape (functionals,) or (0,) where it is
            too short to have any.
        """

    def close(self) -> None:
        """Give the engine back; it must not be used any more. Allowed at any time."""


EngineFactory = Callable[[], FeatureEngine]
