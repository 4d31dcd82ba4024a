from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callscope.config import Infer as InferConfig
from callscope.streams import StreamId
from processors.records import (
    NO_FLOATS,
    Consent,
    FeatureWindow,
    Insight,
    Pcm,
    SpeechFrame,
    VoiceSummary,
    WindowKind,
)
from processors.stages.infer import Infer, Policy
from processors.stages.model import SHIPPED, Model, load_models
from tests.processors.stages.test_model import listening

AROUSAL = load_models(["arousal"])
ALL = load_models(["arousal", "stress", "voice-quality", "emotion"])
CUSTOMER, AGENT = StreamId("call", "customer"), StreamId("call", "agent")
SECOND = 16_000
FUNCTIONALS = np.linspace(-3, 40, 88, dtype=np.float32)


def window(
    stream: StreamId = CUSTOMER,
    segment: int = 0,
    *,
    kind: WindowKind = WindowKind.WINDOW,
    pitch: float | None = 25.0,
    loudness: float = 0.5,
    voiced_share: float = 0.5,
    seconds: float = 4.0,
    coverage: float = 1.0,
) -> FeatureWindow:
    if pitch is None:
        summary = VoiceSummary(0.0, None, None, loudness, None, None)
    else:
        quality = {"jitter_mean": 0.025, "shimmer_db_mean": 1.3, "hnr_db_mean": 6.0 + pitch / 10}
        summary = VoiceSummary(voiced_share, pitch, 1.0, loudness, -8.0, 15.0, **quality)
    return FeatureWindow(
        stream,
        segment * SECOND,
        kind,
        segment * SECOND,
        round(seconds * SECOND),
        coverage,
        800,
        "eGeMAPSv02",
        0,
        np.zeros((0, 25), np.float32),
        FUNCTIONALS if kind is WindowKind.UTTERANCE else NO_FLOATS,
        summary,
    )


def utterance(segment: int, pitch: float | None = 25.0, stream: StreamId = CUSTOMER) -> FeatureWindow:
    return window(stream, segment, kind=WindowKind.UTTERANCE, pitch=pitch)


def stage(policy: Policy | None = None, models: Sequence[Model] = AROUSAL, max_batch: int = 32) -> Infer:
    return Infer(models, policy or Policy(), max_batch)


def refusal(at_s: float, leg: str = "customer", purposes: tuple[str, ...] = (), *, allowed: bool = False) -> Consent:
    return Consent("call", leg, round(at_s * SECOND), allowed, purposes)


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
    assert infer.withheld == {("arousal", "policy"): 2}


@pytest.mark.parametrize("leg", ["agent", "supervisor"])
def test_nothing_that_ships_runs_on_an_employees_leg_by_default(leg: str) -> None:
    infer = stage(models=ALL)
    stream = StreamId("call", leg)
    assert infer.step_many([utterance(0, stream=stream), window(stream, 1)]) == [[], []]
    assert infer.withheld == {
        ("arousal", "policy"): 2,
        ("stress", "policy"): 2,
        ("voice-quality", "policy"): 2,
        ("emotion", "policy"): 1,
    }


def test_a_configuration_may_name_a_policy_that_allows_an_employees_leg() -> None:
    emotion = stage(Policy(emotion_legs=("agent",)), ALL)
    assert names(emotion.step(utterance(0, stream=AGENT))) == ["arousal", "emotion", "stress"]
    health = stage(Policy(health_legs=("agent",)), ALL)
    assert names(health.step(utterance(0, stream=AGENT))) == ["voice-quality"]


def test_a_model_may_be_for_some_legs_only() -> None:
    (model,) = load_models(["voice-quality"])
    model.manifest = model.manifest.model_copy(update={"legs": ("caller",)})
    infer = stage(models=[model])
    assert names(infer.step(utterance(0, stream=StreamId("call", "caller")))) == ["voice-quality"]
    assert infer.step(utterance(0)) == []


def names(insights: list[Insight]) -> list[str]:
    return sorted(insight.model for insight in insights)


def test_from_a_refusal_on_nothing_is_judged_and_nothing_learnt() -> None:
    infer = stage(models=ALL)
    infer.obey(refusal(6.0))
    assert len(infer.step(window(segment=2, seconds=4.0))) == 3
    assert infer.step(window(segment=2, seconds=4.1)) == []
    assert infer.step(utterance(9)) == []
    assert infer.withheld[("arousal", "consent")] == 2
    assert infer.withheld[("emotion", "consent")] == 1
    assert not [voice for voice in infer._voices.values() if len(voice._known) > 1]


def test_a_refusal_may_be_withdrawn_and_leaves_other_legs_alone() -> None:
    infer = stage(models=ALL)
    infer.obey(refusal(0))
    infer.obey(refusal(10, allowed=True))
    assert infer.step(window(segment=9)) == []
    assert len(infer.step(window(segment=10))) == 3
    assert len(infer.step(window(StreamId("call", "caller"), 0))) == 3


def test_a_refusal_of_one_purpose_withholds_the_models_of_that_policy() -> None:
    infer = stage(models=ALL)
    infer.obey(refusal(0, purposes=("emotion",)))
    assert names(infer.step(utterance(1))) == ["voice-quality"]


def test_when_a_consent_became_known_changes_nothing_if_its_windows_had_not_come() -> None:
    records = [utterance(segment) for segment in range(0, 40, 4)]
    early, late = stage(), stage()
    early.obey(refusal(20))
    told = [early.step(record) for record in records]
    expected = []
    for record in records:
        if record.start + record.duration > 20 * SECOND:
            late.obey(refusal(20))
        expected.append(late.step(record))
    assert told == expected
    assert [bool(insights) for insights in told] == [True] * 5 + [False] * 5


