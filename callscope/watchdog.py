"""Ends a program in which something has stopped for good, so that whoever runs it starts it anew.

A thread looks around every few seconds. It counts its own looks, not seconds: a program that was stopped as a whole (a
laptop's lid, SIGSTOP, a starved machine) has had no time to work either, and is left alone. Ending is abrupt, because
what hangs cannot be asked to finish; nothing is lost by it, since nothing is committed before it is delivered.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from callscope import telemetry

LOOK_S: Final = 5.0
"""Between two looks, or a sixth of the patience where that is less."""
BEAT_S: Final = 0.25
EXIT_CODE: Final = 75
"""EX_TEMPFAIL of sysexits.h: trying again may help."""

Check = Callable[[], Mapping[str, str]]
"""What is wrong now: what stands still → in words. It is called in the watchdog's thread."""


class Patience:
    """How long each complaint has stood.

    Args:
        looks: at so many looks in a row it has stood too long.
    """

    def __init__(self, looks: int) -> None:
        self._looks = looks
        self._stood: dict[str, int] = {}

    def look(self, complaints: Mapping[str, str]) -> str | None:
        """Take in what is wrong now; returns the complaint that has stood too long, None if none has."""
        self._stood = {what: self._stood.get(what, 0) + 1 for what in complaints}
        return next((complaints[what] for what, stood in self._stood.items() if stood >= self._looks), None)

    @property
    def longest(self) -> int:
        """At how many looks in a row the oldest complaint has stood."""
        return max(self._stood.values(), default=0)


class LoopBeat:
    """Whether an event loop still runs; `run` is a task in it."""

    def __init__(self) -> None:
        self._beats = 0
        self._seen = -1

    async def run(self) -> None:
        """For ever."""
        while True:
            self._beats += 1
            await asyncio.sleep(BEAT_S)

    def check(self) -> Mapping[str, str]:
        """See `Check`."""
        seen, self._seen = self._seen, self._beats
        return {"event loop": "the event loop hangs"} if seen == self._seen else {}


def end_now() -> None:
    """End this process, whatever it is doing."""
    logging.shutdown()
    os._exit(EXIT_CODE)


class Watchdog:
    """Looks around until it is stopped.

    Args:
        patience_s: a complaint that has stood for so long ends the program; 0: nothing does.
        checks: what to look at.
        end: ends the program.
    """

    def __init__(self, patience_s: float, checks: Sequence[Check], end: Callable[[], None] = end_now) -> None:
        self._patience_s = patience_s
        self._look_s = min(LOOK_S, patience_s / 6) or LOOK_S
        self._patience = Patience(max(2, round(patience_s / self._look_s)))
        self._checks = checks
        self._end = end
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to look around."""
        if self._patience_s:
            self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()

    @property
    def is_content(self) -> bool:
        """Whether nothing has stood still for three looks or more."""
        return self._patience.longest < 3

    def _run(self) -> None:
        while not self._stopping.wait(self._look_s):
            complaints = {what: words for check in self._checks for what, words in check().items()}
            if (reason := self._patience.look(complaints)) is not None and not self._stopping.is_set():
                telemetry.program_stuck(reason, self._patience_s)
                self._end()
                return
