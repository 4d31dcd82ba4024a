"""The interface between `extract` and whatever computes the features of a segment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from processors.records import RATE_HZ, Pcm

HOP_SAMPLES = RATE_HZ // 100
"""One low-level descriptor row every 10 ms."""


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
        """The utterance's functionals."""

    def feed(self, pcm: Pcm) -> NDArray[np.float32]:
        """Take in audio.

        Returns:
            The descriptor rows that became known, shape (n, columns); row k of a segment stands for its samples from
            k * `HOP_SAMPLES` on, and is never known before them.
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
