"""Kafka goes away under live calls and comes back: every sample arrives, once and in order, whatever else dies."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from numpy.typing import NDArray

from callscope import clock
from callscope.broker import EmbeddedBroker
from callscope.broker.ports import free_ports
from callscope.client.backoff import Backoff
from callscope.client.sender import Sender, SendRefused
from callscope.config import Settings, child_environment, load
from callscope.kafka import ensure_topics
from callscope.topics import AUDIO_FRAMES, CALL_EVENTS
from schemas.v1.events_pb2 import CallEvent
from tests.integration.records import read_call, read_when

pytestmark = pytest.mark.integration

LEGS = ("customer", "agent")
RATE_HZ = 16_000
CHUNK = 640


@pytest.fixture(scope="module")
def broker(kafka: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """A broker of this module's own, which may be stopped and started; its data and its port stay."""
    (port,) = free_ports(1)  # the fixture `kafka` has found out that a broker can be had
    own = load().broker.model_copy(update={"port": port, "data_dir": tmp_path_factory.mktemp("away") / "kafka"})
    broker = EmbeddedBroker(own)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(scope="module")
def settings(broker: EmbeddedBroker) -> Settings:
    settings = load(kafka=broker.bootstrap, topics={"partitions": 2})
    ensure_topics(settings)
    return settings


@asynccontextmanager
async def gateway(
    settings: Settings, spool: Path, port: int = 0, **environment: str
) -> AsyncIterator[tuple[int, asyncio.subprocess.Process, list[str]]]:
    """The gateway as a process: its port, the process, and its log so far."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ingest",
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=child_environment(
            kafka=settings.kafka or "",
            topics__partitions="2",
            ingest__port=str(port),
            ingest__spool__data_dir=str(spool),
            ingest__spool__after_s="0.2",
            ingest__admission__enabled="false",
            **environment,
        ),
    )
    log: list[str] = []
    listening = asyncio.Event()

    async def follow() -> None:
        assert process.stderr is not None
        while line := await process.stderr.readline():
            log.append(line.decode())
            if "gateway listening on ws" in log[-1]:
                listening.set()

    following = asyncio.create_task(follow())
    try:
        async with asyncio.timeout(30):
            await listening.wait()
        found = re.search(r"gateway listening on ws://[^:]+:(\d+)", "".join(log))
        assert found
        yield int(found[1]), process, log
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()
        await following


def sound(seconds: float, seed: int) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-8_000, 8_000, (int(seconds * RATE_HZ), 2)).astype("<i2")


class Caller:
    """Speaks for as long as it is told to, in real time, over whatever the network and the gateway do."""

    def __init__(self, port: int, call_id: str, seed: int) -> None:
        self.call_id = call_id
        self.pcm = sound(60, seed)
        self.sent = 0
        self.sender = Sender(
            f"ws://127.0.0.1:{port}/v1/stream",
            call_id,
            LEGS,
            rate_hz=RATE_HZ,
            buffer_s=60,
            backoff=Backoff(0.05, 0.2),
        )
        self.is_over = asyncio.Event()

    async def speak(self) -> None:
        began = clock.monotonic()
        async with self.sender as sender:
            while not self.is_over.is_set():
                await sender.send(self.pcm[self.sent : self.sent + CHUNK].tobytes())
                self.sent += CHUNK
                await asyncio.sleep(max(0.0, began + self.sent / RATE_HZ - clock.monotonic()))
            await sender.end()


async def until(log: list[str], text: str, timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while text not in "".join(log):  # noqa: ASYNC110  # another process writes it
            await asyncio.sleep(0.02)


async def arrived(settings: Settings, caller: Caller, *, resent: bool = False) -> None:
    """Check that Kafka has a call's audio: all of it in order; `resent`: a piece of it may have come again."""
    stored = await read_when(
        settings, AUDIO_FRAMES, caller.call_id, lambda found: sum(r.message.last for r in found) >= len(LEGS)
    )
    for channel, leg in enumerate(LEGS):
        frames = [record.message for record in stored if record.message.leg == leg]
        heard: list[NDArray[np.int16]] = []
        at = 0
        for seq, frame in enumerate(frames):
            if not resent:
                assert (frame.seq, frame.start, frame.gap_before) == (seq, at, 0)
            assert frame.start <= at, f"a hole before {frame.start}"
            fresh = np.frombuffer(frame.pcm, "<i2")[at - frame.start :]
            heard.append(fresh)
            at += len(fresh)
        assert np.array_equal(np.concatenate(heard), caller.pcm[: caller.sent, channel])
    events = [r.message for r in await asyncio.to_thread(read_call, settings, CALL_EVENTS, caller.call_id)]
    kinds = [CallEvent.Kind.Name(event.kind) for event in events]
    assert kinds.count("CALL_STARTED") == kinds.count("CALL_ENDED") + resent
    assert kinds[0] == "CALL_STARTED" and kinds[-1] == "CALL_ENDED"


def segments(spool: Path) -> list[Path]:
    return list(spool.rglob("*.spool"))


def health(port: int) -> str:
    with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
        assert answer.status == 200
        return str(answer.read().decode())


