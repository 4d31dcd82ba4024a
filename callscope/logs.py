"""How programs log: to standard error, one line an event; and filters for what repeats itself.

Nothing that is logged holds a secret, a token or audio.
"""

from __future__ import annotations

import logging
import math
import sys
from typing import Final

from callscope.clock import monotonic

REPEATED_S: Final = 30.0


def configure_logging(level: str) -> None:
    """Log to standard error, one line an event, times in UTC to the millisecond."""
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s  %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
        force=True,
    )
    logging.getLogger("callscope.librdkafka").setLevel(logging.DEBUG if level == "debug" else logging.CRITICAL)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_Repetitive("aiokafka"))


class _Repetitive(logging.Filter):
    """Thins out a logger that says the same ten times a second, as aiokafka does while its broker is away.

    Args:
        name: the logger, with those below it.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._lines = Sparingly(10.0)

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] != self._name:
            return True
        count = self._lines.told()
        if count is not None and count > 1:
            record.msg, record.args = f"{record.getMessage()} (and {count - 1} lines before it)", ()
        return count is not None


class Sparingly:
    """Lets through one line of an event that may come in thousands, with how many it stands for.

    Args:
        interval_s: between two lines, seconds.
    """

    def __init__(self, interval_s: float = 1.0) -> None:
        self._interval_s = interval_s
        self._next_at = 0.0
        self._untold = 0

    def told(self) -> int | None:
        """How many happened since the last line, this one included; None: no line now."""
        self._untold += 1
        if (now := monotonic()) < self._next_at:
            return None
        self._next_at = now + self._interval_s
        told, self._untold = self._untold, 0
        return told


class Seldom(logging.Filter):
    """Lets one line of a kind (librdkafka's first word: FAIL, ERROR) through in 30 s: it repeats itself for hours."""

    def __init__(self) -> None:
        super().__init__()
        self._last_s: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is told."""
        kind, now_s = record.getMessage().partition(" ")[0], monotonic()
        if now_s - self._last_s.get(kind, -math.inf) < REPEATED_S:
            return False
        self._last_s[kind] = now_s
        return True
