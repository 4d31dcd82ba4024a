"""The whole sink on a real Kafka: records on the topics reach a subscriber."""

import asyncio
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedOK

from callscope import kafka as kafka_clients
from callscope.clock import wall_ns
from callscope.config import Settings, Sink, child_environment
from callscope.topics import CALL_EVENTS, VOICE_ACTIVITY, partition_of
from schemas.v1.events_pb2 import CallEvent
from sinks.app import run
from sinks.websocket import ResultsServer
from tests.sinks import records


def produce(settings: Settings, *found: tuple[str, records.Record]) -> None:
    """Writes records, each with the call they are of."""
    producer = kafka_clients.producer(settings)
    for call, (topic, value) in found:
        key = call if topic == CALL_EVENTS.name else f"{call}/customer"
        producer.produce(topic, value, key=key, partition=partition_of(call, settings.topics.partitions))
    assert producer.flush(20) == 0


@asynccontextmanager
async def running_sink(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """The sink on a free port; yields the address of its results."""
    started = asyncio.Event()
    addresses = []
    start = ResultsServer.start

    async def start_and_tell(server: ResultsServer) -> None:
        await start(server)
        addresses.append(f"ws://127.0.0.1:{server.port}/v1/results")
        started.set()

    monkeypatch.setattr(ResultsServer, "start", start_and_tell)
    stop = asyncio.Event()
    task = asyncio.create_task(run(settings.model_copy(update={"sink": Sink(port=0)}), stop))
    telling = asyncio.create_task(started.wait())
    try:
        await asyncio.wait((task, telling), return_when=asyncio.FIRST_COMPLETED, timeout=30)
        if task.done():
            task.result()
        yield addresses[0]
    finally:
        telling.cancel()
        stop.set()
        async with asyncio.timeout(10):
            await task


@pytest.mark.integration
async def test_records_reach_a_subscriber(kafka: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    kafka_clients.ensure_topics(kafka)
    running, over, late = (f"{name}-{uuid4().hex[:8]}" for name in ("running", "over", "late"))
    an_hour_ago = wall_ns() - 3_600_000_000_000
    await asyncio.to_thread(
        produce,
        kafka,
        *((running, record) for record in records.call_started(running, time_ns=an_hour_ago, metadata={"queue": "a"})),
        *((over, record) for record in records.call_started(over)),
        (over, records.call_event(CallEvent.CALL_ENDED, call=over)),
        (running, records.level(0.0, call=running)),
    )
    async with running_sink(kafka, monkeypatch) as address, connect(address) as connection:
        await connection.send(json.dumps({"type": "subscribe", "calls": [running, over, late]}))

        async def take() -> dict[str, Any]:
            async with asyncio.timeout(15):
                message: dict[str, Any] = json.loads(await connection.recv())
            return message

        answer = await take()
        assert [(call["call_id"], call["metadata"]) for call in answer["running"]] == [(running, {"queue": "a"})]

        (begun,) = records.call_started(late, legs=[])
        await asyncio.to_thread(produce, kafka, (late, begun))
        assert (await take())["kind"] == "call_started"
        repeated = records.speech_start(1.0, call=late)
        await asyncio.to_thread(
            produce,
            kafka,
            (late, (VOICE_ACTIVITY.name, b"\xff not a record")),
            (late, repeated),
            (late, repeated),
            (late, records.speech_end(1.0, 2.0, call=late)),
        )
        start, end = await take(), await take()
        assert (start["kind"], end["kind"]) == ("speech_start", "speech_end")
        assert (start["start"], end["duration"], end["seq"]) == (1.0, 2.0, 4)
        assert 0 < end["ledger"]["latency_ms"] < 5_000


@pytest.mark.integration
async def test_reading_adds_little_to_the_latency(kafka: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    kafka_clients.ensure_topics(kafka)
    call = f"quick-{uuid4().hex[:8]}"
    latencies = []
    async with running_sink(kafka, monkeypatch) as address, connect(address) as connection:
        await connection.send(json.dumps({"type": "subscribe", "calls": [call]}))
        await connection.recv()
        producer = kafka_clients.producer(kafka)
        partition = partition_of(call, kafka.topics.partitions)
        topic, value = records.level(100.0, call="warm-up")
        producer.produce(topic, value, key="warm-up/customer", partition=partition)
        producer.flush(20)
        for number in range(50):
            topic, value = records.level(number / 10, call=call)
            producer.produce(topic, value, key=f"{call}/customer", partition=partition)
            producer.poll(0)
            async with asyncio.timeout(10):
                latencies.append(json.loads(await connection.recv())["ledger"]["latency_ms"])
        producer.flush(10)
    print(f"produce to push: p50 {sorted(latencies)[25]:.1f} ms, max {max(latencies):.1f} ms")
    assert sorted(latencies)[25] < 50, "a reader that waits for more than one record adds to this"


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_program_ends_cleanly_on_a_signal(kafka: Settings, number: signal.Signals) -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sinks",
        env=child_environment(kafka=str(kafka.kafka), sink__port="0"),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert program.stderr is not None
    lines = []
    async with asyncio.timeout(40):
        while True:
            lines.append((await program.stderr.readline()).decode())
            if found := re.search(r"dashboard at http://(127\.0\.0\.1:\d+)/", lines[-1]):
                break
            assert lines[-1], lines
    async with connect(f"ws://{found[1]}/v1/results") as connection:
        await connection.send('{"type": "subscribe"}')
        await connection.recv()
        program.send_signal(number)
        async with asyncio.timeout(10):
            with pytest.raises(ConnectionClosedOK) as closed:
                while True:
                    await connection.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    rest = (await program.stderr.read()).decode()
    assert await program.wait() == 0
    assert "Traceback" not in rest
    assert "sink stopping" in rest


async def test_the_program_says_what_is_wrong_with_its_configuration() -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sinks",
        env=child_environment(kafka="127.0.0.1:1", sink__host="0.0.0.0"),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    error = (await program.communicate())[1].decode()
    assert program.returncode == 1
    assert error.startswith("sink: The sink would listen on 0.0.0.0")
