"""The metrics and log events of what all programs share, and of the broker; each is declared once.

Each component declares its own: `ingest/telemetry.py`, `processors/telemetry.py`, `sinks/telemetry.py`. Code calls, for
example, `telemetry.record_dead(...)`; what that counts and what it logs is decided there and nowhere else. Metric names
are an interface. Nothing logs a secret, a token or audio.
"""

from __future__ import annotations

import logging

from prometheus_client import Counter

from callscope.logs import Sparingly

_kafka = logging.getLogger("callscope.kafka")


_dead_letters = Counter(
    "callscope_dead_letters_total",
    "Records that could not be worked on, by who could not and their topic",
    ["stage", "topic"],
)
_dead_letters_left_out = Counter(
    "callscope_dead_letters_left_out_total",
    "Of these, the ones no letter was written about: there were too many at once",
)
_dead_letter_lines = Sparingly()


def record_dead(stage: str, topic: str, partition: int, offset: int, reason: str) -> None:
    """A record could not be worked on; all others were. `stage` is who could not: a stage, "fused" or "sink"."""
    _dead_letters.labels(stage, topic).inc()
    if (count := _dead_letter_lines.told()) is not None:
        others = f" (and {count - 1} before it)" if count > 1 else ""
        _kafka.warning("%s: dead letter: %s/%d/%d: %s%s", stage, topic, partition, offset, reason, others)


def dead_letter_left_out() -> None:
    """A record that could not be worked on has no letter; it stays where it lies."""
    _dead_letters_left_out.inc()


def stage_failed(stage: str, envelope: object, error: Exception) -> None:
    """A stage outside of a worker could not work on a record; in a worker, a dead letter says more."""
    _dead_letters.labels(stage, "").inc()
    _kafka.error("%s: a record is left out: %s: %s", stage, type(error).__name__, error)


_reading_again = Counter(
    "callscope_reading_again_total", "Times topics were read on with another Kafka client, by reader", ["reader"]
)


def reading_again(reader: str, reason: str) -> None:
    """The client that follows topics failed, or brought nothing; another one takes its place."""
    _reading_again.labels(reader).inc()
    _kafka.error("%s: reading goes on with another client: %s", reader, reason)


def consumer_error(reason: str) -> None:
    """Kafka reported trouble that the client which follows topics mends by itself."""
    _kafka.warning("kafka: %s", reason)


_watchdog = logging.getLogger("callscope.watchdog")


def program_stuck(reason: str, seconds: float) -> None:
    """Something has stood still for too long: the program ends itself, to be started anew."""
    _watchdog.critical("ended by its watchdog: for %.0f s %s; it is safe to start it again", seconds, reason)


_security = logging.getLogger("callscope.security")


def certificate_loaded(whose: str) -> None:
    """A changed certificate is in force."""
    _security.info("%s: the certificate has changed and was loaded", whose)


def certificate_kept(whose: str, reason: str) -> None:
    """A changed certificate cannot be loaded; the one before stays."""
    _security.error("%s: a changed certificate cannot be loaded, the old one stays: %s", whose, reason)


def tokens_in_the_clear(whose: str, host: str) -> None:
    """A listener beyond this machine takes tokens without TLS."""
    _security.warning(
        "%s: tokens come to %s without TLS of ours; let nothing but a proxy that speaks it reach the port", whose, host
    )


_broker = logging.getLogger("callscope.broker")


def broker_started(bootstrap: str, pid: int, seconds: float) -> None:
    """The embedded Kafka answers."""
    _broker.info("embedded Kafka answers at %s after %.1f s (Java is process %d)", bootstrap, seconds, pid)


def broker_stopped(bootstrap: str) -> None:
    """The embedded Kafka has ended, as it was told."""
    _broker.info("embedded Kafka at %s has ended", bootstrap)
