"""What cannot be worked on: found, told in a letter, and noticed by nobody else."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from faust.types import TP
from hypothesis import given, settings
from hypothesis import strategies as st

from callscope.config import load
from callscope.dead_letters import LETTERS_PER_S, MAX_BYTES, key_of
from callscope.streams import StreamId
from callscope.topics import AUDIO_FRAMES, VOICE_ACTIVITY, VOICE_FEATURES, VOICE_INSIGHTS, Topic, partition_of
from processors import wire
from processors.app import build_pipeline
from processors.intake import decode_fetch
from processors.record_reader import Polled
from processors.records import ActivityKind, AudioFrame, Envelope, Insight, Ledger, WindowKind
from processors.rejects import Rejects
from processors.stages.detect import Detect
from processors.stages.extract import Extract
from processors.stages.model import Model
from processors.transport import Batch, Fetch
from schemas.v1.audio_pb2 import AudioFrame as AudioMessage
from schemas.v1.dead_letter_pb2 import DeadLetter
from tests.processors.test_pipeline import Results, canonical
from tests.signals import demo_leg

PARTITIONS = 4
VICTIM, OTHER, AGENT = StreamId("call-1", "customer"), StreamId("call-2", "customer"), StreamId("call-1", "agent")
SAMPLES = 960
SECONDS = 9
AUDIO = {VICTIM: (0, 0), OTHER: (0, 20), AGENT: (1, 0)}
"""Of each stream: the demo call's leg, and the second where it begins."""


def records_of(stream: StreamId) -> list[Envelope]:
    leg, second = AUDIO[stream]
    pcm = demo_leg(leg)[second * 16_000 : (second + SECONDS) * 16_000]
    count = len(pcm) // SAMPLES
    return [
        Envelope(
            AudioFrame(stream, n, n * SAMPLES, pcm[n * SAMPLES : (n + 1) * SAMPLES], last=n == count - 1),
            Ledger(arrived_ns=1 + n, published_ns=2 + n),
        )
        for n in range(count)
    ]


def fetch_of(*polled: tuple[int, Polled]) -> Fetch:
    batches: dict[int, Batch] = {}
    for partition, record in polled:
        batches.setdefault(partition, Batch(TP(AUDIO_FRAMES.name, partition), [])).records.append(record)
    return Fetch(batches)


def polled(envelope: Envelope, offset: int, **changes: Any) -> tuple[int, Polled]:
    stream = envelope.record.stream
    made = Polled(offset, str(stream).encode(), wire.encode(envelope), 1_790_000_000_000)
    return partition_of(stream.call_id, PARTITIONS), made._replace(**changes)


def audio(**fields: Any) -> bytes:
    return AudioMessage(**{"call_id": VICTIM.call_id, "leg": VICTIM.leg, **fields}).SerializeToString()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"value": b"\xff\xff"}, "not a callscope.v1.AudioFrame"),
        ({"value": None}, "without call id or leg, or with impossible ones"),
        ({"value": audio(leg="a/b")}, "without call id or leg, or with impossible ones"),
        ({"value": audio(pcm=b"\0" * 641)}, "641 bytes of 16-bit audio"),
        ({"value": audio(pcm=b"\0" * 642)}, "no whole frames"),
        ({"value": audio(start=2**60)}, "a media time of 1152921504606846976 samples"),
        ({"key": b"call-1/agent"}, "a record of call-1/customer under the key b'call-1/agent'"),
        ({"key": None}, "under the key None"),
        ({"value": audio(call_id="call-2")}, "under the key"),
    ],
)
def test_a_record_that_is_not_what_it_should_be_is_left_out_with_a_letter(changes: dict[str, Any], reason: str) -> None:
    good = records_of(VICTIM)[:3]
    at, bad = polled(good[1], 11, **changes)
    rejects = Rejects("fused")
    fetch = fetch_of(polled(good[0], 10), (at, bad), polled(good[2], 12))
    found = decode_fetch(fetch, PARTITIONS, rejects)
    assert [wire.encode(envelope) for envelope in found] == [wire.encode(good[0]), wire.encode(good[2])]
    (letter,) = rejects.take(fetch)
    assert reason in letter.reason
    assert (letter.stage, key_of(letter)) == ("fused", f"audio.frames/{at}/11")
    assert (letter.key, letter.value) == (bad.key or b"", bad.value or b"")
    assert rejects.take(fetch) == []


def test_a_record_in_a_partition_that_is_not_its_streams_is_left_out() -> None:
    right, record = polled(records_of(VICTIM)[0], 1)
    rejects = Rejects("detect")
    fetch = fetch_of(((right + 1) % PARTITIONS, record))
    assert decode_fetch(fetch, PARTITIONS, rejects) == []
    assert f"whose partition is {right}" in rejects.take(fetch)[0].reason


def test_letters_are_bounded_in_size_and_number() -> None:
    at, record = polled(records_of(VICTIM)[0], 0, value=b"\xff" * 200_000)
    fetch = fetch_of(*((at, record._replace(offset=n)) for n in range(1_000)))
    rejects = Rejects("fused")
    decode_fetch(fetch, PARTITIONS, rejects)
    letters = rejects.take(fetch)
    assert 0 < len(letters) <= 5 * LETTERS_PER_S
    assert {len(letter.value) for letter in letters} == {MAX_BYTES}
    assert {letter.value_bytes for letter in letters} == {200_000}


