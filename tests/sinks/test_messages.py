"""Records become the JSON that docs/results.md promises."""

import json
import math
from typing import Any

import numpy as np
import opensmile
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callscope.feature_sets import FUNCTIONALS, LLDS
from callscope.topics import CALL_EVENTS, TOPICS, VOICE_ACTIVITY, VOICE_FEATURES
from schemas.v1.events_pb2 import CallEvent
from schemas.v1.features_pb2 import FeatureWindow
from sinks.messages import RESULT_TOPICS, TYPES, Undecodable, message_of
from tests.sinks import records

ARRIVED_NS = 1_790_000_000_000_000_000


def as_json(record: records.Record, **asked: bool) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(records.message(record).encode(7, ARRIVED_NS + 42_500_000, **asked))
    return found


def test_every_message_has_the_common_fields() -> None:
    for record, type_, kind in (
        (records.level(1.0), "activity", "level"),
        (records.speech_start(1.0), "activity", "speech_start"),
        (records.speech_end(1.0, 2.0), "activity", "speech_end"),
        (records.features(1.0, 2.0), "features", "window"),
        (records.features(1.0, 2.0, kind=FeatureWindow.UTTERANCE), "features", "utterance"),
        (records.arousal(1.0, 2.0, 0.5), "insight", "arousal"),
        (records.call_event(CallEvent.GAP, leg="agent", at=1.0), "call", "gap"),
    ):
        message = as_json(record)
        assert (message["type"], message["kind"]) == (type_, kind)
        assert message["type"] in TYPES
        assert message["stream"] == f"{message['call_id']}/{message['leg']}"
        assert message["start"] == 1.0
        assert message["seq"] == 7
        assert message["is_final"] is (kind not in ("level", "window") and type_ != "insight")
        assert message["ledger"].keys() == {
            "arrived_ns",
            "published_ns",
            "detected_ns",
            "extracted_ns",
            "inferred_ns",
            "pushed_ns",
            "latency_ms",
        }


def test_ledger_says_how_long_it_took_and_null_for_stations_not_passed() -> None:
    message = as_json(records.level(0.0, arrived_ns=ARRIVED_NS))
    assert message["ledger"] == {
        "arrived_ns": ARRIVED_NS,
        "published_ns": ARRIVED_NS + 1_000_000,
        "detected_ns": ARRIVED_NS + 9_000_000,
        "extracted_ns": None,
        "inferred_ns": None,
        "pushed_ns": ARRIVED_NS + 42_500_000,
        "latency_ms": 42.5,
    }
    assert as_json(records.level(0.0, arrived_ns=0))["ledger"]["latency_ms"] is None


def test_media_time_is_exact() -> None:
    assert as_json(records.level(3599.9800625))["start"] == 3599.9800625


