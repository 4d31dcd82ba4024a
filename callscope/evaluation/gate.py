"""A gate for CI: scores that must not be under, or over, a value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from callscope.errors import BadEvaluation


@dataclass(frozen=True, slots=True)
class Bound:
    """A score and the value that it must not be under, or over.

    Attributes:
        metric: full name, such as `vad.f1`; of a comparison B's, or the difference as `difference.vad.f1`.
        value: the bound, which is still good.
        is_least: not under it; else not over it.
    """

    metric: str
    value: float
    is_least: bool


def parse_bound(text: str, *, is_least: bool) -> Bound:
    """Read `METRIC=VALUE`.

    Raises:
        BadEvaluation: it is not of that form.
    """
    metric, _, value = text.partition("=")
    try:
        return Bound(metric.strip(), float(value), is_least)
    except ValueError as error:
        raise BadEvaluation(f"{text!r} is not of the form METRIC=VALUE, as in vad.f1=0.85.") from error


def failures(bounds: Sequence[Bound], scores: Mapping[str, float]) -> list[str]:
    """A line for each bound that does not hold; a score without a value holds none.

    Raises:
        BadEvaluation: there is no score of that name.
    """
    out = []
    for bound in bounds:
        if bound.metric not in scores:
            raise BadEvaluation(f"There is no score {bound.metric!r}; there are {', '.join(sorted(scores))}.")
        score = scores[bound.metric]
        if math.isnan(score):
            out.append(f"{bound.metric} has no value: there was nothing to count")
        elif bound.is_least and score < bound.value:
            out.append(f"{bound.metric} is {score:.4g}, under {bound.value:g}")
        elif not bound.is_least and score > bound.value:
            out.append(f"{bound.metric} is {score:.4g}, over {bound.value:g}")
    return out