async def test_a_broker_that_is_stopped_and_started_costs_live_calls_nothing(
    settings: Settings, broker: EmbeddedBroker, tmp_path: Path, call_id: str
) -> None:
    async with gateway(settings, tmp_path, ingest__spool__refuse_at="0.0001") as (port, _, log):
        callers = [Caller(port, f"{call_id}-{number}", number) for number in range(4)]
        speaking = [asyncio.create_task(caller.speak()) for caller in callers]
        await asyncio.sleep(1.0)
        assert await asyncio.to_thread(health, port) == "ok\n"
        await asyncio.to_thread(broker.stop)
        await until(log, "their records go to the spool")
        await asyncio.sleep(1.0)
        callers[0].is_over.set()  # one call ends while Kafka is away
        await until(log, "new streams are refused: Kafka is away")
        assert "degraded: Kafka acknowledges nothing" in await asyncio.to_thread(health, port)
        with pytest.raises(SendRefused, match="Kafka is away"):
            await Caller(port, f"{call_id}-new", 9).speak()
        await asyncio.sleep(0.5)
        assert not speaking[0].done(), "its end is told when Kafka has it"
        await asyncio.to_thread(broker.start)
        await until(log, "spool: empty again")
        await asyncio.sleep(0.5)
        assert await asyncio.to_thread(health, port) == "ok\n"
        for caller in callers:
            caller.is_over.set()
        await asyncio.gather(*speaking)
        for caller in callers:
            assert caller.sender.progress.reconnects == 0 and caller.sender.progress.dropped == 0
    for caller in callers:
        await arrived(settings, caller)
    assert not segments(tmp_path), "what Kafka has is removed"


async def test_a_gateway_that_is_killed_while_kafka_is_away_has_lost_nothing(
    settings: Settings, broker: EmbeddedBroker, tmp_path: Path, call_id: str
) -> None:
    async with gateway(settings, tmp_path) as (port, process, log):
        staying, silent = Caller(port, f"{call_id}-a", 1), Caller(port, f"{call_id}-b", 2)
        speaking = [asyncio.create_task(caller.speak()) for caller in (staying, silent)]
        await asyncio.sleep(1.0)
        await asyncio.to_thread(broker.stop)
        await until(log, "their records go to the spool")
        await asyncio.sleep(1.5)
        speaking[1].cancel()  # this one's client never comes back
        await asyncio.sleep(0.5)
        process.kill()
        await process.wait()
        left = sum(path.stat().st_size for path in segments(tmp_path))
        assert left > 4 * 1.5 * RATE_HZ
    await asyncio.to_thread(broker.start)
    async with gateway(settings, tmp_path, port) as (_, process, log):
        await until(log, "of an earlier gateway are delivered now")
        await until(log, "spool: empty again")
        await asyncio.sleep(0.5)
        staying.is_over.set()
        await speaking[0]
    assert staying.sender.progress.restarts == 1
    await arrived(settings, staying, resent=True)
    stored = await asyncio.to_thread(read_call, settings, AUDIO_FRAMES, silent.call_id)
    for channel, leg in enumerate(LEGS):
        pcm = b"".join(record.message.pcm for record in stored if record.message.leg == leg)
        assert len(pcm) >= 2 * (silent.sent - RATE_HZ // 2), "all but what was being taken"
        assert pcm == silent.pcm[: len(pcm) // 2, channel].tobytes()
    assert not segments(tmp_path)


async def test_a_gateway_that_is_stopped_while_kafka_is_away_leaves_all_of_it_to_the_next(
    settings: Settings, broker: EmbeddedBroker, tmp_path: Path, call_id: str
) -> None:
    async with gateway(settings, tmp_path) as (port, process, log):
        caller = Caller(port, call_id, 3)
        speaking = asyncio.create_task(caller.speak())
        await asyncio.sleep(0.5)
        await asyncio.to_thread(broker.stop)
        await until(log, "their records go to the spool")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0, "nothing is lost"
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)
    assert "are kept; the next gateway of this machine delivers them" in "".join(log)
    await asyncio.to_thread(broker.start)
    async with gateway(settings, tmp_path) as (_, _, log):
        await until(log, "spool: empty again")
    frames = [r.message for r in await asyncio.to_thread(read_call, settings, AUDIO_FRAMES, call_id)]
    for channel, leg in enumerate(LEGS):
        mine = [frame for frame in frames if frame.leg == leg]
        assert [frame.last for frame in mine] == [False] * (len(mine) - 1) + [True]
        assert (
            b"".join(frame.pcm for frame in mine)
            == caller.pcm[: mine[-1].start + len(mine[-1].pcm) // 2, channel].tobytes()
        )
    events = [r.message for r in await asyncio.to_thread(read_call, settings, CALL_EVENTS, call_id)]
    assert [CallEvent.Kind.Name(event.kind) for event in events] == [
        "CALL_STARTED",
        "STREAM_STARTED",
        "STREAM_STARTED",
        "STREAM_ENDED",
        "STREAM_ENDED",
        "CALL_ENDED",
    ]
