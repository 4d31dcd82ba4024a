"""Every metric and every log event of the workers, declared once."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from prometheus_client import Counter, Gauge

_processors = logging.getLogger("callscope.processors")

_undecodable = Counter("callscope_records_undecodable_total", "Records not what their topic promises", ["topic"])
_outbox_full = Counter("callscope_outbox_full_total", "Times a worker waited because its producer's queue was full")
_engine_failures = Counter("callscope_segments_without_features_total", "Segments the feature engine failed on")
_undeliverable = Counter("callscope_results_undeliverable_total", "Results that Kafka did not take")
_withheld = Counter(
    "callscope_infer_withheld_total",
    "Windows kept from a model, because of the policy for the leg or for want of consent",
    ["model", "because"],
)
_lag_seconds = Gauge(
    "callscope_worker_lag_seconds", "How far behind live audio the worker was, at most, in the last second"
)
_shedding_level = Gauge("callscope_worker_shedding_level", "Stages that leave work out: 0 none, 1 infer, 2 extract too")
_work_shed = Counter(
    "callscope_worker_shed_total",
    "Left out under load: windows that were not judged (infer), segments without features (extract)",
    ["stage"],
)
_late_copies = Counter(
    "callscope_records_of_ended_streams_total",
    "Records passed over: their stream had ended when they came again",
    ["stage"],
)
_taken_over = Counter(
    "callscope_streams_taken_over_total", "Streams a worker went on with: rebuilt, or begun anew in the middle", ["how"]
)
_marks_written = Counter("callscope_marks_written_total", "Records written to worker.marks")
_marks_late = Counter("callscope_marks_late_total", "Times marks were put off: results were not delivered in time")
_consents = Counter("callscope_infer_consents_total", "Consent events read from call.events", ["allowed"])


def record_undecodable(topic: str, partition: int, offset: int, reason: str) -> None:
    """A record was passed over."""
    _undecodable.labels(topic).inc()
    _processors.warning("record passed over: %s partition %d offset %d: %s", topic, partition, offset, reason)


def outbox_full() -> None:
    """The producer's queue is full; the worker waits."""
    _outbox_full.inc()


def result_undeliverable(reason: str) -> None:
    """Kafka did not take a result, after the producer's own retries."""
    _undeliverable.inc()
    _processors.error("result not delivered: %s", reason)


def segment_without_features(stream: str, segment: int, reason: str) -> None:
    """The feature engine failed on a segment, which was given up."""
    _engine_failures.inc()
    _processors.error("no features for segment %d of %s: %s", segment, stream, reason)


def windows_withheld(model: str, because: str, windows: int) -> None:
    """Windows were kept from a model; `because` is "policy" or "consent"."""
    _withheld.labels(model, because).inc(windows)


def worker_lag(seconds: float) -> None:
    """How far behind a worker is."""
    _lag_seconds.set(seconds)


def worker_sheds(stages: Sequence[str], lag_ms: float) -> None:
    """What a worker leaves out has changed; nothing is left out where `stages` is empty."""
    _shedding_level.set(len(stages))
    if stages:
        _processors.warning("overload: %.0f ms behind; left out from now on: %s", lag_ms, ", ".join(stages))
    else:
        _processors.info("overload is over: nothing is left out any more")


def work_shed(stage: str, count: int) -> None:
    """Windows or segments were left out."""
    _work_shed.labels(stage).inc(count)


def consents_delayed(reason: str) -> None:
    """Kafka reported trouble while consents were read, which the client mends by itself."""
    _processors.warning("reading consents: %s", reason)


def consent_noted(call_id: str, leg: str, allowed: bool) -> None:
    """A speaker allowed or refused analysis."""
    _consents.labels(str(allowed).lower()).inc()
    _processors.info("analysis %s from now on: %s", "allowed" if allowed else "refused", f"{call_id}/{leg or '*'}")


def worker_kafka_trouble(reason: str) -> None:
    """The client that reads records met trouble, which it mends by itself."""
    _processors.warning("reading records: %s", reason)


def record_of_ended_stream(stage: str) -> None:
    """A record came again after its stream's end."""
    _late_copies.labels(stage).inc()


def partitions_taken_over(partitions: int, streams: int, seconds: float) -> None:
    """A worker has read the marks of its partitions; their records follow."""
    _processors.info("taken over: %d partitions with %d running streams (%.2f s)", partitions, streams, seconds)


def stream_rebuilt(count: int = 1) -> None:
    """Streams are gone on with as if nothing had happened."""
    _taken_over.labels("rebuilt").inc(count)


def stream_not_rebuilt(stream: str, reason: str) -> None:
    """A stream is begun anew in its middle: what was known of it is lost."""
    _taken_over.labels("anew").inc()
    _processors.warning("begun anew in the middle: %s: %s", stream, reason)


def mark_unreadable(partition: int, offset: int, reason: str) -> None:
    """A record of worker.marks was passed over."""
    _processors.warning("mark passed over: partition %d offset %d: %s", partition, offset, reason)


def marks_written(count: int) -> None:
    """Marks were acknowledged by Kafka."""
    _marks_written.inc(count)


def marks_late() -> None:
    """Results were not delivered in time to say how far the worker is."""
    _marks_late.inc()


def worker_starting(wiring: str) -> None:
    """A worker is about to join its group."""
    _processors.info("worker starting: %s", wiring)


def worker_ready(wiring: str, partitions: int) -> None:
    """A worker has partitions and reads."""
    _processors.info("worker ready: %s, %d partitions", wiring, partitions)
