"""Audio that is held in the gateway for more of its stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from callscope.access import ANYONE
from callscope.errors import NotPublished
from callscope.streams import StreamId
from ingest.audio.framing import AudioFormat
from ingest.coalescing import LONGEST_MS, QUEUED_RECORDS, STEPS, hold_ms
from ingest.intake import Intake
from ingest.protocols.events import Opened
from ingest.source import Source
from tests.ingest.recording import RecordingPublisher

CHUNK = np.arange(320).astype("<i2").tobytes()


def test_the_more_there_is_to_do_the_longer_audio_is_held_and_never_beyond_a_record() -> None:
    held = [hold_ms(streams, 0) for streams in range(1_000)]
    assert held == sorted(held)
    assert held[0] == 0 and held[-1] == LONGEST_MS
    assert {held[most] for most, _ in STEPS} == {ms for _, ms in STEPS}
    assert hold_ms(1, QUEUED_RECORDS) == LONGEST_MS


@asynccontextmanager
async def busy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[RecordingPublisher, Source]]:
    """A gateway that holds audio."""
    monkeypatch.setattr("ingest.intake.hold_ms", lambda streams, queued: 60)
    publisher = RecordingPublisher()
    intake = Intake(publisher, 10, 1.0)
    ticking = asyncio.create_task(intake.run())
    await asyncio.sleep(0)
    opened = Opened((StreamId("call", "customer"),), AudioFormat("s16le", 16_000, 1), "test", {})
    try:
        yield publisher, await intake.open(opened, ANYONE)
    finally:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)


async def test_what_comes_within_a_tick_is_one_record_as_old_as_its_oldest_audio(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with busy(monkeypatch) as (publisher, source):
        for arrived_ns in (1, 2, 3):
            await source.audio(CHUNK, arrived_ns)
        assert source.taken == 960
        assert not publisher.of("call/customer")
        while not publisher.of("call/customer"):  # noqa: ASYNC110  # the tick comes by itself
            await asyncio.sleep(0.005)
    [published] = publisher.of("call/customer")
    assert published.record.pcm == CHUNK * 3
    assert published.arrived_ns == 1


async def test_a_hole_does_not_overtake_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    async with busy(monkeypatch) as (publisher, source):
        await source.audio(CHUNK, 1)
        await source.missing(16_000, "lost", 2)
        await source.audio(CHUNK, 3)
        await source.end("end", 4, whole=True)
    records = [published.record for published in publisher.of("call/customer")]
    assert [(record.start, len(record.pcm) // 2) for record in records if record.pcm] == [(0, 320), (16_320, 320)]


async def test_a_source_without_room_keeps_what_it_holds_and_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async with busy(monkeypatch) as (publisher, source):
        publisher.open.clear()
        await source.audio(CHUNK, 1)
        await asyncio.sleep(0.2)
        assert not publisher.of("call/customer")
        publisher.open.set()
        await source.end("end", 2, whole=True)
    assert publisher.of("call/customer")[0].record.pcm == CHUNK


async def test_audio_that_cannot_be_published_is_told_to_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    async with busy(monkeypatch) as (publisher, source):
        publisher.refuses = True
        await source.audio(CHUNK, 1)
        async with asyncio.timeout(5):
            with pytest.raises(NotPublished):
                while True:
                    source.check()
                    await asyncio.sleep(0.01)
