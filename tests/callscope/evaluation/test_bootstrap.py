from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from callscope.evaluation.bootstrap import draws, interval, values


def mean(found: Sequence[float]) -> dict[str, float]:
    return {"mean": float(np.mean(found))}


def test_the_interval_of_a_mean_is_what_theory_says() -> None:
    """1.96 standard errors to both sides."""
    sample = np.random.default_rng(3).normal(5.0, 2.0, 400).tolist()
    found = interval(values(sample, mean, draws(400, 2_000, 0))["mean"], 400)
    error = float(np.std(sample)) / math.sqrt(400)
    assert found.low == pytest.approx(np.mean(sample) - 1.96 * error, abs=0.02)
    assert found.high == pytest.approx(np.mean(sample) + 1.96 * error, abs=0.02)
    assert found.above == 1.0


def test_the_same_numbers_draw_the_same_calls() -> None:
    assert np.array_equal(draws(7, 50, 1), draws(7, 50, 1))
    assert not np.array_equal(draws(7, 50, 1), draws(7, 50, 2))


def test_a_value_that_is_mostly_not_there_has_no_interval() -> None:
    assert math.isnan(interval(np.array([np.nan, np.nan, 1.0]), 9).low)
    assert math.isnan(interval(np.ones(9), 1).low), "one call says nothing of others"
    assert interval(np.array([0.0, 0.0, np.nan]), 9).above == 0.5
