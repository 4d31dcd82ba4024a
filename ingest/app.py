"""The ingest program: settings to topics, publisher and gateway; it runs until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import uvloop

from callscope import config, kafka, lifetime, logs
from callscope.access import Access
from callscope.config import Ingest, Settings
from callscope.errors import CallscopeError, ConfigError
from callscope.telemetry import tokens_in_the_clear
from callscope.watchdog import LoopBeat, Watchdog
from ingest import telemetry
from ingest.admission import Admission
from ingest.gateways import audiosocket, grpc_port, webrtc, websocket
from ingest.gateways.gate import Gate, Listener
from ingest.gateways.origins import is_loopback
from ingest.gateways.routes import ROUTES
from ingest.intake import Intake
from ingest.publisher import KafkaPublisher
from ingest.worker_reports import WorkerReports

LISTENERS: Final[tuple[Callable[[Gate], Awaitable[Listener | None]], ...]] = (
    lambda gate: websocket.listen(gate, ROUTES),
    audiosocket.listen,
    grpc_port.listen,
    webrtc.listen,
)
"""The ports, one line each, the one to tell people of first; None where the settings turn it off."""


async def run(settings: Settings, stop: asyncio.Event) -> int:
    """Receive streams until `stop` is set, then end them and wait for Kafka.

    Args:
        settings: all of it; the topics must exist.
        stop: set from outside.

    Returns:
        How many records are not known to have reached Kafka, nor are in the spool.

    Raises:
        ConfigError: the gateway would be open to the network without authentication, or a port or the spool's folder
            cannot be had.
        KafkaUnreachable: no broker answers at the start, or the producer broke for good.
    """
    access = Access(settings.access)
    check_exposure(settings.ingest, access)
    if not access.is_open and not is_loopback(settings.ingest.host) and settings.ingest.tls.cert_file is None:
        tokens_in_the_clear("ingest", settings.ingest.host)
    admission = Admission(settings.ingest.admission)
    publisher = KafkaPublisher(settings, await asyncio.to_thread(_spool_root, settings), admission.spool)
    await publisher.open()
    intake = Intake(
        publisher,
        settings.ingest.max_streams,
        settings.ingest.publish_timeout_s,
        settings.ingest.limits.streams_per_tenant,
        admission,
    )
    gate = Gate(settings, intake, access)
    deliveries = asyncio.create_task(publisher.run())
    ticking = asyncio.create_task(intake.run())
    watching = asyncio.create_task(WorkerReports(settings, admission).run())
    stopped = asyncio.create_task(stop.wait())
    beat = LoopBeat()
    beating = asyncio.create_task(beat.run())
    watchdog = Watchdog(settings.watchdog_s, [beat.check])
    watchdog.start()
    listeners: list[Listener] = []
    try:
        for listen in LISTENERS:
            listeners += await _opened(listen, gate)
        lifetime.settle_memory()
        for listener in listeners:
            telemetry.gateway_listening(listener.address)
        await asyncio.wait((stopped, deliveries, ticking), return_when=asyncio.FIRST_COMPLETED)
        telemetry.gateway_stopping(intake.open_streams)
        intake.is_stopping = True
        await asyncio.gather(*(listener.close() for listener in listeners))
        for task in (deliveries, ticking):
            if task.done():
                task.result()
    finally:
        watchdog.stop()
        for running in (stopped, deliveries, ticking, watching, beating):
            running.cancel()
        await asyncio.gather(stopped, deliveries, ticking, watching, beating, return_exceptions=True)
        undelivered = await publisher.close()
        telemetry.gateway_stopped(undelivered)
    return undelivered


def _spool_root(settings: Settings) -> Path | None:
    """The spool's folder for this Kafka cluster: what was meant for one must never be delivered to another."""
    spool = settings.ingest.spool
    return spool.data_dir / kafka.cluster_id(settings) if spool.max_bytes else None


async def _opened(listen: Callable[[Gate], Awaitable[Listener | None]], gate: Gate) -> list[Listener]:
    try:
        listener = await listen(gate)
    except OSError as error:
        raise ConfigError(
            f"The gateway cannot listen on {gate.settings.ingest.host}:{gate.settings.ingest.port}: "
            f"{error.strerror or error}. Set CALLSCOPE_INGEST__PORT to a free port (0 picks one)."
        ) from error
    return [] if listener is None else [listener]


def check_exposure(settings: Ingest, access: Access) -> None:
    """Refuse to listen to the network where the gateway cannot tell who sends.

    Raises:
        ConfigError: the host is beyond loopback, no token is configured, and the settings do not allow that.
    """
    if not access.is_open or settings.allow_unauthenticated or is_loopback(settings.host):
        return
    raise ConfigError(
        f"ingest.host is {settings.host}: anyone who reaches port {settings.port} could send audio, because no "
        "token is configured. Listen on 127.0.0.1, name tokens in the section access (docs/security.md), or, where the "
        "network keeps strangers out, set CALLSCOPE_INGEST__ALLOW_UNAUTHENTICATED=true."
    )


async def _run_until_signal(settings: Settings) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return await run(settings, stop)


def main() -> int:
    """Run the gateway as a program.

    Returns:
        Exit code: 0 stopped as told, 1 something failed or audio was lost, 130 interrupted before it was ready.
    """
    try:
        settings = config.settings()
        logs.configure_logging(settings.log_level)
        lifetime.end_with_parent()
        logging.getLogger("websockets").setLevel(logging.ERROR)  # streams are logged by us; connections are not news
        check_exposure(settings.ingest, Access(settings.access))
        kafka.ensure_topics(settings)
        return 1 if uvloop.run(_run_until_signal(settings)) else 0
    except CallscopeError as error:
        sys.stderr.write(f"ingest: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
