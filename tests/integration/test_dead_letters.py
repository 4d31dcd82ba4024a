"""Poison on audio.frames: it ends up in dead.letters, and the calls beside it, and around it, notice nothing."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from click.testing import CliRunner

from callscope import dead_letters
from callscope.cli import main
from callscope.client.recording import Recording
from callscope.client.sending import send
from callscope.clock import wall_ns
from callscope.config import Settings, child_environment
from callscope.kafka import producer
from callscope.supervisor import System
from callscope.topics import AUDIO_FRAMES, VOICE_FEATURES, partition_of
from schemas.v1.audio_pb2 import AudioFrame
from schemas.v1.dead_letter_pb2 import DeadLetter
from tests.integration.records import read_call
from tests.integration.test_system import results_of

pytestmark = pytest.mark.integration

LEGS = ("customer", "agent")
SECONDS = 8.0


def poison(kafka: Settings, call_id: str, again: list[bytes], seed: int) -> list[bytes]:
    """Records of some kinds of harm, under the key of a running stream; some of its own come again, in disorder."""
    rng = random.Random(seed)
    first = AudioFrame(call_id=call_id, leg="customer")
    bad = [
        rng.randbytes(200),
        b"",
        first.SerializeToString() + b"\xff",
        AudioFrame(call_id=call_id, leg="customer", pcm=b"\0" * 639).SerializeToString(),
        AudioFrame(call_id=call_id, leg="customer", start=2**63, pcm=b"\0" * 640).SerializeToString(),
        AudioFrame(call_id="another-call", leg="customer", pcm=b"\0" * 640).SerializeToString(),
    ]
    stray = AudioFrame(call_id=call_id, leg="customer", seq=5, start=16_000 * 3_600, pcm=b"\1" * 640)
    stray.ledger.arrived_ns = wall_ns()
    writer = producer(kafka)
    partition = partition_of(call_id, kafka.topics.partitions)
    for value in [*bad, stray.SerializeToString(), *rng.sample(again, len(again))]:
        writer.produce(AUDIO_FRAMES.name, value, f"{call_id}/customer", partition=partition)
    assert writer.flush(10) == 0
    return [*bad, stray.SerializeToString()]


async def letters_about(kafka: Settings, call_id: str, count: int) -> list[DeadLetter]:
    async with asyncio.timeout(30):
        while True:
            found = await asyncio.to_thread(lambda: list(dead_letters.read(kafka, wall_ns() // 1_000_000 - 600_000)))
            ours = [letter for letter in found if letter.key == f"{call_id}/customer".encode()]
            if len(ours) >= count:
                return ours
            await asyncio.sleep(0.3)


async def test_poison_harms_nobody_and_is_told(
    fused: System, kafka: Settings, demo_call: Recording, call_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean, harmed = f"{call_id}-clean", f"{call_id}-harmed"
    sending = [
        asyncio.create_task(send(demo_call, fused.addresses.gateway, call, LEGS, speed=2, limit_s=SECONDS))
        for call in (clean, harmed)
    ]
    await asyncio.sleep(1.5)
    stored = await asyncio.to_thread(read_call, kafka, AUDIO_FRAMES, harmed)
    again = [one.message.SerializeToString() for one in stored if one.message.leg == "customer"]
    assert again
    written = await asyncio.to_thread(poison, kafka, harmed, again, 1)
    await asyncio.sleep(1.0)
    written += await asyncio.to_thread(poison, kafka, harmed, again, 2)
    await asyncio.gather(*sending)
    assert await results_of(kafka, harmed) == await results_of(kafka, clean)
    assert await asyncio.to_thread(read_call, kafka, VOICE_FEATURES, "another-call") == []

    letters = await letters_about(kafka, harmed, len(written))
    assert sorted(letter.value for letter in letters) == sorted(written)
    assert {letter.topic for letter in letters} == {AUDIO_FRAMES.name}
    assert {letter.stage for letter in letters} == {"fused", "detect"}

    monkeypatch.setenv("CALLSCOPE_KAFKA", child_environment(kafka=str(kafka.kafka))["CALLSCOPE_KAFKA"])
    shown = await asyncio.to_thread(CliRunner().invoke, main, ["dead-letters", "--hours", "1"])
    assert shown.exit_code == 0, shown.output
    assert f"{harmed}/customer  fused  " in shown.output
    assert "nothing that came leads up to it" in shown.output
    listed = await asyncio.to_thread(CliRunner().invoke, main, ["dead-letters", "--json"])
    assert len([line for line in listed.output.splitlines() if json.loads(line)["topic"]]) >= len(written)
