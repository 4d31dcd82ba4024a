from __future__ import annotations

import pytest

from callscope.errors import BadEvaluation
from callscope.evaluation.gate import failures, parse_bound

SCORES = {"vad.f1": 0.8, "vad.onset_p90_ms": 250.0, "vad.auc": float("nan")}


def told(text: str, *, is_least: bool) -> list[str]:
    return failures([parse_bound(text, is_least=is_least)], SCORES)


def test_bounds() -> None:
    assert told("vad.f1=0.8", is_least=True) == [] == told("vad.onset_p90_ms=250", is_least=False)
    assert told("vad.f1=0.81", is_least=True) == ["vad.f1 is 0.8, under 0.81"]
    assert told("vad.onset_p90_ms=200", is_least=False) == ["vad.onset_p90_ms is 250, over 200"]
    assert "has no value" in told("vad.auc=0", is_least=True)[0]


def test_a_gate_that_asks_for_nothing_is_an_error() -> None:
    with pytest.raises(BadEvaluation, match=r"no score 'vad.f2'; there are vad.auc, vad.f1"):
        told("vad.f2=0.5", is_least=True)
    with pytest.raises(BadEvaluation, match="METRIC=VALUE"):
        parse_bound("vad.f1>0.5", is_least=True)
