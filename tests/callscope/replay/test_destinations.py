from __future__ import annotations

from pathlib import Path

import pytest

from callscope.errors import BadReplay
from callscope.exchange import folder as layout
from callscope.replay import live
from callscope.replay.destinations import PREFIX, ToFolder, finish, topic_of
from callscope.replay.digest import RESULTS, Digests
from callscope.replay.plan import Leg, Plan
from callscope.streams import StreamId
from callscope.topics import ALL_TOPICS, HOUR_MS, VOICE_ACTIVITY, partition_of
from schemas.v1.activity_pb2 import VoiceActivity
from schemas.v1.ledger_pb2 import Ledger

PARTITIONS = 4
STREAMS = [StreamId(f"c{number}", "customer") for number in range(6)]
PLAN = Plan("r", "kafka", "folder", partitions=PARTITIONS)
LEGS = {str(stream): Leg(end=32_000, records=100, ended=True) for stream in STREAMS}


def level(stream: StreamId, at: int, detected_ns: int = 0) -> bytes:
    record = VoiceActivity(call_id=stream.call_id, leg=stream.leg, kind=VoiceActivity.LEVEL, start=at, duration=1_600)
    record.ledger.CopyFrom(Ledger(detected_ns=detected_ns))
    return record.SerializeToString()


def attempt(folder: Path, now_ns: int, *, settled: bool = True) -> None:
    destination = ToFolder(folder, PARTITIONS)
    for at in (0, 1_600):
        for stream in STREAMS:
            destination.put(VOICE_ACTIVITY, stream, now_ns, level(stream, at, now_ns))
        if settled:
            destination.settle()


def test_what_attempts_wrote_is_there_once(tmp_path: Path) -> None:
    """One was cut off with everything safe, one with nothing safe, and one in the midst of the last step."""
    attempt(tmp_path, 1)
    attempt(tmp_path, 2, settled=False)
    attempt(tmp_path, 3)
    (tmp_path / layout.RECORDS).mkdir()
    (tmp_path / layout.RECORDS / "voice.activity.parquet").write_bytes(b"half of it")
    finish(tmp_path, PLAN, LEGS)
    found = list(layout.stored_records(tmp_path, VOICE_ACTIVITY))
    assert len(found) == 2 * len(STREAMS)
    assert all(stored.partition == partition_of(stored.key.decode().partition("/")[0], PARTITIONS) for stored in found)
    contents = layout.read(tmp_path)
    assert contents.calls.keys() == {stream.call_id for stream in STREAMS}
    assert not (tmp_path / "parts").exists()
    wanted = Digests()
    for stream in STREAMS:
        for at in (0, 1_600):
            wanted.add(VOICE_ACTIVITY.name, level(stream, at))
    assert live.of_folder(tmp_path, lambda call: True) == {str(s): wanted.take(s) for s in STREAMS}
    assert live.of_folder(tmp_path, lambda call: call == "c1").keys() == {"c1/customer"}


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadReplay, match="cannot be written"):
        ToFolder(tmp_path / "file", 1).put(VOICE_ACTIVITY, STREAMS[0], 0, level(STREAMS[0], 0))


def test_a_runs_topics_are_no_live_ones() -> None:
    topics = [topic_of("r", topic, keep_hours=2) for topic in RESULTS]
    assert [topic.name for topic in topics] == [f"replay.r.{topic.name}" for topic in RESULTS]
    assert {topic.retention_ms for topic in topics} == {2 * HOUR_MS}
    assert not any(topic.name.startswith(PREFIX) for topic in ALL_TOPICS)
