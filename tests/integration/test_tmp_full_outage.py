"""Bad networks between client and gateway, on the whole system: what comes out is what the audio that came says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray
from websockets.asyncio.client import connect

from callscope import clock
from callscope.client.backoff import Backoff
from callscope.client.recording import Recording
from callscope.client.sender import Sender
from callscope.config import Settings
from callscope.supervisor import System
from callscope.topics import AUDIO_FRAMES, CALL_EVENTS
from schemas.v1.events_pb2 import CallEvent
from tests.integration.records import Stored, read_when
from tests.integration.test_system import results_of
from tests.tcp_trouble import Trouble, trouble

pytestmark = pytest.mark.integration

LEGS = ("customer", "agent")
RATE_HZ = 16_000
CHUNK = 320
SECONDS = 30.0
SPEED = 1.0
"""Of the sending; an outage of 1 s is then 5 s of the call."""
OUTAGE_S = 10.0
BUFFER_S = 5.0

Event = tuple[float, Callable[[], Awaitable[None]]]


@pytest.fixture(scope="module")
def call(demo_call: Recording) -> NDArray[np.int16]:
    """The beginning of the demo call, 16 kHz, shape (samples, 2)."""
    pcm = demo_call.pcm[: round(SECONDS * demo_call.rate_hz)]
    return np.ascontiguousarray(soxr.resample(pcm, demo_call.rate_hz, RATE_HZ)).astype(np.int16)


async def send(proxy: Trouble, call_id: str, call: NDArray[np.int16], events: list[Event], buffer_s: float) -> Sender:
    """Send a call as it is spoken, `SPEED` times faster; at each event's second of the call let it happen."""
    url = f"ws://127.0.0.1:{proxy.port}/v1/stream"
    began = clock.monotonic()
    async with (
        Sender(
            url, call_id, LEGS, rate_hz=RATE_HZ, buffer_s=buffer_s, silence_s=2.0, backoff=Backoff(0.05, 0.2)
        ) as sender,
        asyncio.TaskGroup() as happening,
    ):
        for at in range(0, len(call), CHUNK):
            while events and at / RATE_HZ >= events[0][0]:
                happening.create_task(events.pop(0)[1]())  # type: ignore[arg-type]  # they are coroutines
            await sender.send(call[at : at + CHUNK].tobytes())
            await asyncio.sleep(max(0.0, began + at / RATE_HZ / SPEED - clock.monotonic()))
        await sender.end()
    return sender


def timeline(stored: list[Stored], leg: str, length: int) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """A leg's frames at their media times, and where there are any; fails on overlap or an untold hole."""
    heard, there = np.zeros(length, np.int16), np.zeros(length, bool)
    clock_at, seq = 0, 0
    for record in stored:
        frame = record.message
        if frame.leg != leg:
            continue
        assert (frame.seq, frame.start) == (seq, clock_at + frame.gap_before), "nothing twice, no hole untold"
        pcm = np.frombuffer(frame.pcm, "<i2")
        clock_at, seq = frame.start + len(pcm), seq + 1
        heard[frame.start : clock_at], there[frame.start : clock_at] = pcm, True
    assert clock_at == length
    return heard, there


async def frames_of(kafka: Settings, call_id: str) -> list[Stored]:
    return await read_when(kafka, AUDIO_FRAMES, call_id, lambda found: sum(r.message.last for r in found) == len(LEGS))


def port_of(system: System) -> int:
    port = urlsplit(system.addresses.gateway).port
    assert port is not None
    return port


async def test_delay_jitter_stalls_cuts_and_half_open_lose_and_double_nothing(
    fused: System, kafka: Settings, call: NDArray[np.int16], call_id: str
) -> None:
    async with trouble(port_of(fused)) as proxy:
        proxy.delay_s, proxy.jitter_s, proxy.stall_share, proxy.stall_s = 0.02, 0.03, 0.05, 0.2

        async def cut() -> None:
            proxy.cut()

        async def black_out() -> None:
            proxy.black_out()

        sender = await send(proxy, call_id, call, [(3.0, cut), (6.0, black_out), (12.0, cut)], buffer_s=60.0)
    assert sender.progress.reconnects >= 2 and sender.progress.dropped == sender.progress.restarts == 0
    stored = await frames_of(kafka, call_id)
    for channel, leg in enumerate(LEGS):
        heard, there = timeline(stored, leg, len(call))
        assert there.all()
        assert np.array_equal(heard, call[:, channel])


async def test_an_outage_is_a_marked_hole_and_results_around_it_are_those_of_the_audio_that_came(
    fused: System, kafka: Settings, call: NDArray[np.int16], call_id: str
) -> None:
    async with trouble(port_of(fused)) as proxy:

        async def outage() -> None:
            proxy.accepts = False
            proxy.cut()
            await asyncio.sleep(OUTAGE_S)
            proxy.accepts = True

        sender = await send(proxy, call_id, call, [(4.0, outage)], BUFFER_S)
    assert sender.progress.dropped > 0 and sender.progress.restarts == 0
    stored = await frames_of(kafka, call_id)
    events = await read_when(kafka, CALL_EVENTS, call_id, lambda found: found[-1].message.kind == CallEvent.CALL_ENDED)
    gaps = [r.message for r in events if r.message.kind == CallEvent.GAP]
    assert [gap.leg for gap in gaps] == list(LEGS)
    first, duration = gaps[0].at, gaps[0].duration
    assert (gaps[1].at, gaps[1].duration, gaps[0].reason) == (first, duration, "lost")
    print(f"hole of {duration / RATE_HZ:.2f} s from {first / RATE_HZ:.2f} s on, {sender.progress}")
    for channel, leg in enumerate(LEGS):
        heard, there = timeline(stored, leg, len(call))
        outside = np.ones(len(call), bool)
        outside[first : first + duration] = False
        assert there[outside].all()
        assert np.array_equal(heard[outside], call[outside, channel])
        assert not heard[~outside].any()

    # The same audio with the same hole, over a network without trouble.
    quiet = f"{call_id}-quiet"
    hello = {"type": "hello", "call_id": quiet, "legs": LEGS, "encoding": "s16le", "rate_hz": RATE_HZ, "channels": 2}
    async with connect(fused.addresses.gateway, compression=None, ping_timeout=None) as gateway:
        await gateway.send(json.dumps(hello))
        for at in range(0, len(call), CHUNK):  # as the client cut it, because segments come in such pieces too
            if at == first + duration:
                await gateway.send(json.dumps({"type": "at", "sample": at}))
            if not first <= at < first + duration:
                await gateway.send(call[at : at + CHUNK].tobytes())
        await gateway.send(json.dumps({"type": "end"}))
        async for text in gateway:
            assert json.loads(text)["type"] in ("ready", "ack", "ended")
    results, expected = await results_of(kafka, call_id), await results_of(kafka, quiet)
    assert results == expected
    assert len(results) >= 6
