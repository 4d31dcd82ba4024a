"""A worker whose agent stands still, though there is audio: it says so, and ends itself."""

from __future__ import annotations

import asyncio
import sys
import uuid

import pytest

from callscope.client.recording import Recording
from callscope.client.sending import send
from callscope.config import Settings, child_environment
from callscope.probe import is_well
from callscope.supervisor import System, can_listen
from callscope.watchdog import EXIT_CODE

pytestmark = pytest.mark.integration

HANGS = """
import asyncio
from callscope import logs
from callscope.config import settings
from processors import app, outbox

async def hang(*_):
    await asyncio.sleep(1e9)

logs.configure_logging("info")
outbox.Outbox.send = hang
app.run(settings())
"""


def environment(kafka: Settings, port: int, group: str) -> dict[str, str]:
    return child_environment(
        kafka=str(kafka.kafka),
        watchdog_s="6",
        processors__group=group,
        processors__metrics_port=str(port),
        processors__extract__warm_engines="0",
    )


async def test_a_worker_that_stands_still_ends_itself(
    fused: System, kafka: Settings, demo_call: Recording, call_id: str
) -> None:
    port = can_listen("127.0.0.1", 0)
    assert port is not None
    group = f"watched-{uuid.uuid4().hex[:8]}"
    await send(demo_call, fused.addresses.gateway, call_id, ("customer", "agent"), speed=0, limit_s=2.0)
    hanging = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        HANGS,
        env=environment(kafka, port, group),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    was_alive = was_ready = said_so = False
    async with asyncio.timeout(60):
        ending = asyncio.create_task(hanging.communicate())
        while not ending.done():
            alive = await asyncio.to_thread(is_well, f"http://127.0.0.1:{port}/livez")
            was_alive |= alive
            was_ready |= await asyncio.to_thread(is_well, f"http://127.0.0.1:{port}/readyz")
            said_so |= was_alive and not alive
            await asyncio.sleep(0.1)
    assert hanging.returncode == EXIT_CODE
    said = (await ending)[1].decode()
    assert "ended by its watchdog: for 6 s audio.frames/" in said
    assert "it is safe to start it again" in said
    assert was_ready and said_so
