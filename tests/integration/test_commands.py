"""The commands of someone who uses the system: send, watch, topics, and the load mode's runner."""

from __future__ import annotations

import asyncio
import json
import sys
from importlib.resources import files

import pytest

from callscope.client.recording import Recording
from callscope.config import Settings, child_environment
from callscope.demo import load
from callscope.supervisor import System

pytestmark = pytest.mark.integration


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
        came_to = await load.run(demo_call, fused.addresses, 1, 1.0)
        assert came_to.tally.latencies_ms
    finally:
        command.terminate()
        await command.wait()


async def test_topics_lists_all_of_them(fused: System, kafka: Settings) -> None:
    command = await callscope(kafka, "topics")
    out, err = await asyncio.wait_for(command.communicate(), 60)
    assert command.returncode == 0, err.decode()
    for name in ("audio.frames", "call.events", "voice.activity", "voice.speech", "voice.features", "voice.insights"):
        assert name in out.decode()


async def test_load_mode_counts_every_leg(fused: System, demo_call: Recording) -> None:
    came_to = await load.run(demo_call, fused.addresses, 3, 2.0)
    levels = 3 * 2.0 / 0.1
    assert len(came_to.tally.latencies_ms) >= levels
    assert came_to.behind_s < 0.05