# ── a stage that fails on one stream ────────────────────────────────────────────────────────────────────────────


def fail_once(broken: pytest.MonkeyPatch, stage: type, method: str, call: int) -> None:
    """The victim's stage fails at that call of the method."""
    works, calls = getattr(stage, method), itertools.count()

    def fails(self: Any, *arguments: Any, **named: Any) -> Any:
        if self._stream == VICTIM and next(calls) == call:
            raise ZeroDivisionError("a defect")
        return works(self, *arguments, **named)

    broken.setattr(stage, method, fails)


def run() -> tuple[Results, list[DeadLetter]]:
    """What comes of all three streams, in batches, and the letters."""
    rejects = Rejects("fused")
    pipeline = build_pipeline(load(), failed=rejects.failed)
    streams = [records_of(stream) for stream in AUDIO]
    results, letters, offset = [], [], 0
    while any(streams):
        batch = [envelope for records in streams for envelope in records[:7]]
        fetch = fetch_of(*(polled(envelope, offset + n) for n, envelope in enumerate(batch)))
        offset += len(batch)
        results += pipeline(decode_fetch(fetch, PARTITIONS, rejects))
        letters += rejects.take(fetch)
        streams = [records[7:] for records in streams]
    return canonical(results), letters


@pytest.fixture(scope="module")
def expected() -> Results:
    results, letters = run()
    assert letters == []
    return results


def without_victim(results: Results) -> Results:
    return {key: value for key, value in results.items() if key[0] != VICTIM}


def read(results: Results, topic: Topic) -> list[Any]:
    """The victim's records."""
    return [wire.decode(topic.name, value).record for value in results[VICTIM, topic.name]]


@pytest.mark.parametrize("method", ["admit", "decide"])
def test_detect_failing_touches_its_stream_only(
    method: str, expected: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_once(monkeypatch, Detect, method, 40)
    results, (letter,) = run()
    assert without_victim(results) == without_victim(expected)
    assert (letter.stage, letter.topic, letter.reason) == ("detect", "audio.frames", "ZeroDivisionError: a defect")
    broken = AudioMessage.FromString(letter.value)
    assert StreamId(broken.call_id, broken.leg) == VICTIM
    levels = read(results, VOICE_ACTIVITY)
    assert max(level.start for level in levels) > (SECONDS - 0.2) * 16_000
    speech = [(r.start, r.kind) for r in levels if r.kind is not ActivityKind.LEVEL and r.start > broken.start]
    assert speech, "and what is spoken later is heard"


def test_extract_failing_touches_its_segment_only(expected: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_once(monkeypatch, Extract, "step", 20)
    results, (letter,) = run()
    assert without_victim(results) == without_victim(expected)
    assert (letter.stage, letter.topic) == ("extract", "audio.frames")
    assert AudioMessage.FromString(letter.value).call_id == VICTIM.call_id, "the audio that brought it about"
    assert results[VICTIM, VOICE_ACTIVITY.name] == expected[VICTIM, VOICE_ACTIVITY.name]

    def utterances(of: Results) -> list[int]:
        return [window.segment for window in read(of, VOICE_FEATURES) if window.kind is WindowKind.UTTERANCE]

    assert len(utterances(results)) == len(utterances(expected)) - 1


def test_a_model_failing_on_a_window_says_so_there_and_nowhere_else(
    expected: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[bytes] = []
    works = Model.run

    def fails(self: Model, given: np.ndarray, *more: np.ndarray) -> np.ndarray:
        if self.manifest.name == "voice-quality":
            rows.extend(row.tobytes() for row in given)
            if len(rows) > 20 and rows[20] in rows[-len(given) :]:
                raise RuntimeError("no kernel for that")
        return works(self, given, *more)

    monkeypatch.setattr(Model, "run", fails)
    results, (letter,) = run()
    assert (letter.stage, letter.reason) == ("infer", "RuntimeError: no kernel for that")
    ((before, after),) = [
        pair
        for key, values in expected.items()
        for pair in zip(values, results[key], strict=True)
        if pair[0] != pair[1]
    ]
    told, should = (wire.decode(VOICE_INSIGHTS.name, value).record for value in (after, before))
    assert isinstance(told, Insight) and isinstance(should, Insight)
    assert (told.stream, told.model, told.start) == (should.stream, "voice-quality", should.start)
    assert {output.unknown_because for output in told.outputs} == {"the model failed on it"}


# ── repetitions and disorder ────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=5)
@given(st.data())
def test_repeated_and_reordered_records_give_the_same_results(expected: Results, data: st.DataObject) -> None:
    pipeline = build_pipeline(load())
    mixed: list[Envelope] = []
    for stream in AUDIO:
        records = records_of(stream)
        late = data.draw(st.lists(st.integers(0, 8), min_size=len(records), max_size=len(records)))
        order = sorted(range(1, len(records)), key=lambda n: (n + late[n], n))
        mixed += [records[0], *(records[n] for n in order)]
    for again in data.draw(st.lists(st.integers(0, len(mixed) - 1), max_size=40)):
        mixed.insert(data.draw(st.integers(again + 1, len(mixed))), mixed[again])
    results: list[Envelope] = []
    for at in range(0, len(mixed), 25):
        results += pipeline(mixed[at : at + 25])
    assert canonical(results) == expected
