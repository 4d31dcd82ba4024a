"""The worker: a Faust app around the topology, and what it needs to run: topics, producer, metrics, a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import faust
import platformdirs
from aiokafka.helpers import create_ssl_context
from faust.types import TP

from callscope import clock, kafka, lifetime
from callscope.config import Settings
from callscope.telemetry import stage_failed
from callscope.topics import VOICE_SPEECH, partition_of
from callscope.watchdog import LoopBeat, Watchdog
from processors import telemetry, topology
from processors.consent_reader import ConsentReader
from processors.extract_streams import ExtractStreams
from processors.health import Consumption, HealthPort
from processors.infer_streams import InferStreams, no_consents
from processors.load import BEAT_S, Load, unheard
from processors.mark_reader import read_marks
from processors.outbox import Outbox
from processors.records import Consent
from processors.recovery import Recovery
from processors.rejects import Rejects
from processors.stages.detect import Detect
from processors.stages.detectors import load_detectors
from processors.stages.extract import Extract
from processors.stages.infer import Infer, Policy
from processors.stages.model import load_models
from processors.stages.opensmile_engine import OpenSmilePool
from processors.streams import DetectStreams, Failed
from processors.topology import STAGES, Pipeline
from schemas.v1.status_pb2 import WorkerStatus

DRAIN_TIMEOUT_S = 10.0
REBALANCE_TIMEOUT_S = 20.0
"""A worker that does not hand its partitions over for so long loses them."""
REBALANCED_WITHIN_S = 30.0
"""A rebalance takes the above at most, and a dead worker's session. Once in 20 rounds of faults workers were seen that
did not take their work up again after a broker's end and two rebalances: such a one is started anew."""
UNHURRIED_MS = 250
"""How long records that nobody waits for are gathered: a request for each partition four times a second, not fifty."""


def build_pipeline(
    settings: Settings,
    clock_ns: Callable[[], int] = clock.wall_ns,
    consents: Callable[[], Sequence[Consent]] = no_consents,
    stage: str | None = None,
    tell: Callable[[WorkerStatus], None] = unheard,
    idle_stream_s: float | None = None,
    failed: Failed = stage_failed,
) -> Pipeline:
    """The three steps as configured; one instance serves every stream of a worker that runs `stage`, or all.

    Args:
        settings: the settings in force.
        clock_ns: nanoseconds since the epoch, for ledgers.
        consents: what speakers allowed or refused since it was last asked.
        stage: the one that the worker runs; None: all.
        tell: gets the worker's status.
        idle_stream_s: instead of the configured one; see `DetectStreams`.
        failed: told of records that a stage cannot work on; all others are worked on.
    """
    config = settings.processors
    idle_s = config.idle_stream_s if idle_stream_s is None else idle_stream_s
    worker = f"{stage or 'fused'}-{uuid.uuid4().hex[:8]}"
    load = Load(config.overload, worker, STAGES if stage is None else (stage,), clock_ns, tell)
    engines = OpenSmilePool()
    engines.warm(config.extract.warm_engines if stage in (None, "extract") else 0)
    if stage in (None, "detect"):
        load_detectors(config.detect)
    models = load_models(config.infer.enabled, config.infer.models)
    policy = Policy(config.infer.emotion_legs, config.infer.health_legs)
    infer = Infer(models, policy, config.infer.max_batch)
    return Pipeline(
        DetectStreams(
            lambda stream: Detect(stream, config.detect),
            clock_ns,
            idle_s,
            lambda stream: partition_of(stream.call_id, settings.topics.partitions),
            failed,
        ),
        ExtractStreams(
            lambda stream: Extract(stream, config.extract, engines), clock_ns, lambda: load.sheds("extract"), failed
        ),
        InferStreams(infer, clock_ns, consents, lambda: load.sheds("infer"), failed),
        load,
    )


