"""What a source does to its streams, without a wire."""

from __future__ import annotations

import numpy as np
import pytest

from callscope.access import ANYONE, Grant
from callscope.errors import BadAudio, BadHello, StreamExists, TooManyFromOne
from callscope.streams import StreamId
from ingest.audio.framing import AudioFormat
from ingest.intake import Intake
from ingest.protocols.events import Marked, Opened
from ingest.source import Source
from schemas.v1.events_pb2 import CallEvent
from tests.ingest.recording import RecordingPublisher

ACME = Grant("acme", frozenset({"publish"}))


def opened(call_id: str = "call", *legs: str, rate_hz: int = 16_000) -> Opened:
    legs = legs or ("customer",)
    return Opened(tuple(StreamId(call_id, leg) for leg in legs), AudioFormat("s16le", rate_hz, len(legs)), "test", {})


async def opening(*legs: str, grant: Grant = ANYONE) -> tuple[RecordingPublisher, Source]:
    publisher = RecordingPublisher()
    return publisher, await Intake(publisher, 10, 1.0).open(opened("call", *legs), grant)


def sound(first: int, samples: int) -> bytes:
    return np.arange(first, first + samples).astype("<i2").tobytes()


async def test_a_hole_is_told_on_every_leg_and_by_the_next_record() -> None:
    publisher, source = await opening("customer", "agent")
    both = np.repeat(np.arange(1, 481)[:, None], 2, axis=1).astype("<i2")
    await source.audio(both.tobytes(), 1)
    await source.missing(16_000, "discarded", 2)
    await source.audio(both.tobytes(), 3)
    await source.end("end", 4, whole=True)
    for leg in ("customer", "agent"):
        records = [published.record for published in publisher.of(f"call/{leg}")]
        assert [(record.start, record.end, record.gap_before) for record in records[:2]] == [(0, 320, 0), (320, 640, 0)]
        assert records[2].gap_before == 15_680
        assert records[2].start == 640 + 15_680
    gaps = [h for h in publisher.happenings() if h.kind == CallEvent.GAP]
    assert [(h.leg, h.at, h.duration, h.reason) for h in gaps] == [
        ("customer", 480, 16_000, "discarded"),
        ("agent", 480, 16_000, "discarded"),
    ]


async def test_a_hole_of_less_than_a_frame_is_silence() -> None:
    publisher, source = await opening()
    await source.audio(sound(1, 320), 1)
    await source.missing(319, "lost", 1)
    await source.audio(sound(1, 1), 1)
    await source.end("end", 1, whole=True)
    assert not publisher.pcm("call/customer")[320:639].any()
    assert publisher.pcm("call/customer")[639] == 1
    assert CallEvent.GAP not in [h.kind for h in publisher.happenings()]


async def test_audio_is_placed_overlap_dropped_and_holes_told() -> None:
    publisher, source = await opening()
    await source.audio(sound(0, 640) + b"\7", 1)  # cut inside a sample
    assert source.taken == 640
    await source.place(320, 1)
    await source.audio(sound(320, 200), 1)
    await source.audio(sound(520, 440), 1)
    assert source.taken == 960
    await source.place(960 + 3_200, 1)
    await source.audio(sound(4_160, 320), 1)
    await source.end("end", 1, whole=True)
    pcm = publisher.pcm("call/customer")
    assert np.array_equal(pcm, np.concatenate([np.arange(960), np.arange(4_160, 4_480)]))
    assert publisher.of("call/customer")[-1].record.end == 4_480


async def test_a_hole_longer_than_a_day_is_not_believed() -> None:
    _, source = await opening()
    with pytest.raises(BadAudio, match="more than a day"):
        await source.missing(16_000 * 86_401, "lost", 1)
    await source.end("end", 1, whole=True)


async def test_capture_times_follow_the_samples() -> None:
    publisher, source = await opening()
    await source.audio(sound(0, 320), 1, captured_ns=5_000_000_000)
    await source.audio(sound(320, 960), 1, captured_ns=5_100_000_000)
    await source.audio(sound(0, 320), 1)
    await source.end("end", 1, whole=True)
    assert [p.record.captured_ns for p in publisher.of("call/customer")][:3] == [
        5_000_000_000,
        5_100_000_000,
        5_160_000_000,
    ]


async def test_marks_are_told_with_their_media_time() -> None:
    publisher, source = await opening("customer", "agent")
    await source.audio(bytes(4 * 320), 1)
    await source.mark(Marked("dtmf", "customer"))
    await source.mark(Marked("held"))
    await source.end("end", 1, whole=True)
    told = [(CallEvent.Kind.Name(h.kind), h.leg, h.at) for h in publisher.happenings()]
    assert told[3:6] == [("DTMF", "customer", 320), ("HELD", "customer", 320), ("HELD", "agent", 320)]


async def test_tenants_have_their_own_calls_and_do_not_see_the_names() -> None:
    publisher, source = await opening(grant=ACME)
    intake = source._intake
    other = await intake.open(opened(), ANYONE)
    with pytest.raises(StreamExists, match="Stream call/customer is"):
        await intake.open(opened(), ACME)
    await source.audio(bytes(640), 1)
    assert source.published() == {StreamId("call", "customer"): 320}
    for one in (source, other):
        await one.end("end", 1, whole=True)
    assert {h.call_id for h in publisher.happenings()} == {"acme~call", "call"}
    assert len(publisher.of("acme~call/customer")) == 2


@pytest.mark.parametrize("name", ["acme~call", "a/b", "", "x" * 129])
async def test_no_client_can_name_another_tenants_call(name: str) -> None:
    with pytest.raises(BadHello, match="cannot name"):
        await Intake(RecordingPublisher(), 10, 1.0).open(opened(name), ANYONE)


async def test_a_tenant_has_no_more_streams_than_it_may() -> None:
    intake = Intake(RecordingPublisher(), 10, 1.0, streams_per_tenant=1)
    first = await intake.open(opened("a"), ACME)
    with pytest.raises(TooManyFromOne, match="limit is 1"):
        await intake.open(opened("b"), ACME)
    other = await intake.open(opened("b"), ANYONE)
    for source in (first, other):
        await source.end("end", 1, whole=True)
