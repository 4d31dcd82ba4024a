from __future__ import annotations

import math
from typing import Any

import pytest

from callscope.client.telling import Tally, clock_time, line_of


def message(type_: str, kind: str, **fields: Any) -> dict[str, Any]:
    ledger = {"latency_ms": 10.0}
    return {"type": type_, "kind": kind, "leg": "customer", "start": 1.0, "duration": 2.5, "ledger": ledger, **fields}


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "00:00.0"), (12.34, "00:12.3"), (59.96, "01:00.0"), (3_600, "60:00.0")]
)
def test_times_are_minutes_and_seconds(seconds: float, said: str) -> None:
    assert clock_time(seconds) == said


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (message("activity", "speech_end"), "00:03.5  customer  ■ spoke 2.5 s"),
        (
            message("features", "utterance", summary={"f0_mean": 36.0, "loudness_mean": 0.5}),
            "00:03.5  customer    utterance 2.5 s, pitch 220 Hz, loudness 0.50",
        ),
        (
            message(
                "insight",
                "arousal",
                is_final=True,
                outputs={"arousal": {"value": 0.7, "unit": "", "unknown_because": None}},
            ),
            "00:03.5  customer    arousal: arousal 0.70",
        ),
        (
            message(
                "insight",
                "arousal",
                is_final=True,
                outputs={"arousal": {"value": None, "unit": "", "unknown_because": "why"}},
            ),
            "00:03.5  customer    arousal: arousal unknown (why)",
        ),
    ],
)
def test_a_message_in_words(told: dict[str, Any], line: str) -> None:
    assert (line_of(told) or "").strip() == line


@pytest.mark.parametrize(
    "told", [message("activity", "level"), message("features", "window"), message("insight", "arousal", is_final=False)]
)
def test_what_is_too_frequent_to_read_is_left_out(told: dict[str, Any]) -> None:
    assert line_of(told) is None


def test_dropped_messages_are_told() -> None:
    assert "12 messages were left out" in (line_of({"type": "dropped", "count": 12}) or "")


def test_the_sums_of_a_call() -> None:
    tally = Tally()
    for latency in (10.0, 20.0, 30.0):
        tally.add(message("activity", "speech_end", ledger={"latency_ms": latency}))
    assert tally.talk_s == {"customer": 7.5}
    assert tally.turns == {"customer": 3}
    assert tally.percentile_ms(50) == 20.0
    assert tally.lines()[0] == "customer spoke 7.5 s in 3 turns"


def test_a_call_without_results_says_so() -> None:
    assert Tally().lines() == ["no results"]
    assert math.isnan(Tally().percentile_ms(50))
