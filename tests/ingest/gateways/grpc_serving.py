"""A gRPC port in this process, on the session's Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc

from callscope.access import Access
from callscope.config import Grpc, Ingest, Settings
from callscope.kafka import ensure_topics
from ingest.gateways import grpc_port
from ingest.gateways.gate import Gate
from ingest.gateways.grpc_port import GrpcListener
from ingest.intake import Intake
from ingest.publisher import KafkaPublisher, Publisher


def configured(
    kafka: Settings, *, results_timeout_s: float = 0.3, queue_results: int = 2_000, **ingest: object
) -> Settings:
    """The session's settings with a gRPC port on loopback."""
    grpc_ = Grpc(port=0, results_timeout_s=results_timeout_s, queue_results=queue_results)
    return kafka.model_copy(update={"ingest": Ingest.model_validate({"ack_interval_s": 0.05, **ingest, "grpc": grpc_})})


@asynccontextmanager
async def listening(settings: Settings, publisher: Publisher | None = None) -> AsyncIterator[GrpcListener]:
    """An open port; where a publisher is given, audio goes to that instead of to Kafka."""
    await asyncio.to_thread(ensure_topics, settings)
    kafka_publisher = None if publisher else KafkaPublisher(settings)
    taking = publisher or kafka_publisher
    assert taking is not None
    delivering = asyncio.create_task(kafka_publisher.run()) if kafka_publisher else None
    intake = Intake(taking, settings.ingest.max_streams, settings.ingest.publish_timeout_s)
    listener = await grpc_port.listen(Gate(settings, intake, Access(settings.access)))
    assert isinstance(listener, GrpcListener)
    try:
        yield listener
    finally:
        await listener.close()
        assert intake.open_streams == 0
        if delivering is not None and kafka_publisher is not None:
            delivering.cancel()
            await asyncio.gather(delivering, return_exceptions=True)
            assert await kafka_publisher.close() == 0


@asynccontextmanager
async def connected(listener: GrpcListener, *options: tuple[str, int]) -> AsyncIterator[grpc.aio.Channel]:
    """A client's channel to it."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{listener.port}", options=options) as channel:
        yield channel


async def until(holds: Callable[[], object], within_s: float = 10.0) -> None:
    """Return when something holds that happens on the other side of a wire.

    Raises:
        TimeoutError: it does not.
    """
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110  # what is asked knows no event
            await asyncio.sleep(0.01)
