"""What is usual for a speaker: mean and deviation of features, weighted by how long they were heard, mergeable."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt


@dataclass(frozen=True, slots=True)
class Baseline:
    """Weighted running moments, after B. P. Welford (1962) and D. H. D. West (1979).

    Attributes:
        weight_s: seconds of voiced speech in it.
        mean: of each feature.
        squares: sum of the weighted squared deviations from the mean, of each feature.
    """

    weight_s: float
    mean: tuple[float, ...]
    squares: tuple[float, ...]

    @classmethod
    def empty(cls, features: int) -> Baseline:
        """Of that many features, of nothing heard."""
        return cls(0.0, (0.0,) * features, (0.0,) * features)

    def add(self, values: tuple[float, ...], weight_s: float) -> Baseline:
        """With one more observation.

        Args:
            values: one per feature.
            weight_s: seconds of voiced speech it rests on, above 0.
        """
        return self.merge(Baseline(weight_s, values, (0.0,) * len(values)))

    def merge(self, other: Baseline) -> Baseline:
        """Of both parts of what was heard (Chan, Golub & LeVeque 1979)."""
        weight = self.weight_s + other.weight_s
        if weight == 0:
            return self
        share = other.weight_s / weight
        apart = tuple(b - a for a, b in zip(self.mean, other.mean, strict=True))
        return Baseline(
            weight,
            tuple(a + d * share for a, d in zip(self.mean, apart, strict=True)),
            tuple(
                p + q + d * d * self.weight_s * share
                for p, q, d in zip(self.squares, other.squares, apart, strict=True)
            ),
        )

    @property
    def deviation(self) -> tuple[float, ...]:
        """(Population) standard deviation of each feature; 0 before anything was heard."""
        if self.weight_s == 0:
            return (0.0,) * len(self.squares)
        return tuple(sqrt(s / self.weight_s) for s in self.squares)
