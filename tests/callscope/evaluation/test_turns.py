from __future__ import annotations

import pytest

from callscope.evaluation.turns import measures, observe

CALL = {"agent": ((0.0, 4.0), (4.5, 6.0), (10.0, 14.0)), "customer": ((5.0, 5.4), (6.5, 9.0), (13.0, 16.0))}


def test_turn_taking_by_hand() -> None:
    """The customer's 5.0 to 5.4 s lies inside a turn of the agent's: a backchannel. Gaps: 0.5, 1.0 and -1.0 s."""
    call = observe(CALL, 20.0)
    assert call.turns == 4
    assert call.gaps_s == pytest.approx((0.5, 1.0, -1.0))
    assert call.talk_over_s == pytest.approx(1.4)
    assert call.shares == pytest.approx({"agent": 9.5 / 15.4, "customer": 5.9 / 15.4})


def test_against_labels() -> None:
    truth = observe(CALL, 20.0)
    assert measures([(truth, truth)])["turns_error"] == 0
    silent = observe({"agent": CALL["agent"], "customer": ()}, 20.0)
    scores = measures([(truth, silent)])
    assert scores["turns_ratio"] == 0.5 and scores["turns_error"] == 2
    assert scores["talk_share_error"] == pytest.approx(5.9 / 15.4)
    assert scores["talk_over_labelled"] == pytest.approx(0.07) and scores["talk_over_found"] == 0
    assert scores["response_gap_labelled_ms"] == pytest.approx(500)
    assert scores["response_gap_found_ms"] != scores["response_gap_found_ms"]  # nobody responds: there is none
