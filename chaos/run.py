"""A run: start a machine, play a round undisturbed, then rounds with faults."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from callscope.clock import monotonic
from chaos.calls import lines
from chaos.faults import Fault
from chaos.machine import running
from chaos.rounds import Planned, Round, Rounds
from chaos.subscriber import Subscriber
from chaos.written import Written

BETWEEN_S = (4.0, 10.0)
"""From fresh results after one fault to the next of the same round, in a run at random."""


def one_by_one(faults: Sequence[Fault], seconds: float, rng: random.Random) -> Iterator[list[Planned]]:
    """The plan of a run that strikes each fault once: first two rounds undisturbed, then one fault a round."""
    yield []
    yield []
    for fault in faults:
        yield [(rng.uniform(0.2, 0.4) * seconds, fault)]


def at_random(faults: Sequence[Fault], seconds: float, minutes: float, rng: random.Random) -> Iterator[list[Planned]]:
    """The plan of a run of so many minutes: a round undisturbed, then two faults in each."""
    until = monotonic() + minutes * 60
    yield []
    while monotonic() < until:
        first = rng.uniform(0.0, 0.4) * seconds
        yield [(first, rng.choice(faults)), (first + rng.uniform(*BETWEEN_S), rng.choice(faults))]


@dataclass(frozen=True, slots=True)
class Load:
    """Who speaks.

    Attributes:
        legs: how many at once, an even number.
        seconds: how long each call.
        seed: decides what is said, and what faults leave to chance.
        first_speed: of the first round, which is undisturbed: 1 is real time. Results do not depend on it.
    """

    legs: int = 20
    seconds: float = 50.0
    seed: int = 1
    first_speed: float = 1.0


async def run(
    plan: Iterable[list[Planned]],
    faults: Sequence[Fault],
    load: Load,
    stop_s: float,
    tell: Callable[[str], None],
    ended: Callable[[Round], None],
) -> None:
    """Carry a plan out.

    Args:
        plan: of each round, what to strike when; nothing in the first.
        faults: all that may be struck.
        load: who speaks.
        stop_s: how long a process is stopped.
        tell: told what happens.
        ended: told of every round that is over.

    Raises:
        CallscopeError: the system cannot start, or did not survive.
    """
    said = lines(load.legs // 2, load.seconds, load.seed)
    own_disks = any(fault.needs_disks for fault in faults)
    own_clock = any(fault.needs_clock for fault in faults)
    async with running(tell, own_disks=own_disks, own_clock=own_clock) as machine:
        subscriber = Subscriber()
        with closing(Written(machine.settings)) as written:
            rounds = Rounds(machine, said, subscriber, written, load.seed, stop_s, tell)
            async with asyncio.TaskGroup() as group:
                watching = [
                    group.create_task(subscriber.follow(machine.addresses.results)),
                    group.create_task(machine.keep(tell)),
                ]
                await asyncio.sleep(0.5)
                for planned in plan:
                    ended(await rounds.play(planned, 1.0 if rounds.done else load.first_speed))
                for task in watching:
                    task.cancel()
