"""The contenders in Python that need only what the product needs; `python -m bench.transports.workers NAME JSON`.

Each forwards key and value of every record, produces with acknowledgement by all replicas and 2 ms of linger, and
commits once a second.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import threading
from functools import lru_cache
from typing import Any

import faust
from confluent_kafka import Consumer

from bench.transports.spec import COMMIT_S, FETCHING, LINGER_MS, PARTITIONS, Stages
from callscope import kafka, lifetime
from callscope.config import load
from callscope.streams import StreamId
from callscope.topics import HOUR_MS, Topic
from processors.app import faust_app
from processors.outbox import Outbox
from processors.transport import Fetching, RecordBatches


def plain_faust(stages: Stages) -> None:
    """Faust as it comes: its own transport, and `await topic.send` for every record."""
    app = faust.App(
        stages.group,
        broker=f"kafka://{stages.servers}",
        consumer_auto_offset_reset="earliest",
        producer_linger=LINGER_MS / 1_000,
        broker_commit_interval=COMMIT_S,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        autodiscover=False,
    )
    for source, target in stages.hops:
        _add_plain_stage(app, source, target)
    asyncio.run(_run(app))


def _add_plain_stage(app: faust.App, source: str, target: str) -> None:
    raw = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    output = app.topic(target, **raw)

    @app.agent(app.topic(source, **raw), name=source)
    async def forward(stream: Any) -> None:
        async for key, value in stream.items():
            await output.send(key=key, value=value)


def callscope(stages: Stages) -> None:
    """The product's transport and outbox, set up as its workers set them up."""
    asyncio.run(_callscope(stages))


async def _callscope(stages: Stages) -> None:
    settings = load(kafka=stages.servers, processors={"group": stages.group})
    app = faust_app(settings, "bench")
    fetching = FETCHING[stages.fetching]
    app.transport.fetching = Fetching(fetching["fetch.wait.max.ms"], fetching["fetch.min.bytes"])
    outbox = Outbox(kafka.producer(settings), PARTITIONS)
    for source, target in stages.hops:
        _add_batch_stage(app, outbox, source, target)
    deliveries = asyncio.create_task(outbox.poll_forever())
    await _run(app, deliveries)
    deliveries.cancel()
    await outbox.drain(5)


def _add_batch_stage(app: faust.App, outbox: Outbox, source: str, target: str) -> None:
    output = Topic(target, "stream", "callscope.v1.AudioFrame", "bench", HOUR_MS)

    @app.agent(app.topic(source, schema=RecordBatches()), name=source)
    async def forward(fetches: Any) -> None:
        async for fetch in fetches:
            records = (record for batch in fetch.batches.values() for record in batch.records)
            await outbox.put(fetch, ((output, _stream(record.key), record.value) for record in records))


@lru_cache(maxsize=1_000)
def _stream(key: bytes) -> StreamId:
    return StreamId(*key.decode().split("/"))


async def _run(app: faust.App, *beside: asyncio.Task[None]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    ends = {
        asyncio.create_task(stop.wait()),
        asyncio.create_task(app.wait_until_stopped()),
        *beside,
    }
    await app.start()
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    await app.stop()
    if not stop.is_set():
        raise RuntimeError("the worker ended by itself") from app.crash_reason


def confluent(stages: Stages) -> None:
    """A loop around librdkafka's clients: a thread a stage. It commits what it has read, delivered or not."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    settings = load(kafka=stages.servers)
    loops = [
        threading.Thread(
            target=_forward,
            args=(
                kafka.consumer(
                    settings,
                    **FETCHING[stages.fetching],
                    **{
                        "group.id": f"{stages.group}-{number}",
                        "enable.auto.commit": True,
                        "auto.commit.interval.ms": int(COMMIT_S * 1_000),
                    },
                ),
                kafka.producer(settings),
                source,
                target,
                stop,
            ),
        )
        for number, (source, target) in enumerate(stages.hops)
    ]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join()


def _forward(consumer: Consumer, producer: Any, source: str, target: str, stop: threading.Event) -> None:
    consumer.subscribe([source])
    while not stop.is_set():
        first = consumer.poll(0.1)
        if first is None:
            producer.poll(0)
            continue
        for message in [first, *consumer.consume(10_000, 0)]:
            if message.error():
                raise RuntimeError(message.error().str())
            producer.produce(target, message.value(), message.key(), message.partition())
        producer.poll(0)
    producer.flush(5)
    consumer.close()


if __name__ == "__main__":
    lifetime.end_with_parent()
    logging.basicConfig(level=logging.ERROR)
    {"plain-faust": plain_faust, "callscope": callscope, "confluent": confluent}[sys.argv[1]](
        Stages(**json.loads(sys.argv[2]))
    )
