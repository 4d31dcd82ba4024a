"""Export and import on a real broker."""

from __future__ import annotations

import csv
import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from callscope.broker import EmbeddedBroker
from callscope.config import Settings, load
from callscope.errors import BadExport
from callscope.exchange import folder as layout
from callscope.exchange.exporting import Choice, export
from callscope.exchange.importing import bring_in
from callscope.topics import AUDIO_FRAMES, CALL_EVENTS, TOPICS, VOICE_SPEECH, partition_of
from schemas.v1.audio_pb2 import AudioFrame
from schemas.v1.events_pb2 import CallEvent
from sinks.messages import message_of
from tests.callscope.exchange.calls import on_topics, publish
from tests.signals import demo_leg

pytestmark = pytest.mark.integration
EVERYTHING = ("parquet", "jsonl", "records")


def quietly(done: int, total: int) -> None:
    assert 0 <= done <= total


@pytest.fixture(scope="module")
def call(kafka: Settings) -> str:
    call_id = f"call-{uuid.uuid4().hex[:8]}"
    publish(kafka, call_id, poison=True)
    return call_id


@pytest.fixture(scope="module")
def exported(kafka: Settings, call: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "of" / "it"
    export(kafka, Choice((call,), results=EVERYTHING), folder, quietly)
    return folder


def told(settings: Settings, call_id: str) -> dict[str, list[tuple[bytes, bytes, object]]]:
    records = on_topics(settings, call_id)
    return {topic: [(s.key, s.value, s.headers) for s in of_topic] for topic, of_topic in records.items()}


def test_another_cluster_gets_the_same_records(kafka: Settings, call: str, exported: Path) -> None:
    """Every topic's, byte for byte, in order, in the partitions of a cluster that has another number of them."""
    broker = EmbeddedBroker(load().broker.model_copy(update={"port": None}), ephemeral=True)
    broker.start()
    try:
        other = load(kafka=broker.bootstrap, topics={"partitions": 3})
        bring_in(other, exported, quietly, results=True)
        wanted, got = told(kafka, call), told(other, call)
        assert {s.partition for of in on_topics(other, call).values() for s in of} == {partition_of(call, 3)}
        for topic in TOPICS:
            assert got[topic.name] == ([] if topic is VOICE_SPEECH else wanted[topic.name]), topic.name
        assert got[AUDIO_FRAMES.name] and got["voice.insights"]
        with pytest.raises(BadExport, match=f"1 of 1 calls exist already: {call}"):
            bring_in(other, exported, quietly)
        assert told(other, call) == got
    finally:
        broker.stop()


def test_under_another_name_only_the_name_is_another(kafka: Settings, call: str, exported: Path) -> None:
    bring_in(kafka, exported, quietly, prefix="again-")
    wanted, got = told(kafka, call), told(kafka, f"again-{call}")
    assert got["voice.insights"] == []
    for topic, kind in ((AUDIO_FRAMES, AudioFrame), (CALL_EVENTS, CallEvent)):
        assert len(got[topic.name]) == len(wanted[topic.name]) > 0
        for (new_key, new, _), (key, old, _) in zip(got[topic.name], wanted[topic.name], strict=True):
            assert new_key == b"again-" + key
            if b"no record" in old:
                assert new == old
                continue
            again, before = kind.FromString(new), kind.FromString(old)
            assert again.call_id == f"again-{call}"
            again.call_id = before.call_id
            assert again == before
    with pytest.raises(BadExport, match="is no call id"):
        bring_in(kafka, exported, quietly, prefix="a/../")


def test_the_audio_as_files(exported: Path, call: str) -> None:
    """What came is there bit for bit; what did not is silence and listed."""
    for leg, name in enumerate(("customer", "agent")):
        pcm, rate_hz = soundfile.read(exported / "audio" / call / f"{name}.wav", dtype="int16")
        wanted = demo_leg(leg)[: 6 * 16_000].copy()
        if leg == 0:
            wanted[100 * 320 : 110 * 320] = 0
        assert rate_hz == 16_000 and np.array_equal(pcm, wanted)
    gaps = list(csv.reader((exported / "audio" / "gaps.csv").read_text().splitlines()))
    assert gaps == [["call", "leg", "start", "end"], [call, "customer", "2.0000", "2.2000"]]
    contents = layout.read(exported)
    customer = contents.calls[call]["customer"]
    assert (customer.gaps, customer.gap_seconds, customer.seconds, customer.ended) == (1, 0.2, 6.0, True)
    assert contents.unreadable == 1


def test_stereo(kafka: Settings, call: str, tmp_path: Path) -> None:
    contents = export(kafka, Choice((call,), audio="stereo", results=()), tmp_path / "x", quietly)
    both, _ = soundfile.read(tmp_path / "x" / str(contents.calls[call]["agent"].wav), dtype="int16")
    assert both.shape == (6 * 16_000, 2)
    assert np.array_equal(both[:, 1], demo_leg(1)[: 6 * 16_000])
    assert not (tmp_path / "x" / "results").exists()


def test_tables_and_lines_say_what_the_topics_hold(kafka: Settings, call: str, exported: Path) -> None:
    topics = {"voice.activity": "activity", "voice.features": "features", "voice.insights": "insights",
              CALL_EVENTS.name: "call_events"}  # fmt: skip
    for topic, name in topics.items():
        stored = [message_of(topic, value) for _, value, _ in told(kafka, call)[topic]]
        messages = [message for message in stored if message is not None]
        lines = [json.loads(line) for line in (exported / "results" / f"{name}.jsonl").read_text().splitlines()]
        rows = pq.read_table(exported / "results" / f"{name}.parquet").to_pylist()
        assert [line["id"] for line in lines] == [row["id"] for row in rows] == [message.id for message in messages]
        for message, line, row in zip(messages, lines, rows, strict=True):
            expected: dict[str, Any] = json.loads(message.encode(1, 1, lld=True, functionals=True))
            for key in ("pushed_ns", "latency_ms"):
                del expected["ledger"][key]
            del expected["seq"], expected["at"]
            assert line == expected
            assert (row["start_s"], row["duration_s"], row["kind"]) == (
                message.start / 16_000, message.duration / 16_000, message.kind
            )  # fmt: skip
    features = pq.read_table(exported / "results" / "features.parquet")
    names = features.schema.field("functionals").metadata[b"names"].decode().split(",")
    utterance = next(row for row in features.to_pylist() if row["kind"] == "utterance")
    assert len(utterance["functionals"]) == len(names) == 88
    assert utterance["statistics"]["segments"] == 1


def test_calls_of_a_time(kafka: Settings, call: str, tmp_path: Path) -> None:
    stamps = [s.timestamp_ms for of in on_topics(kafka, call).values() for s in of]
    first, last = min(stamps), max(stamps)
    found = export(kafka, Choice(since_ms=first, until_ms=last + 1, results=()), tmp_path / "a", quietly)
    assert call in found.calls
    late = Choice((call,), since_ms=last + 3_600_000, audio="none", results=())
    with pytest.raises(BadExport, match="Not in the topics"):
        export(kafka, late, tmp_path / "b", quietly)


def test_what_cannot_be_exported_says_so(kafka: Settings, call: str, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(BadExport, match=r"Not in the topics \(any more\): no-such-call"):
        export(kafka, Choice((call, "no-such-call"), audio="none", results=()), tmp_path / "x", quietly)
    with pytest.raises(BadExport, match="is not empty"):
        export(kafka, Choice((call,)), exported, quietly)
    with pytest.raises(BadExport, match="is no whole export"):
        bring_in(kafka, tmp_path / "x", quietly)