def faust_app(settings: Settings, name: str) -> faust.App:
    """A Faust app without agents, set up for the record-batch transport.

    Args:
        settings: the settings in force; `settings.kafka` names the cluster.
        name: its consumer group is `<processors.group>-<name>`.
    """
    app = faust.App(
        f"{settings.processors.group}-{name}",
        broker=[f"callscope://{server}" for server in (settings.kafka or "").split(",")],
        broker_credentials=credentials(settings),
        consumer_auto_offset_reset="earliest",
        stream_buffer_maxsize=4096,  # never reached: the transport fetches when the agents have caught up
        broker_commit_interval=1.0,
        broker_session_timeout=settings.processors.session_timeout_s,
        broker_heartbeat_interval=settings.processors.session_timeout_s / 6,
        broker_rebalance_timeout=REBALANCE_TIMEOUT_S,
        consumer_group_instance_id=settings.processors.member,
        topic_allow_declare=False,  # callscope.kafka.ensure_topics has made them
        topic_disable_leader=True,
        # Selects Faust's own assignor, though there are no tables: the same partitions of all topics a worker reads
        # come to it together, and stay where they are when others come and go. aiokafka's round robin does neither.
        table_standby_replicas=1,
        web_enabled=False,
        autodiscover=False,
        datadir=platformdirs.user_cache_path("callscope", appauthor=False) / "faust",  # stays empty
    )
    app.transport.client_options = kafka.client_options(settings)
    return app


def build_app(
    settings: Settings,
    outbox: Outbox,
    stage: str | None = None,
    consents: Callable[[], Sequence[Consent]] = no_consents,
) -> faust.App:
    """A Faust app that runs the topology.

    Args:
        settings: the settings in force; `settings.kafka` names the cluster.
        outbox: where results go.
        stage: "detect", "extract" or "infer" for one stage of the chained wiring, None for all of them fused.
        consents: what speakers allowed or refused since it was last asked; for the stage "infer".
    """
    wiring = stage or "fused"
    app = faust_app(settings, wiring)
    rejects = Rejects(wiring)
    pipeline = build_pipeline(
        settings,
        consents=consents,
        stage=stage,
        tell=lambda status: outbox.announce(status.worker, status.SerializeToString(deterministic=True)),
        failed=rejects.failed,
    )
    if stage is None:
        topology.fused(app, pipeline, outbox, rejects)
    else:
        topology.chained(app, stage, pipeline, outbox, rejects)

    @app.on_partitions_assigned.connect
    async def begin(app: Any, assigned: set[TP], **_: Any) -> None:
        telemetry.worker_ready(wiring, len(assigned))

    group = app.conf.id
    recovery = app.transport.recovery = Recovery(
        group,
        pipeline.keepers(stage),
        settings.topics.partitions,
        outbox.put_mark,
        lambda partitions: read_marks(settings, group, partitions),
        pipeline.load.took_over,
    )

    @app.on_partitions_revoked.connect
    async def hand_over(app: Any, revoked: set[TP], **_: Any) -> None:
        recovery.drop(revoked)

    @app.timer(BEAT_S)
    async def beat(_: Any) -> None:
        pipeline.load.beat()

    @app.on_before_shutdown.connect
    async def end(app: Any, **_: Any) -> None:
        pipeline.load.stop()

    return app


def credentials(settings: Settings) -> Any:
    """The same security settings as librdkafka gets, in Faust's words; None where none are needed."""
    security = settings.kafka_security
    if security.protocol == "PLAINTEXT":
        return None
    context = None
    if security.protocol.endswith("SSL"):
        context = create_ssl_context(
            cafile=str(security.ca_file) if security.ca_file else None,
            certfile=str(security.cert_file) if security.cert_file else None,
            keyfile=str(security.key_file) if security.key_file else None,
            password=security.key_password.get_secret_value() or None,
        )
    if security.protocol == "SSL":
        return faust.SSLCredentials(context=context)
    return faust.SASLCredentials(
        username=security.username,
        password=security.password.get_secret_value(),
        mechanism=security.mechanism,
        ssl_context=context,
    )