@given(st.lists(st.floats(width=32), min_size=25, max_size=75).filter(lambda values: len(values) % 25 == 0))
def test_descriptors_come_back_bit_for_bit_when_asked_for(values: list[float]) -> None:
    record = records.features(0.0, 1.0, lld=values)
    assert "lld" not in as_json(record)
    rows = as_json(record, lld=True)["lld"]
    assert [len(row) for row in rows] == [25] * (len(values) // 25)
    for got, sent in zip((value for row in rows for value in row), values, strict=True):
        if math.isfinite(sent):
            assert np.float32(got).tobytes() == np.float32(sent).tobytes()
        else:
            assert got is None


def test_functionals_are_named_and_only_there_when_asked_for() -> None:
    values = [float(number) for number in range(88)]
    utterance = records.features(0.0, 1.0, kind=FeatureWindow.UTTERANCE, functionals=values)
    assert "functionals" not in as_json(utterance)
    functionals = as_json(utterance, functionals=True)["functionals"]
    assert list(functionals.values()) == values
    assert functionals["loudness_sma3_amean"] == 10.0
    window = records.features(0.0, 1.0, functionals=values)
    assert list(as_json(window, functionals=True)["functionals"].values()) == values


def test_names_are_those_of_opensmile() -> None:
    for level, names in (
        (opensmile.FeatureLevel.LowLevelDescriptors, LLDS),
        (opensmile.FeatureLevel.Functionals, FUNCTIONALS),
    ):
        smile = opensmile.Smile(feature_set=opensmile.FeatureSet.eGeMAPSv02, feature_level=level)
        assert list(names["eGeMAPSv02"]) == smile.feature_names


def test_absent_pitch_is_null_and_an_unknown_output_says_why() -> None:
    assert as_json(records.features(0.0, 1.0, f0_mean=None))["summary"]["f0_mean"] is None
    because = "baseline: 3.2 of 5.0 s heard"
    assert as_json(records.arousal(0.0, 1.0, None, unknown_because=because))["outputs"] == {
        "arousal": {"value": None, "unit": "", "unknown_because": because}
    }


def test_pitch_is_told_in_hz_too() -> None:
    record = FeatureWindow.FromString(records.features(0.0, 1.0)[1])
    record.summary.f0_min, record.summary.f0_max, record.summary.speech_rate_hz = 24.0, 36.0, 4.5
    summary = as_json((VOICE_FEATURES.name, record.SerializeToString()))["summary"]
    assert (summary["f0_min_hz"], summary["f0_max_hz"], summary["f0_range"]) == (110.0, 220.0, 12.0)
    assert summary["f0_mean_hz"] == pytest.approx(27.5 * 2 ** (31 / 12), abs=1e-3)
    assert (summary["speech_rate_hz"], summary["level_dbfs"], summary["jitter_mean"]) == (4.5, None, None)


def test_an_utterance_tells_what_is_usual_in_its_stream() -> None:
    assert "statistics" not in as_json(records.features(0.0, 1.0))
    record = FeatureWindow.FromString(records.features(0.0, 1.0, kind=FeatureWindow.UTTERANCE)[1])
    record.statistics.segments = 3
    record.statistics.f0.weight_s, record.statistics.f0.mean, record.statistics.f0.squares = 4.0, 30.0, 16.0
    statistics = as_json((VOICE_FEATURES.name, record.SerializeToString()))["statistics"]
    assert statistics["segments"] == 3
    assert statistics["f0"] == {"seconds": 4.0, "mean": 30.0, "stddev": 2.0}
    assert statistics["speech_rate_hz"] == {"seconds": 0.0, "mean": None, "stddev": None}


def test_values_json_cannot_say_become_null() -> None:
    assert as_json(records.level(0.0, level_dbfs=math.inf))["level_dbfs"] is None


def test_ids_tell_findings_apart_and_are_the_same_each_time() -> None:
    def id_of(record: records.Record) -> str:
        return records.message(record).id

    found = [
        records.level(0.0),
        records.level(0.1),
        records.level(0.0, leg="agent"),
        records.speech_start(0.0),
        records.features(0.0, 1.0),
        records.features(0.0, 1.1),
        records.features(0.0, 1.0, kind=FeatureWindow.UTTERANCE),
        records.arousal(0.0, 1.0, 0.5),
        records.arousal(0.0, 1.0, 0.5, is_final=True),
        records.call_event(CallEvent.CALL_STARTED, time_ns=1),
        records.call_event(CallEvent.CALL_STARTED, time_ns=2),
    ]
    assert len({id_of(record) for record in found}) == len(found)
    assert id_of(records.level(0.0, arrived_ns=1, level_dbfs=-10)) == id_of(records.level(0.0, arrived_ns=2))


def test_records_between_workers_and_kinds_of_the_future_are_not_for_subscribers() -> None:
    assert message_of(*records.features(0.0, 0.0, kind=FeatureWindow.STREAM_END)) is None
    assert message_of(VOICE_ACTIVITY.name, b"\x18\x63") is None  # kind = 99
    assert message_of(CALL_EVENTS.name, b"\x18\x63") is None
    assert message_of(VOICE_FEATURES.name, b"\x20\x63") is None


@given(topic=st.sampled_from(RESULT_TOPICS), value=st.binary(max_size=200))
def test_garbage_is_undecodable_or_harmless(topic: str, value: bytes) -> None:
    try:
        message = message_of(topic, value)
    except Undecodable:
        return
    if message is not None:
        json.loads(message.encode(1, ARRIVED_NS, lld=True, functionals=True))


def test_the_topics_exist() -> None:
    assert set(RESULT_TOPICS) <= {topic.name for topic in TOPICS}


def test_hostile_text_stays_data() -> None:
    metadata = {"</script>": '"\\\u2028<img onerror=x>'}
    assert as_json(records.call_event(CallEvent.CALL_STARTED, metadata=metadata))["metadata"] == metadata


@pytest.mark.parametrize("leg", ["customer", ""])
def test_stream_of_a_call_event(leg: str) -> None:
    message = as_json(records.call_event(CallEvent.CALL_ENDED, leg=leg))
    assert message["leg"] == (leg or None)
    assert message["stream"] == ("c1/customer" if leg else "c1")


def test_a_consent_says_what_was_allowed_or_refused() -> None:
    event = CallEvent(call_id="c1", leg="customer", kind=CallEvent.CONSENT, at=16_000, time_ns=7, purposes=["emotion"])
    message = as_json((CALL_EVENTS.name, event.SerializeToString()))
    assert (message["kind"], message["start"], message["analyse"], message["purposes"]) == (
        "consent",
        1.0,
        False,
        ["emotion"],
    )
