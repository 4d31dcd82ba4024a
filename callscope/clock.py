"""The one place that reads clocks: for latency ledgers and time-outs, never for analysis."""

import time

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Goes on while the machine sleeps, where there is such a clock."""
_BEGAN_NS = time.time_ns() - time.clock_gettime_ns(_STEADY)


def wall_ns() -> int:
    """Nanoseconds since the Unix epoch, comparable between processes of one machine; never jumps within one process.

    It is read from the wall clock when the process starts and goes on steadily: whoever sets the machine's clock moves
    neither the order of what arrives nor how long something seems to have taken. Until the next start it then differs
    from the time of day, which is `calendar_ns`.
    """
    return _BEGAN_NS + time.clock_gettime_ns(_STEADY)


def calendar_ns() -> int:
    """The time of day, nanoseconds since the Unix epoch: to be compared with what others say it is. May jump."""
    return time.time_ns()


def monotonic() -> float:
    """Seconds on a clock that never jumps, for measuring how long something took."""
    return time.monotonic()
