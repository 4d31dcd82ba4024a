"""A results server over a hub that the test feeds."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from callscope.access import Access
from callscope.config import Sink, load
from schemas.v1.status_pb2 import WorkerStatus
from sinks.hub import Hub
from sinks.websocket import ResultsServer
from tests.sinks import records
from tests.sinks.log import Log, feed_of


class Served:
    """A running server and what it takes to feed it."""

    def __init__(self, server: ResultsServer, hub: Hub, log: Log) -> None:
        self.server = server
        self.hub = hub
        self.log = log
        self._feed = feed_of(hub, lambda message: server.publish([message]))

    @property
    def results(self) -> str:
        return f"ws://127.0.0.1:{self.server.port}/v1/results"

    def too_slow(self) -> list[bool]:
        return [subscriber.too_slow for subscriber in self.hub.subscribers]

    def publish(self, *found: records.Record) -> None:
        self._feed([self.log.append(record) for record in found])

    def announce(self, status: WorkerStatus) -> None:
        self.server.publish(self.hub.workers.heard(status.SerializeToString()))

    async def until(self, condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110  # the code under test has no event for it
                await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(
    *,
    is_healthy: Callable[[], bool] = lambda: True,
    access: dict[str, Any] | None = None,
    log: Log | None = None,
    **config: Any,
) -> AsyncIterator[Served]:
    """On a log that holds what another sink has published already, if one is given."""
    sink = Sink(**{"port": 0, **config})
    hub = Hub(sink.queue_messages)
    log = log or Log()
    feed_of(hub, hub.publish, is_live=False)(log.records)
    log.start(hub)
    server = ResultsServer(hub, sink, Access(load(access=access or {}).access), past=log, is_healthy=is_healthy)
    await server.start()
    try:
        yield Served(server, hub, log)
    finally:
        await server.close()