def test_a_model_of_utterances_is_not_asked_of_windows() -> None:
    infer = stage(models=load_models(["emotion"]))
    assert infer.step(window()) == []
    (insight,) = infer.step(utterance(0))
    assert sum(output.value or 0 for output in insight.outputs) == pytest.approx(1.0)
    assert not infer.withheld


def test_a_window_of_which_little_was_heard_is_unknown() -> None:
    infer = familiar()
    said = arousal(infer.step(window(segment=9, coverage=0.5)))
    assert said == (None, "window: 50% of it was heard, 80% needed")


def test_a_value_outside_its_range_is_none() -> None:
    (model,) = load_models(["voice-quality"])
    spec = model.manifest.outputs[0].model_copy(update={"high": 2.0})
    model.manifest = model.manifest.model_copy(update={"outputs": (spec, *model.manifest.outputs[1:])})
    (insight,) = stage(models=[model]).step(window())
    assert insight.outputs[0].value is None
    assert insight.outputs[0].unknown_because == "the model gave 2.5, outside its range of 0 to 2"
    assert insight.outputs[1].value == pytest.approx(1.3)
    assert insight.caution.startswith("screening, not diagnosis")


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
    assert tuple(Policy().health_legs) == InferConfig().health_legs
    assert load_models(InferConfig().enabled)


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
    together, alone = stage(models=ALL, max_batch=data.draw(st.integers(1, 40))), [stage(models=ALL) for _ in range(4)]
    batched: list[list[Insight]] = []
    rest = records
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        batched += together.step_many(rest[:size])
        rest = rest[size:]
    assert batched == [alone[who].step(record) for record, (who, *_) in zip(records, plan, strict=True)]


def speech(stream: StreamId, segment: int, pcm: Pcm, cuts: Sequence[int] = ()) -> list[SpeechFrame]:
    edges = sorted({0, len(pcm), *(cut % (len(pcm) + 1) for cut in cuts)})
    return [
        SpeechFrame(stream, segment, segment + a, pcm[a:b], last=b == len(pcm)) for a, b in itertools.pairwise(edges)
    ]


def sound(seconds: float, seed: int = 0) -> Pcm:
    return np.random.default_rng(seed).integers(-9_000, 9_000, round(seconds * SECOND), np.int16)


@pytest.fixture(scope="module")
def power(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model that hears half a second every second, and gives its power."""
    return Model(listening(Path(shutil.copytree(SHIPPED / "arousal", tmp_path_factory.mktemp("models") / "power"))))


def heard(infer: Infer, frames: Sequence[SpeechFrame]) -> list[Insight]:
    return [insight for insights in infer.hear(frames) for insight in insights]


def test_a_model_of_the_waveform_hears_the_last_of_a_segment_every_hop_and_at_its_end(power: Model) -> None:
    infer, pcm = stage(models=[power]), sound(2.0)
    assert infer.listens
    insights = heard(infer, speech(CUSTOMER, SECOND, pcm))
    assert [(i.start / SECOND, i.duration / SECOND, i.is_final) for i in insights] == [
        (1.0, 0.5, False),
        (2.0, 0.5, False),
        (2.5, 0.5, True),
    ]
    assert insights[1].outputs[0].value == pytest.approx(float(((pcm[16_000:24_000] / 32_768.0) ** 2).mean()), rel=1e-4)
    assert infer.step(utterance(0)) == []


def test_a_segment_too_short_for_the_model_is_unknown(power: Model) -> None:
    (insight,) = heard(stage(models=[power]), speech(CUSTOMER, 0, sound(0.4)))
    assert insight.outputs[0].unknown_because == "audio: 0.4 of 0.5 s in this segment"


def test_audio_that_was_lost_makes_it_unknown(power: Model) -> None:
    lost = [dataclasses.replace(frame, lost=True) for frame in speech(CUSTOMER, 0, sound(0.5))]
    assert {i.outputs[0].unknown_because for i in heard(stage(models=[power]), lost)} == {"audio: some of it was lost"}


def test_policy_and_consent_hold_for_audio(power: Model) -> None:
    infer = stage(models=[power])
    assert heard(infer, speech(AGENT, 0, sound(1.0))) == []
    infer.obey(refusal(0.9))
    assert [i.start for i in heard(infer, speech(CUSTOMER, 0, sound(1.0)))] == [0]
    assert infer.withheld == {("power", "policy"): 1, ("power", "consent"): 1}


@given(st.data())
def test_how_speech_is_cut_batched_and_interleaved_leaves_no_trace(power: Model, data: st.DataObject) -> None:
    who = [StreamId(f"call-{n}", "customer") for n in range(3)]
    whole = [speech(stream, 7, sound(data.draw(st.sampled_from([0.3, 0.5, 1.6])), n)) for n, stream in enumerate(who)]
    expected = [heard(stage(models=[power]), frames) for frames in whole]
    cut = [
        speech(frames[0].stream, 7, frames[0].pcm, data.draw(st.lists(st.integers(0, 30_000), max_size=5)))
        for frames in whole
    ]
    order = data.draw(st.permutations([n for n, frames in enumerate(cut) for _ in frames]))
    queues = [iter(frames) for frames in cut]
    mixed = [next(queues[n]) for n in order]
    infer, told = stage(models=[power], max_batch=data.draw(st.integers(1, 4))), []
    while mixed:
        size = data.draw(st.integers(1, len(mixed)))
        told += heard(infer, mixed[:size])
        mixed = mixed[size:]
    assert [[i for i in told if i.stream == stream] for stream in who] == expected
