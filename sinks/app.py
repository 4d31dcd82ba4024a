"""The sink as a program: topics in, WebSocket and dashboard out, until a signal ends it."""

from __future__ import annotations

import asyncio
import signal
from typing import Final

import uvloop

from callscope import kafka, lifetime, logs
from callscope.access import Access
from callscope.clock import wall_ns
from callscope.config import Settings
from callscope.dead_letters import LetterBox
from callscope.following import Follower
from callscope.topics import AUDIO_FRAMES, CALL_EVENTS, WORKER_STATUS
from callscope.watchdog import LoopBeat, Watchdog
from sinks import telemetry
from sinks.feed import Feed, place_of
from sinks.hub import Hub
from sinks.messages import RESULT_TOPICS
from sinks.read_back import ReadBack
from sinks.websocket import ResultsServer

HISTORY_TIMEOUT_S: Final = 60.0
"""Reading the call events of the last day and the results of the last minutes takes some seconds; after this the port
opens regardless."""
CALL_HISTORY_MS: Final = AUDIO_FRAMES.retention_ms
"""How far back call events are read to learn which calls run: no call lasts longer than its audio is kept."""


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Runs the sink until `stop` is set.

    Args:
        settings: all of them.
        stop: ends it.

    Raises:
        ConfigError: the address is not allowed, or taken; or the topics are not as configured.
        KafkaUnreachable: no broker answers.
    """
    hub = Hub(settings.sink.queue_messages)
    server = ResultsServer(
        hub,
        settings.sink,
        Access(settings.access),
        past=ReadBack(settings),
        is_healthy=lambda: reader.is_alive(),
    )
    letters = LetterBox(settings)
    feed = Feed(hub, lambda message: server.publish([message]), letters)
    resumed_ms = round(settings.sink.resume_s * 1_000)
    reader = Follower(
        settings,
        (*RESULT_TOPICS, WORKER_STATUS.name),
        feed,
        name="callscope-sink",
        history_ms={**dict.fromkeys(RESULT_TOPICS, resumed_ms), CALL_EVENTS.name: CALL_HISTORY_MS},
    )
    await asyncio.to_thread(kafka.ensure_topics, settings)
    beat = LoopBeat()
    watchdog = Watchdog(settings.watchdog_s, [beat.check, lambda: _reader_check(reader)])
    beating = asyncio.create_task(beat.run())
    reading = asyncio.create_task(reader.run())
    stopping = asyncio.create_task(stop.wait())
    caught_up = asyncio.create_task(reader.wait_caught_up())
    watchdog.start()
    try:
        await asyncio.wait(
            (reading, stopping, caught_up), timeout=HISTORY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
        )
        hub.calls.caught_up(wall_ns())
        if not reading.done() and not stopping.done():
            for where, offset in reader.starts.items():
                if (place := place_of(*where)) is not None:
                    hub.positions.setdefault(place, offset)
            feed.is_live = True
            await server.start()
            lifetime.settle_memory()
            telemetry.dashboard_ready(server.address)
            await asyncio.wait((reading, stopping), return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            telemetry.sink_stopping()
        else:
            reading.result()
    finally:
        await server.close()
        watchdog.stop()
        reader.stop()
        for task in (stopping, caught_up, beating):
            task.cancel()
        await asyncio.gather(reading, stopping, caught_up, beating, return_exceptions=True)
        await asyncio.to_thread(letters.close)


def _reader_check(reader: Follower) -> dict[str, str]:
    return {} if reader.is_alive() else {"reader": "Kafka's client does not come back"}


def main(settings: Settings) -> None:
    """Runs the sink until SIGTERM or SIGINT.

    Args:
        settings: all of them.

    Raises:
        CallscopeError: it cannot run; `str(error)` says why and what to do.
    """
    logs.configure_logging(settings.log_level)
    uvloop.run(_run_until_signal(settings))


async def _run_until_signal(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run(settings, stop)
