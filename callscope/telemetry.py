"""Every metric and every log event, declared once, by component.

A component calls, for example, `telemetry.stream_rejected(...)`; what that counts and what it logs is decided here
and nowhere else. Metric names are an interface. Nothing here logs a secret, a token or audio.
"""

from __future__ import annotations

import logging
import sys

from prometheus_client import Counter, Gauge, Histogram

LATENCY_BUCKETS_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0)


def configure_logging(level: str) -> None:
    """Log to standard error, one line an event, times in UTC to the millisecond."""
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s  %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
        force=True,
    )


# ── ingest ──────────────────────────────────────────────────────────────────────────────────────────────────────

_ingest = logging.getLogger("callscope.ingest")

# ── processors ──────────────────────────────────────────────────────────────────────────────────────────────────

_processors = logging.getLogger("callscope.processors")

# ── sinks ───────────────────────────────────────────────────────────────────────────────────────────────────────

_sinks = logging.getLogger("callscope.sinks")

__all__ = ["LATENCY_BUCKETS_S", "Counter", "Gauge", "Histogram", "configure_logging"]
