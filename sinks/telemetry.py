"""Every metric and every log event of the sink, declared once."""

from __future__ import annotations

import logging
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

LATENCY_BUCKETS_S: Final = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0)

_sinks = logging.getLogger("callscope.sinks")

_sink_subscribers = Gauge("callscope_sink_subscribers", "Subscribers connected now")
_sink_running_calls = Gauge("callscope_sink_running_calls", "Calls running now")
_sink_sent = Counter("callscope_sink_messages_sent_total", "Messages written to subscribers", ["type"])
_sink_dropped = Counter("callscope_sink_messages_dropped_total", "Interim results slow subscribers did not get")
_sink_too_slow = Counter("callscope_sink_subscribers_too_slow_total", "Subscribers cut off because they fell behind")
_sink_refused = Counter("callscope_sink_refused_total", "Connections and requests refused", ["code"])
_sink_duplicates = Counter("callscope_sink_duplicates_total", "Records already seen, passed to nobody")
_sink_unreadable = Counter("callscope_sink_records_unreadable_total", "Records that could not be read", ["topic"])
_sink_resumed = Counter(
    "callscope_sink_subscribers_resumed_total", "Subscribers that came back and got what they missed"
)
_sink_latency = Histogram(
    "callscope_sink_latency_seconds",
    "From the arrival of the last audio a result depends on to the subscriber's socket",
    ["type"],
    buckets=LATENCY_BUCKETS_S,
)


def dashboard_ready(address: str) -> None:
    """The sink reads the topics and takes subscribers."""
    _sinks.info("dashboard at %s", address)


def sink_stopping() -> None:
    """The sink was asked to end."""
    _sinks.info("sink stopping")


def subscriber_joined(peer: str) -> None:
    """A subscriber connected."""
    _sink_subscribers.inc()
    _sinks.info("subscriber connected: %s", peer)


def subscriber_left(peer: str, code: int | None, sent: int) -> None:
    """A subscriber is gone."""
    _sink_subscribers.dec()
    _sinks.info("subscriber gone: %s, close code %s after %d messages", peer, code, sent)


def subscriber_refused(peer: str, code: str, reason: str) -> None:
    """A connection or a request could not be served."""
    _sink_refused.labels(code).inc()
    _sinks.warning("subscriber refused: %s: %s", peer, reason)


def subscriber_too_slow(peer: str) -> None:
    """A subscriber fell so far behind that final results would be lost."""
    _sink_too_slow.inc()
    _sinks.warning("subscriber too slow, cut off: %s", peer)


def result_pushed(kind: str, latency_s: float | None) -> None:
    """A message was written to a subscriber's socket."""
    _sink_sent.labels(kind).inc()
    if latency_s is not None:
        _sink_latency.labels(kind).observe(latency_s)


def results_dropped(count: int) -> None:
    """Interim results gave way in full queues."""
    _sink_dropped.inc(count)


def duplicate_dropped() -> None:
    """A record came that was seen before."""
    _sink_duplicates.inc()


def record_unreadable(topic: str) -> None:
    """A record was skipped; its dead letter says more."""
    _sink_unreadable.labels(topic).inc()


def subscriber_resumed(partitions: int, seconds: float) -> None:
    """A subscriber that came back has what it missed."""
    _sink_resumed.inc()
    _sinks.info("subscriber resumed: %d partitions were read back in %.2f s", partitions, seconds)


def running_calls(count: int) -> None:
    """How many calls run."""
    _sink_running_calls.set(count)
