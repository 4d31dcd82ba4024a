"""The reconnecting client against a real gateway, through a proxy that makes trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from callscope.client.backoff import Backoff
from callscope.client.sender import Sender, SendRefused
from schemas.v1.events_pb2 import CallEvent
from tests.ingest.recording import RecordingPublisher
from tests.ingest.serving import Serving, serving
from tests.tcp_trouble import Trouble, trouble

CHUNK = 320
STREAM = "call/customer"


def sound(seconds: float) -> NDArray[np.int16]:
    return np.random.default_rng(3).integers(-9_000, 9_000, round(seconds * 16_000)).astype("<i2")


def sender(proxy: Trouble, **options: Any) -> Sender:
    options = {"rate_hz": 16_000, "backoff": Backoff(0.02, 0.1), "silence_s": 1.0, **options}
    return Sender(f"ws://127.0.0.1:{proxy.port}/v1/stream", "call", ("customer",), **options)


async def feed(client: Sender, audio: NDArray[np.int16], speed: float = 20.0) -> None:
    for at in range(0, len(audio), CHUNK):
        await client.send(audio[at : at + CHUNK].tobytes())
        await asyncio.sleep(CHUNK / 16_000 / speed)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110  # what is watched knows of no event
            await asyncio.sleep(0.005)


def timeline(publisher: RecordingPublisher, stream: str = STREAM) -> NDArray[np.int16]:
    """What the records say at their media times, holes as -32768; fails where they overlap or leave a gap untold."""
    records = [published.record for published in publisher.of(stream)]
    heard = np.full(records[-1].end, -32_768, np.int16)
    clock = 0
    for record in records:
        assert record.start == clock + record.gap_before, "nothing twice, no hole untold"
        heard[record.start : record.end] = np.frombuffer(record.pcm, "<i2")
        clock = record.end
    assert [record.last for record in records] == [False] * (len(records) - 1) + [True]
    return heard


def kinds(serving: Serving) -> list[str]:
    return [CallEvent.Kind.Name(happening.kind) for happening in serving.publisher.happenings()]


async def test_delay_jitter_and_stalls_change_nothing() -> None:
    audio = sound(4.0)
    async with serving() as gateway, trouble(gateway.port) as proxy:
        proxy.delay_s, proxy.jitter_s, proxy.stall_share, proxy.stall_s = 0.01, 0.02, 0.05, 0.2
        async with sender(proxy, silence_s=10.0) as client:
            await feed(client, audio)
            ended = await client.end()
        assert ended["streams"][STREAM]["duration_s"] == 4.0
        assert np.array_equal(timeline(gateway.publisher), audio)
        assert "GAP" not in kinds(gateway)
        assert client.progress.reconnects == 0


async def test_a_cut_connection_is_resumed_and_nothing_is_lost_or_doubled() -> None:
    audio = sound(6.0)
    async with serving() as gateway, trouble(gateway.port) as proxy:
        async with sender(proxy) as client:
            feeding = asyncio.create_task(feed(client, audio))
            for share in (0.2, 0.5, 0.8):
                await until(partial(lambda least: client.progress.taken > least, share * len(audio)))
                proxy.cut()
            await feeding
            await client.end()
        assert np.array_equal(timeline(gateway.publisher), audio)
        assert client.progress.reconnects >= 3
        assert client.progress.restarts == 0
        told = kinds(gateway)
        assert told.count("RECONNECTED") >= 3
        assert [kind for kind in told if kind != "RECONNECTED"] == [
            "CALL_STARTED",
            "STREAM_STARTED",
            "STREAM_ENDED",
            "CALL_ENDED",
        ]
        assert gateway.publisher.happenings()[-1].reason == "end"


async def test_an_outage_longer_than_the_buffer_is_a_gap_and_all_else_is_right() -> None:
    audio = sound(8.0)
    async with serving() as gateway, trouble(gateway.port) as proxy:
        async with sender(proxy, buffer_s=2.0) as client:
            feeding = asyncio.create_task(feed(client, audio))
            await until(lambda: client.progress.taken > 16_000)
            proxy.accepts = False
            proxy.cut()
            await until(lambda: client.progress.dropped > 16_000)
            proxy.accepts = True
            await feeding
            await client.end()
        heard = timeline(gateway.publisher)
        assert len(heard) == len(audio), "media time goes on as if nothing had happened"
        there = heard != -32_768
        wrong = there & (heard != audio)
        assert np.count_nonzero(wrong) < 640, "but for the silence that fills the frames at the edges of the hole"
        assert not heard[wrong].any()
        (gap,) = [h for h in gateway.publisher.happenings() if h.kind == CallEvent.GAP]
        assert gap.reason == "lost"
        assert gap.duration >= np.count_nonzero(~there) > gap.duration - 640
        assert not there[gap.at + 640 : gap.at + gap.duration - 640].any()


async def test_a_half_open_connection_is_taken_over() -> None:
    audio = sound(5.0)
    async with serving(idle_timeout_s=60.0) as gateway, trouble(gateway.port) as proxy:
        async with sender(proxy, silence_s=0.3) as client:
            feeding = asyncio.create_task(feed(client, audio))
            await until(lambda: client.progress.acknowledged > 16_000)
            proxy.black_out()
            await feeding
            await client.end()
        assert proxy.connections >= 2
        assert np.array_equal(timeline(gateway.publisher), audio)


async def test_a_client_that_stays_away_is_ended_and_comes_back_with_media_time_going_on() -> None:
    audio = sound(5.0)
    async with serving(resume_s=0.2) as gateway, trouble(gateway.port) as proxy:
        async with sender(proxy) as client:
            feeding = asyncio.create_task(feed(client, audio))
            await until(lambda: client.progress.acknowledged > 16_000)
            proxy.accepts = False
            proxy.cut()
            await until(lambda: gateway.gate.intake.open_streams == 0)
            proxy.accepts = True
            await feeding
            await client.end()
        assert client.progress.restarts == 1
        records = [published.record for published in gateway.publisher.of(STREAM)]
        assert [record.last for record in records].count(True) == 2
        first, second = [h for h in gateway.publisher.happenings() if h.kind == CallEvent.STREAM_ENDED]
        assert (first.reason, second.reason) == ("connection lost", "end")
        for record in records:
            pcm = np.frombuffer(record.pcm, "<i2")
            same = pcm == audio[record.start : record.end][: len(pcm)]
            assert np.count_nonzero(~same) < 320 and not pcm[~same].any(), "every sample at its media time"
        assert records[-1].end == len(audio)


async def test_the_end_is_told_again_to_a_client_that_missed_it() -> None:
    audio = sound(1.0)
    async with serving(ack_interval_s=60.0) as gateway, trouble(gateway.port) as proxy:
        async with sender(proxy, silence_s=0.5) as client:
            await feed(client, audio)
            proxy.black_out()
            gateway.publisher.open.clear()  # the end waits for Kafka, and its answer finds nobody
            ending = asyncio.create_task(client.end())
            await asyncio.sleep(0.05)
            gateway.publisher.open.set()
            ended = await ending
        assert ended["streams"][STREAM]["duration_s"] == 1.0
        assert np.array_equal(timeline(gateway.publisher), audio)


async def test_a_full_buffer_holds_a_file_back() -> None:
    async with serving() as gateway, trouble(gateway.port) as proxy:
        async with sender(proxy, buffer_s=1.0, when_full="wait", silence_s=30.0) as client:
            gateway.publisher.open.clear()
            feeding = asyncio.create_task(feed(client, sound(3.0), speed=1e9))
            await asyncio.sleep(0.3)
            assert client.progress.taken <= 16_000
            gateway.publisher.open.set()
            await feeding
            await client.end()
        assert client.progress.dropped == 0
        assert np.array_equal(timeline(gateway.publisher), sound(3.0))


async def test_nobody_there_at_the_first_try_is_told_at_once() -> None:
    with pytest.raises(SendRefused, match="No gateway answers"):
        async with Sender("ws://127.0.0.1:1/v1/stream", "call", ("a",), rate_hz=16_000):
            pass


async def test_a_refusal_is_not_tried_again() -> None:
    async with serving() as gateway, trouble(gateway.port) as proxy:
        with pytest.raises(SendRefused, match="bad_hello"):
            async with sender(proxy, metadata={"": "no name"}):
                pass
        assert proxy.connections == 1


async def test_a_gateway_that_stays_away_is_given_up() -> None:
    async with serving() as gateway, trouble(gateway.port) as proxy, sender(proxy, give_up_s=0.2) as client:
        proxy.accepts = False
        proxy.cut()
        with pytest.raises(SendRefused, match=r"tried again for 0\.2 s"):
            await client.end()
