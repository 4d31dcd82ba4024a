"""How far behind live audio a worker is, what it leaves out for that, and its telling others about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from callscope.config import Overload
from processors import telemetry
from processors.records import Envelope, Ledger
from processors.stages.pace import Pace
from processors.stages.shedding import Shedding
from schemas.v1.status_pb2 import WorkerStatus

BEAT_S: Final = 1.0
"""A worker says so often how it is doing."""
CATCH_UP_S: Final = 20.0
"""For so long, at most, a worker that has taken partitions over works off what nobody did, and leaves nothing out."""


def unheard(_: WorkerStatus) -> None:
    """Nobody listens."""


class Load:
    """The load of one worker. Without `observe` nothing is ever shed.

    Args:
        config: thresholds and times.
        worker: its name, different from every other's.
        stages: those that run in it.
        clock: nanoseconds since the epoch.
        tell: gets its status every `BEAT_S` (by `beat`), and at once when what is shed changes.
    """

    def __init__(
        self,
        config: Overload,
        worker: str,
        stages: Sequence[str],
        clock: Callable[[], int],
        tell: Callable[[WorkerStatus], None] = unheard,
    ) -> None:
        self._shedding = Shedding(config, stages)
        self._lag_ms = config.lag_ms
        self._catching_up_until_ns = 0
        self._pace = Pace()
        self._worker = worker
        self._stages = stages
        self._clock = clock
        self._tell = tell
        self._since_ns = clock()
        self._most_ms = 0.0
        self._observed = True

    def sheds(self, stage: str) -> bool:
        """Whether a stage leaves out what it can."""
        return stage in self._shedding.shed

    def took_over(self) -> None:
        """Partitions were taken over: what comes first of them is late, and not because there is too much to do."""
        self._catching_up_until_ns = self._clock() + int(CATCH_UP_S * 1e9)

    def observe(self, envelopes: Sequence[Envelope]) -> None:
        """Look at how old records of live streams are that are worked on next."""
        if envelopes:
            self._observed = True
            now_ns = self._clock()
            handed_over = [
                _handed_over_ns(envelope.ledger)
                for envelope in envelopes
                if self._pace.is_live(envelope.record, envelope.ledger.arrived_ns)
            ]
            self._note([(now_ns - at_ns) / 1e6 for at_ns in handed_over if at_ns], now_ns)

    def beat(self) -> None:
        """To be called every `BEAT_S` between records: nothing came since the last time, so nothing is late."""
        now_ns = self._clock()
        if not self._observed:
            self._note([0.0], now_ns)
        self._observed = False
        self._say(now_ns)

    def stop(self) -> None:
        """The worker ends, as it was told to."""
        self._say(self._clock(), stopped=True)

    def _note(self, ages_ms: Sequence[float], now_ns: int) -> None:
        lag_ms = self._shedding.lag_ms(ages_ms)
        if lag_ms is None:
            return
        self._most_ms = max(self._most_ms, lag_ms)
        if self._is_catching_up(lag_ms, now_ns):
            return
        if self._shedding.observe(lag_ms, now_ns / 1e9):
            self._since_ns = now_ns
            telemetry.worker_sheds(self._shedding.shed, lag_ms)
            self._say(now_ns)

    def _is_catching_up(self, lag_ms: float, now_ns: int) -> bool:
        if self._observed and lag_ms <= self._lag_ms:
            self._catching_up_until_ns = 0
        return now_ns < self._catching_up_until_ns

    def _say(self, now_ns: int, *, stopped: bool = False) -> None:
        telemetry.worker_lag(self._most_ms / 1_000)
        self._tell(
            WorkerStatus(
                worker=self._worker,
                stages=self._stages,
                lag_ms=max(0, int(self._most_ms)),
                shed=() if stopped else self._shedding.shed,
                since_ns=self._since_ns,
                time_ns=now_ns,
                stopped=stopped,
            )
        )
        self._most_ms = 0.0


def _handed_over_ns(ledger: Ledger) -> int:
    """When a record was given to the topic it was read from: where the way so far ended, whoever is late before."""
    return ledger.extracted_ns or ledger.detected_ns or ledger.published_ns
