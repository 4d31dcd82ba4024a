from __future__ import annotations

import pytest

from callscope.evaluation.outputs import Scored, Target, measures, parse_target, usual_targets

MODELS = {"arousal": ["arousal"], "emotion": ["anger", "neutral"]}


def test_targets_as_they_are_written() -> None:
    assert parse_target("arousal=emotion:W,F/T,N", False, MODELS) == Target(
        "arousal", "emotion", "auc", ("W", "F"), ("T", "N")
    )
    assert parse_target("arousal=emotion:W", False, MODELS).negative == ()
    assert parse_target("arousal=rated", True, MODELS) == Target("arousal", "rated", "ccc")
    assert parse_target("emotion=class", False, MODELS) == Target("emotion", "class", "uar")
    with pytest.raises(ValueError, match="say which of them should be high"):
        parse_target("arousal=emotion", False, MODELS)
    with pytest.raises(ValueError, match="is not of the form"):
        parse_target("arousal", False, MODELS)


def test_what_goes_together_by_name() -> None:
    columns = {"arousal": True, "emotion": False, "anger": True, "speaker_age": True}
    assert usual_targets(columns, MODELS) == (
        Target("arousal", "arousal", "ccc"), Target("emotion", "emotion", "uar"), Target("anger", "anger", "ccc")
    )  # fmt: skip


def test_a_class_that_should_be_higher() -> None:
    target = Target("arousal", "emotion", "auc", ("W",), ("N",))
    scored = [Scored(label, {"arousal": value}) for label, value in (("W", 0.9), ("N", 0.1), ("T", 1.0), ("W", None))]
    assert measures(target, scored) == {"auc": 1.0, "known": pytest.approx(2 / 3), "labels": 3}


def test_the_class_with_the_highest_output() -> None:
    scored = [
        Scored("anger", {"anger": 0.9, "neutral": 0.1}),
        Scored("anger", {"anger": 0.4, "neutral": 0.6}),
        Scored("neutral", {"anger": 0.2, "neutral": 0.8}),
        Scored("neutral", {}),
    ]
    found = measures(Target("emotion", "emotion", "uar"), scored)
    assert found == {"uar": 0.75, "accuracy": pytest.approx(2 / 3), "known": 0.75, "labels": 4}


def test_a_quantity() -> None:
    scored = [Scored(str(truth), {"arousal": truth + 1}) for truth in (1.0, 2.0, 3.0)]
    found = measures(Target("arousal", "arousal", "ccc"), scored)
    assert found["ccc"] == pytest.approx(4 / 7) and found["mean_error"] == 1.0
