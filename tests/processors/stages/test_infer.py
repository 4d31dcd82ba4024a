from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callscope.config import Infer as InferConfig
from processors.records import NO_FLOATS, FeatureWindow, Insight, StreamId, VoiceSummary, WindowKind
from processors.stages.infer import Infer, Policy
from processors.stages.model import load_models

MODELS = load_models([])
CUSTOMER, AGENT = StreamId("call", "customer"), StreamId("call", "agent")
SECOND = 16_000


def window(
    stream: StreamId = CUSTOMER,
    segment: int = 0,
    *,
    kind: WindowKind = WindowKind.WINDOW,
    pitch: float | None = 25.0,
    loudness: float = 0.5,
    voiced_share: float = 0.5,
    seconds: float = 4.0,
) -> FeatureWindow:
    balance = (None, None) if pitch is None else (-8.0, 15.0)
    summary = VoiceSummary(0.0 if pitch is None else voiced_share, pitch, pitch and 1.0, loudness, *balance)
    return FeatureWindow(
        stream,
        segment * SECOND,
        kind,
        segment * SECOND,
        round(seconds * SECOND),
        1.0,
        800,
        "eGeMAPSv02",
        0,
        np.zeros((0, 25), np.float32),
        NO_FLOATS,
        summary,
    )


def utterance(segment: int, pitch: float | None = 25.0, stream: StreamId = CUSTOMER) -> FeatureWindow:
    return window(stream, segment, kind=WindowKind.UTTERANCE, pitch=pitch)


def stage(policy: Policy | None = None) -> Infer:
    return Infer(MODELS, policy or Policy())


def arousal(insights: list[Insight]) -> tuple[float | None, str]:
    (insight,) = insights
    (output,) = insight.outputs
    return output.value, output.unknown_because


def familiar(stream: StreamId = CUSTOMER) -> Infer:
    """A stage that has heard six seconds of a voice."""
    infer = stage()
    for segment in range(3):
        infer.step(utterance(segment, 24.0 + segment, stream))
    return infer


def test_unknown_until_the_baseline_is_known() -> None:
    infer = stage()
    said = [arousal(infer.step(utterance(segment))) for segment in range(4)]
    assert said[:3] == [(None, f"baseline: {heard}.0 of 5.0 s of voiced speech heard") for heard in (0, 2, 4)]
    assert said[3][0] == pytest.approx(0.5)
    assert said[3][1] == ""


def test_a_raised_voice_is_above_the_usual_and_a_low_one_below() -> None:
    infer = familiar()
    high, _ = arousal(infer.step(window(segment=9, pitch=31.0, loudness=1.0)))
    low, _ = arousal(infer.step(window(segment=9, pitch=21.0, loudness=0.3)))
    assert high is not None
    assert low is not None
    assert low < 0.4 < 0.7 < high <= 1


def test_an_insight_says_what_it_is_about() -> None:
    (insight,) = familiar().step(utterance(9))
    assert (insight.stream, insight.segment, insight.start, insight.duration) == (CUSTOMER, 144_000, 144_000, 64_000)
    assert (insight.model, insight.model_version, insight.is_final, insight.lookahead) == (
        "arousal",
        "1.0.0",
        True,
        800,
    )
    (insight,) = familiar().step(window(segment=9))
    assert not insight.is_final


def test_a_window_with_too_little_voice_is_unknown() -> None:
    infer = familiar()
    assert arousal(infer.step(window(segment=9, voiced_share=0.05, seconds=2))) == (
        None,
        "window: 0.1 of 0.3 s of voiced speech",
    )
    assert arousal(infer.step(window(segment=9, pitch=None)))[0] is None
    assert arousal(infer.step(window(segment=9, loudness=0.0))) == (None, "window: no loudness_db")


def test_unvoiced_utterances_do_not_count_for_the_baseline() -> None:
    infer = stage()
    for segment in range(5):
        infer.step(utterance(segment, None))
    assert "0.0 of 5.0" in arousal(infer.step(utterance(9)))[1]


def test_windows_do_not_change_the_baseline() -> None:
    infer = stage()
    for _ in range(10):
        assert "0.0 of 5.0" in arousal(infer.step(window()))[1]


def test_arousal_is_not_inferred_on_an_employees_leg() -> None:
    infer = stage()
    assert infer.step_many([utterance(0, stream=AGENT), utterance(0), window(AGENT, 2)])[0::2] == [[], []]
    assert infer.withheld == {"arousal": 2}


def test_the_policy_is_asked_before_anything_is_computed() -> None:
    infer = stage(Policy(emotion_legs=()))
    assert infer.step(utterance(0)) == []
    assert not infer._voices


def test_another_policy_may_name_other_legs() -> None:
    infer = stage(Policy(emotion_legs=("agent",)))
    assert len(infer.step(utterance(0, stream=AGENT))) == 1
    assert infer.step(utterance(0)) == []


def test_the_default_policy_is_that_of_the_configuration() -> None:
    assert tuple(Policy().emotion_legs) == InferConfig().emotion_legs


def test_a_record_that_comes_twice_gives_the_same_and_counts_once() -> None:
    infer = stage()
    records = [utterance(segment, 24.0 + segment) for segment in range(6)]
    once = [infer.step(record) for record in records]
    again = [infer.step(record) for record in records]
    assert again == once
    assert infer.step(utterance(9)) == familiar_after(records).step(utterance(9))


def familiar_after(records: list[FeatureWindow]) -> Infer:
    infer = stage()
    for record in records:
        infer.learn(record)
    return infer


def test_learning_without_judging_rebuilds_the_state() -> None:
    assert familiar_after([utterance(s, 24.0 + s) for s in range(3)]).step(window(segment=9)) == familiar().step(
        window(segment=9)
    )


def test_a_dropped_stream_starts_anew() -> None:
    infer = familiar()
    infer.drop(CUSTOMER)
    assert "0.0 of 5.0" in arousal(infer.step(utterance(9)))[1]
    infer.drop(StreamId("never", "seen"))


plans = st.lists(
    st.tuples(st.integers(0, 3), st.booleans(), st.one_of(st.none(), st.floats(15, 40)), st.floats(0.01, 2)),
    max_size=40,
)


@given(st.data(), plans)
def test_neither_batches_nor_other_streams_leave_a_trace(
    data: st.DataObject, plan: list[tuple[int, bool, float | None, float]]
) -> None:
    records = [
        window(
            StreamId(f"call-{who}", "customer"),
            number,
            kind=WindowKind.UTTERANCE if final else WindowKind.WINDOW,
            pitch=pitch,
            loudness=loudness,
        )
        for number, (who, final, pitch, loudness) in enumerate(plan)
    ]
    together, alone = stage(), [stage() for _ in range(4)]
    batched: list[list[Insight]] = []
    rest = records
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        batched += together.step_many(rest[:size])
        rest = rest[size:]
    assert batched == [alone[who].step(record) for record, (who, *_) in zip(records, plan, strict=True)]
