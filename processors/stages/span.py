"""Level and probability of what was heard over some hops."""

from __future__ import annotations

import math
from dataclasses import dataclass

SILENCE_DBFS = -100.0
"""The lowest level that is told."""


@dataclass(slots=True)
class Span:
    """Sums over hops. Energy is summed in integers: exact in any order.

    Attributes:
        start: media time, samples.
        samples: that were heard.
        energy: sum of their squares.
        probability: sum of the hops' speech probabilities.
        hops: of which any were heard.
    """

    start: int
    samples: int = 0
    energy: int = 0
    probability: float = 0.0
    hops: int = 0

    def add(self, samples: int, energy: int, probability: float) -> None:
        """Take in a hop, unless nothing of it was heard."""
        if samples:
            self.samples += samples
            self.energy += energy
            self.probability += probability
            self.hops += 1

    def absorb(self, other: Span) -> None:
        """Take in what another span has."""
        self.samples += other.samples
        self.energy += other.energy
        self.probability += other.probability
        self.hops += other.hops

    @property
    def mean_probability(self) -> float:
        """0 where nothing was heard."""
        return self.probability / self.hops if self.hops else 0.0

    @property
    def level_dbfs(self) -> float:
        """Root mean square, dB re full scale, at least `SILENCE_DBFS`."""
        if not self.energy:
            return SILENCE_DBFS
        return max(SILENCE_DBFS, 10 * math.log10(self.energy / self.samples / 32_768**2))
