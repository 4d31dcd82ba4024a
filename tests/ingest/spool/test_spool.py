"""The publisher's spool with a Kafka that never answers: full, failing and slow disks, and what streams are told."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from callscope.config import Ingest, Spool, load
from callscope.errors import ConfigError, NotPublished
from callscope.streams import StreamId
from ingest.delivery import Delivery
from ingest.publisher import KafkaPublisher
from ingest.session import AudioRecord
from ingest.spool import spool
from ingest.spool.framing import HEADER_BYTES, decode

STREAM = StreamId("call", "leg")
SAMPLES = 960


def record(seq: int, *, last: bool = False) -> AudioRecord:
    return AudioRecord(STREAM, seq, seq * SAMPLES, bytes(2 * SAMPLES), last=last)


@asynccontextmanager
async def publishing(root: Path, told: list[str | None], **config: Any) -> AsyncIterator[KafkaPublisher]:
    """A publisher that has found out that Kafka is away."""
    settings = load(
        kafka="127.0.0.1:1",
        kafka_options={"log_level": "0"},
        topics={"partitions": 1},
        ingest=Ingest(publish_timeout_s=0.3, spool=Spool(after_s=0.01, **config)),
    )
    publisher = KafkaPublisher(settings, root, told.append)
    await publisher.open()
    running = asyncio.create_task(publisher.run())
    first = Delivery()
    await publisher.audio(AudioRecord(StreamId("first", "leg"), 0, 0, b""), "test", 1, first)
    async with asyncio.timeout(5):
        while publisher.trouble is None:  # noqa: ASYNC110  # noticed by the clock
            await asyncio.sleep(0.005)
    try:
        yield publisher
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def fill(publisher: KafkaPublisher, delivery: Delivery, most: int = 5_000) -> tuple[int, NotPublished]:
    """Send until there is no room: how many records were taken, and what was said."""
    for seq in range(most):
        try:
            async with asyncio.timeout(10):
                await publisher.room(delivery)
        except NotPublished as error:
            return seq, error
        await publisher.audio(record(seq), "test", 1, delivery)
        if seq % 20 == 0:
            await asyncio.sleep(0.002)
    raise AssertionError(f"{most} records were taken")


async def kept(delivery: Delivery) -> None:
    async with asyncio.timeout(10):
        while not delivery.is_kept:  # noqa: ASYNC110  # by the thread
            await asyncio.sleep(0.01)


def left(root: Path) -> list[int]:
    """The stream's sequence numbers that a next gateway would find."""
    found: list[int] = []
    for path in sorted(root.rglob("*.spool")):
        records, _ = decode(path.read_bytes()[HEADER_BYTES:])
        found += [r.seq for r, _ in records if r.key == str(STREAM)]
    return found


@pytest.fixture(autouse=True)
def as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here sources may be as fast as they like."""
    monkeypatch.setattr(spool, "HEAD_START_S", 1e6)


async def test_a_full_spool_refuses_new_streams_first_and_then_audio_and_keeps_all_it_took(tmp_path: Path) -> None:
    told: list[str | None] = []
    async with publishing(tmp_path, told, max_bytes=500_000) as publisher:
        delivery = Delivery()
        taken, error = await fill(publisher, delivery)
        assert "its spool is full (0 MiB)" in str(error) and "send the rest later" in str(error)
        assert not publisher.has_room(delivery)
        assert told == ["little room is left"], "long before"
        await publisher.audio(record(taken, last=True), "test", 1, delivery)  # the end of a stream always has room
        await kept(delivery)
        assert delivery.kept == (taken + 1) * SAMPLES and delivery.published == 0
    assert await publisher.close() == 0
    assert left(tmp_path) == list(range(taken + 1))


async def test_a_recording_at_full_speed_is_held_back_and_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "HEAD_START_S", 2.0)
    monkeypatch.setattr(spool, "CATCH_UP", 0.0)
    async with publishing(tmp_path, []) as publisher:
        recording, live = Delivery(), Delivery()
        for seq in range(34):
            await publisher.room(recording)
            await publisher.audio(record(seq), "test", 1, recording)
        assert not publisher.has_room(recording)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.6):  # twice what a stream waits for a full spool
                await publisher.room(recording)
        live.partition = 0
        await publisher.room(live)
    assert await publisher.close() == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"needs a file system of its own: {mounted.stderr.decode().strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


async def test_a_full_disk_is_told_and_what_was_taken_is_written_when_there_is_room_again(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "RETRY_S", 0.05)
    others = small_disk / "others"
    others.write_bytes(bytes(600_000))
    told: list[str | None] = []
    async with publishing(small_disk / "spool", told) as publisher:
        delivery = Delivery()
        taken, error = await fill(publisher, delivery)
        assert "its disk fails ([Errno 28] No space left on device)" in str(error)
        assert "No space left on device" in (publisher.trouble or "")
        assert told and told[0] is not None
        await publisher.audio(record(taken, last=True), "test", 1, delivery)
        assert not delivery.is_kept, "nobody says it is on disk"
        others.unlink()
        async with asyncio.timeout(10):
            await publisher.room(delivery)
        await kept(delivery)
    assert await publisher.close() == 0
    assert left(small_disk) == list(range(taken + 1))


async def test_what_is_on_no_disk_when_the_gateway_ends_is_counted(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with publishing(small_disk / "spool", []) as publisher:
        delivery = Delivery()
        taken, _ = await fill(publisher, delivery)
    lost = await publisher.close()
    assert lost > 0
    assert left(small_disk) == list(range(taken - lost))


async def test_a_slow_disk_holds_back_sources_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on, waits = threading.Event(), threading.Event()
    pwrite = os.pwrite

    def slow(*arguments: Any) -> int:
        waits.set()
        assert goes_on.wait(30)
        return pwrite(*arguments)

    monkeypatch.setattr("ingest.spool.folder.os.pwrite", slow)
    monkeypatch.setattr(spool, "PENDING_BYTES", 100_000)
    async with publishing(tmp_path, []) as publisher:
        delivery = Delivery()
        try:
            taken, error = await fill(publisher, delivery)
            assert waits.is_set() and "its disk is too slow" in str(error)
            assert delivery.kept == 0
        finally:
            goes_on.set()
        async with asyncio.timeout(10):
            await publisher.room(delivery)
    assert await publisher.close() == 0
    assert left(tmp_path) == list(range(taken))


async def test_a_folder_that_cannot_be_used_is_a_clear_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    publisher = KafkaPublisher(load(kafka="127.0.0.1:1"), tmp_path / "file" / "spool")
    with pytest.raises(ConfigError, match="CALLSCOPE_INGEST__SPOOL__DATA_DIR"):
        await publisher.open()
