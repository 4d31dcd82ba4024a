"""A round: every line makes its call, faults are struck meanwhile, and what was found is compared."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from callscope.client.sender import SendRefused
from callscope.clock import monotonic
from chaos.calls import LEGS, STAGGER_S, Call, Line
from chaos.faults import Fault, Hand
from chaos.machine import Machine
from chaos.subscriber import Subscriber
from chaos.verdict import Found, Verdict, judge
from chaos.written import SETTLED_S, Results, Written

ENDS_WITHIN_S: Final = 60.0
"""After a round's last audio; then what is missing counts as lost."""
_LOOK_S: Final = 0.05
_ALMOST_OVER_S: Final = 1.0
"""A call that ends so soon need not have fresh results."""

Planned = tuple[float, Fault]
"""When to strike, seconds from the round's beginning, and what."""


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault that was struck.

    Attributes:
        fault: which.
        at_s: when it began, seconds from the round's beginning.
        lasted_s: until it was over.
        fresh_s: from its end until every stream had a result of audio spoken after that; None: one never had.
    """

    fault: Fault
    at_s: float
    lasted_s: float
    fresh_s: float | None

    @property
    def in_time(self) -> bool:
        """Whether fresh results came, and as soon as they must."""
        return self.fresh_s is not None and (self.fault.limit_s is None or self.fresh_s <= self.fault.limit_s)


@dataclass(frozen=True, slots=True)
class Round:
    """What came of a round.

    Attributes:
        number: which.
        struck: the faults.
        found: all that was found.
        verdict: compared with the first round.
        records: results in the topics, copies included.
        reconnects: of the callers.
        failed: calls that did not come to their end, and why.
    """

    number: int
    struck: tuple[Struck, ...]
    found: Found
    verdict: Verdict
    records: int
    reconnects: int
    failed: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether all is as it was without faults, and in time."""
        return self.verdict.good and not self.failed and all(struck.in_time for struck in self.struck)


@dataclass(slots=True)
class Rounds:
    """Rounds on one machine.

    Attributes:
        machine: it.
        lines: who speaks.
        subscriber: follows all of it.
        written: reads it from the topics.
        seed: decides what is left to chance, for each fault anew.
        stop_s: how long a process is stopped.
        tell: told what happens.
        done: those that are over; the first one is undisturbed.
    """

    machine: Machine
    lines: Sequence[Line]
    subscriber: Subscriber
    written: Written
    seed: int
    stop_s: float
    tell: Callable[[str], None]
    done: list[Round] = field(default_factory=list)

    async def play(self, plan: Sequence[Planned], speed: float = 1.0) -> Round:
        """Let every line make a call, strike as planned, and judge.

        Args:
            plan: when to strike, and what.
            speed: of the speakers; 1 is real time.
        """
        number = len(self.done)
        calls = {line.call_id(number): Call(line, line.call_id(number)) for line in self.lines}
        speaking = [
            asyncio.create_task(call.speak(self.machine.addresses.gateway, n * STAGGER_S, speed))
            for n, call in enumerate(calls.values())
        ]
        struck = await self._strike_all(number, plan, list(calls.values()))
        ends = await asyncio.gather(*speaking, return_exceptions=True)
        failed = [f"{call}: {end}" for call, end in zip(calls, ends, strict=True) if isinstance(end, SendRefused)]
        for end in ends:
            if isinstance(end, BaseException) and not isinstance(end, SendRefused):
                raise end
        failed += [f"{call.call_id}: {call.dropped} samples given up" for call in calls.values() if call.dropped]
        failed += [f"the sink could not bring all that was missed of {gone}" for gone in self.subscriber.take_too_old()]
        self.tell(f"round {number}: all is said, waiting for the last results")
        results = await asyncio.to_thread(self.written.await_calls, list(calls), ENDS_WITHIN_S)
        await self.subscriber.quiet(SETTLED_S)
        found = found_in(results, {line.name: self.subscriber.take(line.call_id(number)) for line in self.lines})
        verdict = judge(self.done[0].found if self.done else found, found)
        records = sum(of.records for of in results.values())
        reconnects = sum(call.reconnects for call in calls.values())
        self.done.append(Round(number, struck, found, verdict, records, reconnects, tuple(failed)))
        return self.done[-1]

    async def _strike_all(self, number: int, plan: Sequence[Planned], calls: Sequence[Call]) -> tuple[Struck, ...]:
        began = monotonic()
        struck: list[Struck] = []
        for at_s, fault in plan:
            await asyncio.sleep(max(0.0, began + at_s - monotonic()))
            started = monotonic()
            self.tell(f"{fault.name}: {fault.says}")
            rng = random.Random(f"{self.seed} {number} {len(struck)}")  # noqa: S311  # repeatable, and no secret
            await fault.strike(Hand(self.machine, rng, calls, self.stop_s))
            over = monotonic()
            fresh_s = await self._until_fresh([call for call in calls if call.left_s > _ALMOST_OVER_S])
            struck.append(Struck(fault, started - began, over - started, fresh_s))
        return tuple(struck)

    async def _until_fresh(self, calls: Sequence[Call]) -> float | None:
        """Wait until every leg that speaks now has a result of what it says from now on; how long that took.

        Where the sink had to leave out interim results, a call that has ended is waited for no longer: its last ones
        may be among them.
        """
        began, dropped = monotonic(), self.subscriber.dropped
        by_id = {call.call_id: call for call in calls}
        waiting = {(call.call_id, leg): call.spoken_s for call in calls if call.running for leg in LEGS}
        while waiting:
            await asyncio.sleep(_LOOK_S)
            heard = self.subscriber.heard_s
            waiting = {(call, leg): at for (call, leg), at in waiting.items() if heard[call][leg] <= at}
            if self.subscriber.dropped > dropped:
                waiting = {(call, leg): at for (call, leg), at in waiting.items() if by_id[call].left_s > 0}
            if monotonic() - began > ENDS_WITHIN_S:
                return None
        return monotonic() - began


def found_in(results: Mapping[str, Results], finals: Mapping[str, Counter[str]]) -> Found:
    """Gather what was found in each call, by its line's name."""
    digests, places = {}, {}
    for of in results.values():
        digests.update(of.by_stream())
        for stream, there in of.places.items():
            places[stream] = {place: frozenset(hashes) for place, hashes in there.items()}
    return Found(digests, places, finals)
