"""The gateway's program in this process, with settings of the test's own, into the session's Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from callscope import kafka as kafka_setup
from callscope.config import Admission, Settings
from ingest import app, telemetry


@asynccontextmanager
async def own_gateway(kafka: Settings, monkeypatch: pytest.MonkeyPatch, path: str, **ingest: Any) -> AsyncIterator[str]:
    """Run it on a free port; when it is left, everything has reached Kafka.

    Args:
        kafka: where that is.
        monkeypatch: told of the port by it.
        path: of the door.
        **ingest: of the section ingest.

    Yields:
        The door's address.
    """
    # Other tests' workers on the same Kafka may be slow; that is no reason to refuse this one's calls.
    own = {"port": 0, "admission": Admission(enabled=False), **ingest}
    settings = kafka.model_copy(update={"ingest": kafka.ingest.model_copy(update=own)})
    kafka_setup.ensure_topics(settings)
    addresses: asyncio.Queue[str] = asyncio.Queue()
    monkeypatch.setattr(telemetry, "gateway_listening", addresses.put_nowait)
    stop = asyncio.Event()
    running = asyncio.create_task(app.run(settings, stop))
    try:
        async with asyncio.timeout(10):
            address = await addresses.get()
        yield address.replace("/v1/stream", path)
    finally:
        stop.set()
        assert await running == 0, "records not known to have reached Kafka"
