from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.stages.baseline import Baseline

values = st.tuples(st.floats(-100, 100), st.floats(-100, 100))
heard = st.lists(st.tuples(values, st.floats(0.1, 10)), min_size=1, max_size=20)


def of(observations: list[tuple[tuple[float, float], float]]) -> Baseline:
    baseline = Baseline.empty(2)
    for value, weight_s in observations:
        baseline = baseline.add(value, weight_s)
    return baseline


@given(heard)
def test_moments_are_the_weighted_ones(observations: list[tuple[tuple[float, float], float]]) -> None:
    x, weights = np.array([v for v, _ in observations]), np.array([w for _, w in observations])
    mean = np.average(x, axis=0, weights=weights)
    baseline = of(observations)
    assert baseline.weight_s == pytest.approx(weights.sum())
    assert baseline.mean == pytest.approx(mean, abs=1e-9)
    variance = np.average((x - mean) ** 2, axis=0, weights=weights)
    assert baseline.deviation == pytest.approx(np.sqrt(variance), abs=1e-4)


@given(heard, heard)
def test_parts_merge_to_the_whole(
    one: list[tuple[tuple[float, float], float]], other: list[tuple[tuple[float, float], float]]
) -> None:
    merged, whole = of(one).merge(of(other)), of(one + other)
    assert merged.mean == pytest.approx(whole.mean, abs=1e-9)
    assert merged.deviation == pytest.approx(whole.deviation, abs=1e-4)


def test_of_nothing_heard() -> None:
    empty = Baseline.empty(2)
    assert empty.deviation == (0.0, 0.0)
    assert empty.merge(empty) == empty
