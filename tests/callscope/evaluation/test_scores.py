from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callscope.evaluation.scores import auc, ccc, confusion, f1, matches, median_ms, p90_size_ms, roc, uar


def test_the_area_is_how_often_a_positive_has_the_higher_score() -> None:
    rng = np.random.default_rng(0)
    score, speech = rng.integers(0, 9, 300).astype(np.float64), rng.random(300) < 0.4
    above, below = score[speech][:, None], score[~speech][None, :]
    assert auc(score, speech) == pytest.approx((above > below).mean() + 0.5 * (above == below).mean())
    assert np.isnan(auc(score, np.ones(300, bool)))
    assert np.isnan(auc(np.zeros(0), np.zeros(0, bool)))


def test_the_area_by_hand() -> None:
    """Of the six pairs of a positive and a negative, four are in order and one is a tie."""
    score = np.array([0.9, 0.4, 0.7, 0.4, 0.1])
    assert auc(score, np.array([True, True, False, False, False])) == pytest.approx(4.5 / 6)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=60))
def test_the_area_lies_under_the_curve(pairs: list[tuple[int, bool]]) -> None:
    score, positive = np.array([float(s) for s, _ in pairs]), np.array([p for _, p in pairs])
    alarms, hits = roc(score, positive)
    if np.isnan(auc(score, positive)):
        assert len(alarms) == 0
    else:
        assert np.trapezoid(hits, alarms) == pytest.approx(auc(score, positive))
        assert (alarms[0], hits[0], alarms[-1], hits[-1]) == (0, 0, 1, 1)


def test_f1_by_hand() -> None:
    assert f1(np.array([True, True, False, False]), np.array([True, False, True, False])) == 0.5


def test_recall_counts_every_class_the_same() -> None:
    """Nine of ten, and one of two: 0.7, though ten of twelve were right."""
    truth = ["a"] * 10 + ["b"] * 2
    said = ["a"] * 9 + ["b"] + ["b", "a"]
    matrix = confusion(truth, said, ["a", "b", "c"])
    assert matrix.tolist() == [[9, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert uar(matrix) == pytest.approx(0.7)
    assert np.isnan(uar(np.zeros((2, 2), np.int64)))


def test_concordance_by_hand() -> None:
    """Means 2 and 3, both variances 2/3, covariance 2/3: 2 * 2/3 / (2/3 + 2/3 + 1)."""
    truth = np.array([1.0, 2.0, 3.0])
    assert ccc(truth, truth) == 1.0
    assert ccc(truth, truth + 1) == pytest.approx(4 / 7)
    assert ccc(truth, 4 - truth) == pytest.approx(-1.0)
    assert np.isnan(ccc(truth[:1], truth[:1])) and np.isnan(ccc(np.ones(3), np.ones(3)))


def test_edges_match_one_to_one_and_nearest_first() -> None:
    assert matches([1.0, 1.3, 9.0], [1.2, 1.25, 5.0]) == [(1, 1), (0, 0)]


@given(st.lists(st.floats(0, 5), max_size=8).map(sorted), st.lists(st.floats(0, 5), max_size=8).map(sorted))
def test_edges_match_as_if_all_pairs_were_looked_at(labelled: list[float], decided: list[float]) -> None:
    every = sorted((abs(a - b), i, k) for i, a in enumerate(labelled) for k, b in enumerate(decided))
    wanted: list[tuple[int, int]] = []
    for distance, i, k in every:
        if distance <= 0.5 and all(i != j and k != m for j, m in wanted):
            wanted.append((i, k))
    assert matches(labelled, decided) == wanted


def test_errors_in_milliseconds() -> None:
    assert median_ms(np.array([-0.1, 0.2, 0.3])) == pytest.approx(200)
    assert p90_size_ms(np.full(10, -0.5)) == pytest.approx(500)
    assert np.isnan(median_ms(np.zeros(0))) and np.isnan(p90_size_ms(np.zeros(0)))
