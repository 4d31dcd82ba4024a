"""The sink is killed in mid-call, and Kafka holds findings twice: a subscriber that comes back notices neither."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from callscope.client import results
from callscope.client.backoff import Backoff
from callscope.client.recording import Recording
from callscope.client.sending import send
from callscope.config import Settings, child_environment
from callscope.kafka import producer
from callscope.lifetime import spawn, stop
from callscope.probe import is_well
from callscope.supervisor import System, can_listen
from callscope.topics import VOICE_ACTIVITY, VOICE_FEATURES, VOICE_INSIGHTS, Topic
from tests.integration.records import Stored, read_call, read_when

pytestmark = pytest.mark.integration

LEGS = ("customer", "agent")
SECONDS = 24.0
RESULTS = (VOICE_ACTIVITY, VOICE_FEATURES, VOICE_INSIGHTS)


@asynccontextmanager
async def sink_at(kafka: Settings, port: int) -> AsyncIterator[Any]:
    """A sink as a process of its own; yielded when it takes subscribers."""
    child = spawn([sys.executable, "-m", "sinks"], env=child_environment(kafka=str(kafka.kafka), sink__port=str(port)))
    try:
        async with asyncio.timeout(40):
            while not await asyncio.to_thread(is_well, f"http://127.0.0.1:{port}/readyz"):
                assert child.poll() is None
                await asyncio.sleep(0.1)
        yield child
    finally:
        await asyncio.to_thread(stop, child)


def write_again(kafka: Settings, topic: Topic, call_id: str) -> int:
    """What a worker does that begins again at its last commit: what it found already is found later, too."""
    writer = producer(kafka)
    found = read_call(kafka, topic, call_id)
    for stored in found:
        stored.message.ledger.detected_ns += 5_000_000_000
        partition = stored.raw.partition() or 0
        writer.produce(topic.name, stored.message.SerializeToString(), stored.raw.key(), partition=partition)
    assert writer.flush(10) == 0
    return len(found)


async def follow(address: str, call_id: str, finals: Counter[str], told: list[dict[str, Any]]) -> None:
    """Gather a call's finals, without what differs from one subscriber to another, and the answers to subscriptions."""
    async with results.subscription(address, calls=[call_id], backoff=Backoff(0.1, 0.5)) as messages:
        async for message in messages:
            if message["type"] == "subscribed":
                told.append(message)
            elif message["is_final"]:
                del message["ledger"], message["seq"], message["at"]
                finals[json.dumps(message, sort_keys=True)] += 1


async def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  # it knows no event
            await asyncio.sleep(0.05)


def over(stored: list[Stored]) -> bool:
    return [record.message.stream_ended for record in stored].count(True) >= len(LEGS)


async def test_a_sink_that_is_killed_loses_nothing_and_repeats_nothing(
    fused: System, kafka: Settings, demo_call: Recording, call_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "_REMEMBERED", 0)  # the client could leave out what the sink repeats
    port = can_listen("127.0.0.1", 0)
    assert port is not None
    undisturbed: Counter[str] = Counter()
    disturbed: Counter[str] = Counter()
    told: list[dict[str, Any]] = []
    beside: list[dict[str, Any]] = []
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(sink_at(kafka, port))
        followers = [
            asyncio.create_task(follow(fused.addresses.results, call_id, undisturbed, beside)),
            asyncio.create_task(follow(f"ws://127.0.0.1:{port}/v1/results", call_id, disturbed, told)),
        ]
        await until(lambda: bool(told and beside))
        sending = asyncio.create_task(send(demo_call, fused.addresses.gateway, call_id, LEGS, speed=3, limit_s=SECONDS))
        await until(lambda: len(disturbed) >= 8)
        first.kill()
        had = len(undisturbed)
        await until(lambda: len(undisturbed) >= had + 3)
        again = [await asyncio.to_thread(write_again, kafka, topic, call_id) for topic in RESULTS]
        await stack.enter_async_context(sink_at(kafka, port))
        await sending
        again += [await asyncio.to_thread(write_again, kafka, topic, call_id) for topic in RESULTS]
        assert all(again)
        await read_when(kafka, VOICE_INSIGHTS, call_id, over)
        await until(lambda: any('"call_ended"' in final for final in undisturbed))
        await until(lambda: set(disturbed) == set(undisturbed))
        await asyncio.sleep(1.0)  # what came twice would come now
        for follower in followers:
            follower.cancel()
        await asyncio.gather(*followers, return_exceptions=True)
    assert [answer["too_old"] for answer in told] == [[], []]
    assert len(beside) == 1
    assert disturbed == undisturbed
    assert set(undisturbed.values()) == {1}
    assert len(undisturbed) > 30
