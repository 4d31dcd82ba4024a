"""A worker that cannot keep up says so, leaves work out, and takes it up again; meanwhile no new calls are taken."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from callscope import supervisor
from callscope.client import results
from callscope.client.recording import Recording
from callscope.client.sending import SendRefused, send
from callscope.clock import wall_ns
from callscope.config import load
from callscope.supervisor import System

pytestmark = pytest.mark.integration

STOPPED_S = 7.0


@pytest.fixture
def touchy(monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    """A system of its own: one worker, which sheds as soon as it is a second late, and a gateway as quick to refuse."""
    for name, value in {
        "PROCESSORS__OVERLOAD__SHED": "true",
        "INGEST__ADMISSION__ENABLED": "true",
        "PROCESSORS__OVERLOAD__LAG_MS": "1000",
        "PROCESSORS__OVERLOAD__CALM_MS": "900",
        "PROCESSORS__OVERLOAD__RISE_S": "0",
        "PROCESSORS__OVERLOAD__FALL_S": "2",
        "PROCESSORS__SESSION_TIMEOUT_S": "30",  # or it may lose its partitions, and one that takes over sheds nothing
        "INGEST__ADMISSION__REFUSE_AFTER_S": "0",
        "INGEST__ADMISSION__ADMIT_AFTER_S": "0",
    }.items():
        monkeypatch.setenv(f"CALLSCOPE_{name}", value)
    with supervisor.running(load(), chained=False, ephemeral=True, free_ports=True, say=print, workers=1) as system:
        yield system


async def test_a_worker_that_was_held_up_sheds_and_recovers_and_new_calls_wait(
    touchy: System, demo_call: Recording, call_id: str
) -> None:
    gateway = touchy.addresses.gateway
    worker = touchy.pids()["worker 1"]
    seen: list[dict[str, Any]] = []
    async with results.subscription(touchy.addresses.results) as messages:
        running = asyncio.create_task(send(demo_call, gateway, call_id, ("customer", "agent"), speed=1.0))
        await _until(messages, seen, lambda message: message["type"] == "features")
        stopped_ns = wall_ns()
        os.kill(worker, signal.SIGSTOP)
        try:
            await asyncio.sleep(STOPPED_S)
            with pytest.raises(SendRefused, match="overloaded"):
                await send(demo_call, gateway, f"{call_id}-refused", ("customer", "agent"), speed=0, limit_s=1.0)
        finally:
            os.kill(worker, signal.SIGCONT)
        began = await _until(messages, seen, lambda m: m["type"] == "system" and m["since_ns"] > stopped_ns)
        over = await _until(messages, seen, lambda message: message["type"] == "system" and not message["shed"])
        again = await _until(messages, seen, lambda message: message["kind"] == "window")
        assert (began["kind"], over["kind"]) == ("shedding", "normal")
        assert "infer" in began["shed"]
        assert began["worker"] == over["worker"]
        assert again["call_id"] == call_id
        await _admitted(demo_call, gateway, f"{call_id}-later")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    levels = [m for m in seen if m["kind"] == "level" and m["stream"] == f"{call_id}/customer"]
    ends = [message["start"] + message["duration"] for message in levels]
    assert [message["start"] for message in levels] == pytest.approx([0.0, *ends[:-1]]), "detection left nothing out"


async def _until(
    messages: AsyncIterator[dict[str, Any]], seen: list[dict[str, Any]], wanted: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    async with asyncio.timeout(30):
        async for message in messages:
            if "kind" in message:
                seen.append(message)
                if wanted(message):
                    return message
    raise AssertionError("the subscription ended")


async def _admitted(call: Recording, gateway: str, call_id: str) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await send(call, gateway, call_id, ("customer", "agent"), speed=0, limit_s=1.0)
            except SendRefused:
                await asyncio.sleep(0.5)
            else:
                return
