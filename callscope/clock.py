"""The one place that reads the wall clock: for latency ledgers and connection time-outs, never for analysis."""

import time


def wall_ns() -> int:
    """Nanoseconds since the Unix epoch, comparable between processes of one machine."""
    return time.time_ns()


def monotonic() -> float:
    """Seconds on a clock that never jumps, for measuring how long something took."""
    return time.monotonic()