async def serve(settings: Settings, stage: str | None = None) -> None:
    """Run a worker until SIGTERM or SIGINT.

    Raises:
        CallscopeError: Kafka cannot be reached, a topic does not fit, or a model cannot be used.
        RuntimeError: Kafka did not take a result, after the producer's own retries.
    """
    kafka.ensure_topics(settings)
    consumption, beat = Consumption(settings), LoopBeat()
    watchdogs = (
        Watchdog(settings.watchdog_s, [beat.check, consumption.check]),
        Watchdog(min(settings.watchdog_s, REBALANCED_WITHIN_S), [consumption.check_group]),
    )
    outbox = _outbox(settings, stage)
    consents = await _consents(settings, stage)
    app = build_app(settings, outbox, stage, consents.fresh if consents else no_consents)
    health = _health_port(settings, app, watchdogs)

    @app.timer(BEAT_S)
    async def note_progress(_: Any) -> None:
        consumer = app.consumer
        consumption.note(consumer.progress(), is_rebalancing=not consumer.flow_active)

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    telemetry.worker_starting(stage or "fused")
    lifetime.settle_memory()
    for watchdog in watchdogs:
        watchdog.start()
    beating = asyncio.create_task(beat.run())
    deliveries = asyncio.create_task(outbox.poll_forever())
    crashed = asyncio.create_task(app.wait_until_stopped())
    stopped = asyncio.create_task(stop.wait())
    try:
        await app.start()
        await asyncio.wait({crashed, stopped, deliveries}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await app.stop()
        await outbox.drain(DRAIN_TIMEOUT_S)
        for watchdog in watchdogs:
            watchdog.stop()
        if consents:
            consents.close()
        if health:
            health.close()
        for task in (beating, deliveries, crashed, stopped):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    if app.crash_reason is not None:
        raise RuntimeError("The worker stopped by itself; it is safe to start it again.") from app.crash_reason


def _health_port(settings: Settings, app: faust.App, watchdogs: Sequence[Watchdog]) -> HealthPort | None:
    """Metrics and health; ready is who has been dealt partitions (or none) and reads."""
    config = settings.processors
    if config.metrics_port is None:
        return None
    dealt = threading.Event()

    def is_content() -> bool:
        return all(watchdog.is_content for watchdog in watchdogs)

    @app.on_partitions_assigned.connect
    async def ready(app: Any, assigned: set[TP], **_: Any) -> None:
        dealt.set()

    @app.on_partitions_revoked.connect
    async def not_ready(app: Any, revoked: set[TP], **_: Any) -> None:
        dealt.clear()

    return HealthPort(
        config.metrics_host,
        config.metrics_port,
        is_alive=is_content,
        is_ready=lambda: dealt.is_set() and is_content(),
    )


def _outbox(settings: Settings, stage: str | None) -> Outbox:
    """Where results go. Where the stages are fused, nobody waits for the speech between them."""
    if stage is not None:
        return Outbox(kafka.producer(settings), settings.topics.partitions)
    unhurried = kafka.producer(settings, **{"linger.ms": UNHURRIED_MS})
    return Outbox(kafka.producer(settings), settings.topics.partitions, unhurried, {VOICE_SPEECH.name})


async def _consents(settings: Settings, stage: str | None) -> ConsentReader | None:
    """What has been allowed or refused so far, read before anything is judged; None where nothing will be."""
    if stage not in (None, "infer"):
        return None
    reader = ConsentReader(settings)
    await asyncio.to_thread(reader.catch_up)
    return reader


def run(settings: Settings, stage: str | None = None) -> None:
    """`serve` on an event loop of its own."""
    for chatty in ("faust", "mode", "aiokafka", "processors.transport"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    asyncio.run(serve(settings, stage))
