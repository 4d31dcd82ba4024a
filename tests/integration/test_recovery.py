"""Workers are killed, added and removed while calls are spoken: on a real Kafka, the results are those of the audio."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from callscope import lifetime
from callscope.client.recording import Recording
from callscope.client.sending import send
from callscope.config import Settings, child_environment, load
from callscope.replay.digest import RESULTS, Digests
from callscope.supervisor import System
from callscope.topics import AUDIO_FRAMES, VOICE_INSIGHTS
from processors import wire
from processors.app import build_pipeline
from processors.records import SpeechFrame
from tests.integration.conftest import unhurried
from tests.integration.records import read_call, read_when

pytestmark = pytest.mark.integration

LEGS = ("customer", "agent")
CALLS = [f"call-{n}" for n in range(4)]
SECONDS = 20.0
SPEED = 2.0


@contextmanager
def tended(system: System) -> Iterator[None]:
    """Start again what ends, as `callscope up` does."""
    stop = threading.Event()

    def tend() -> None:
        while not stop.wait(0.05):
            system.tend()

    thread = threading.Thread(target=tend)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def kill(system: System, name: str) -> None:
    os.kill(system.children[name].pid, signal.SIGKILL)


async def spoken(system: System, call: Recording) -> None:
    """All calls at once."""
    gateway = system.addresses.gateway
    await asyncio.gather(*(send(call, gateway, name, LEGS, speed=SPEED, limit_s=SECONDS) for name in CALLS))


def digests_of_audio(settings: Settings, call_id: str) -> dict[str, str | None]:
    """What an undisturbed pipeline, without Kafka, finds in the audio that the topic holds."""
    frames = [wire.decode(AUDIO_FRAMES.name, r.raw.value()) for r in read_call(settings, AUDIO_FRAMES, call_id)]
    digests = Digests()
    for envelope in build_pipeline(settings)(frames):
        if not isinstance(envelope.record, SpeechFrame):
            digests.add(wire.topic_of(envelope.record).name, wire.encode(envelope))
    return {str(stream): digests.take(stream) for stream in digests.streams()}


async def digests_of_results(settings: Settings, call_id: str) -> dict[str, str | None]:
    """Of what the topics hold once the models have said all."""

    def complete(found: list[object]) -> bool:
        return {r.message.leg for r in found if r.message.stream_ended} == set(LEGS)  # type: ignore[attr-defined]

    await read_when(settings, VOICE_INSIGHTS, call_id, complete)
    digests = Digests()
    for topic in RESULTS:
        for record in await asyncio.to_thread(read_call, settings, topic, call_id):
            digests.add(topic.name, record.raw.value())
    return {str(stream): digests.take(stream) for stream in digests.streams()}


async def assert_results_are_those_of_the_audio(settings: Settings) -> None:
    for call_id in CALLS:
        expected = await asyncio.to_thread(digests_of_audio, settings, call_id)
        assert len(expected) == len(LEGS)
        assert await digests_of_results(settings, call_id) == expected, call_id


@pytest.mark.timeout(120)
async def test_killed_added_and_removed_workers_leave_no_trace(demo_call: Recording) -> None:
    settings = load(topics={"partitions": 4})
    with unhurried(settings, chained=False, workers=2) as system, tended(system):
        settings = settings.model_copy(update={"kafka": system.addresses.kafka})
        speaking = asyncio.create_task(spoken(system, demo_call))
        await asyncio.sleep(2.0)
        kill(system, "worker 1")
        await asyncio.sleep(2.5)
        # One more, without a name in the group, which is then killed and not started again.
        third = lifetime.spawn(
            [sys.executable, "-m", "processors"],
            env=child_environment(
                kafka=system.addresses.kafka, topics__partitions="4", processors__overload__shed="false"
            ),
        )
        try:
            await asyncio.sleep(3.5)
            kill(system, "worker 2")
            third.kill()
            assert not speaking.done()
            await speaking
        finally:
            lifetime.stop(third, 5.0)
        await assert_results_are_those_of_the_audio(settings)


@pytest.mark.timeout(120)
async def test_every_stage_of_the_other_wiring_may_die(demo_call: Recording) -> None:
    settings = load(topics={"partitions": 2})
    with unhurried(settings, chained=True, workers=1) as system, tended(system):
        settings = settings.model_copy(update={"kafka": system.addresses.kafka})
        speaking = asyncio.create_task(spoken(system, demo_call))
        for name in ("detect 1", "extract 1", "infer 1"):
            await asyncio.sleep(2.5)
            kill(system, name)
        assert not speaking.done()
        await speaking
        await assert_results_are_those_of_the_audio(settings)
