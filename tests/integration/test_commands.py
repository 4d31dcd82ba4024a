"""The commands of someone who uses the system: send, watch, topics, and a step of the load test."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path

import pytest

from callscope.bench.run import run_step
from callscope.bench.step import GENERATOR
from callscope.client.recording import Recording
from callscope.client.sending import send
from callscope.config import Settings, child_environment
from callscope.supervisor import System

pytestmark = pytest.mark.integration


@pytest.fixture
def shipped_call() -> Iterator[Path]:
    with as_file(files("callscope.demo") / "call.ogg") as path:
        yield path


async def callscope(kafka: Settings, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "callscope",
        *arguments,
        env=child_environment(kafka=str(kafka.kafka)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_send_prints_the_results_of_its_call(fused: System, kafka: Settings, call_id: str) -> None:
    path = str(files("callscope.demo") / "call.ogg")
    command = await callscope(
        kafka, "send", path, "--speed", "0", "--call-id", call_id,
        "--gateway", fused.addresses.gateway, "--results", fused.addresses.results,
    )  # fmt: skip
    out, err = await asyncio.wait_for(command.communicate(), 90)
    told = out.decode()
    assert command.returncode == 0, err.decode()
    assert f"call {call_id} began" in told and f"call {call_id} ended" in told
    for expected in (
        "customer  ▶ speaks",
        "agent     ▶ speaks",
        "arousal: arousal 0.",
        "customer spoke",
        "latency p50",
    ):
        assert expected in told, expected


async def test_watch_gives_json_lines(fused: System, kafka: Settings, demo_call: Recording, call_id: str) -> None:
    command = await callscope(kafka, "watch", "--json", "--call", call_id, "--results", fused.addresses.results)
    assert command.stdout is not None
    try:
        first = json.loads(await asyncio.wait_for(command.stdout.readline(), 30))
        assert first["type"] == "subscribed"
        await send(demo_call, fused.addresses.gateway, call_id, ("customer", "agent"), speed=0, limit_s=2.0)
        while json.loads(await asyncio.wait_for(command.stdout.readline(), 30))["type"] != "activity":
            continue
    finally:
        command.terminate()
        await command.wait()


async def test_topics_lists_all_of_them(fused: System, kafka: Settings) -> None:
    command = await callscope(kafka, "topics")
    out, err = await asyncio.wait_for(command.communicate(), 60)
    assert command.returncode == 0, err.decode()
    for name in ("audio.frames", "call.events", "voice.activity", "voice.speech", "voice.features", "voice.insights"):
        assert name in out.decode()


async def test_a_step_of_the_load_test_loses_nothing(fused: System, kafka: Settings, shipped_call: Path) -> None:
    told: list[float] = []
    group = f"{kafka.processors.group}-fused"
    step = await asyncio.to_thread(run_step, kafka, fused, 2, 5.0, [shipped_call], 1, [group], told.append)
    assert (step.legs, step.seconds) == (2, 5.0)
    assert (step.seen.lost, step.seen.lost_because, step.seen.duplicated) == (0, [], 0)
    assert step.seen.unpublished_s == 0
    assert set(step.costs) == {*fused.pids(), GENERATOR}
    assert all(cost.memory_mb > 0 for cost in step.costs.values())
    assert step.seen.by_type["activity"].count >= 2 * 4.0 / 0.1
    assert told == sorted(told) and told[-1] >= 4.0
