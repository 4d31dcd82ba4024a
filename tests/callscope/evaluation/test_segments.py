from __future__ import annotations

import math

import pytest

from callscope.evaluation.segments import measures, pairs, tally


def test_segments_match_by_what_they_have_in_common() -> None:
    """Three utterances; one is found well, one is cut in two equal halves, one not found; one segment is nothing."""
    labelled = ((0.0, 2.0), (5.0, 9.0), (20.0, 21.0))
    found = ((0.1, 2.2), (5.0, 7.0), (7.0, 9.0), (15.0, 16.0))
    scores = measures([tally(labelled, found)])
    assert scores["recall"] == pytest.approx(2 / 3)
    assert scores["precision"] == pytest.approx(2 / 4)
    assert scores["f1"] == pytest.approx(4 / 7)
    assert scores["per_label"] == pytest.approx(4 / 3)
    assert scores["overlap"] == pytest.approx((1.9 / 2.2 + 0.5) / 2)


def test_short_pauses_do_not_end_an_utterance() -> None:
    assert measures([tally(((0.0, 1.0), (1.5, 3.0)), ((0.0, 3.0),), 0.7)])["f1"] == 1.0
    assert measures([tally(((0.0, 1.0), (1.5, 3.0)), ((0.0, 3.0),), 0.4)])["recall"] == 0.5


def test_best_first_one_to_one() -> None:
    assert pairs([(0.0, 10.0), (9.0, 20.0)], [(0.0, 8.0), (1.0, 10.0)], 0.5) == [(0, 1, 0.9)]
    assert pairs([(0.0, 4.0)], [(0.0, 3.0), (3.0, 4.0)], 0.1) == [(0, 0, 0.75)]


def test_nothing_labelled_is_no_score() -> None:
    assert math.isnan(measures([tally((), ((0.0, 1.0),))])["f1"])
