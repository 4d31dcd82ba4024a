"""What is done to the machine. A fault is struck, lasts, and is over when its `strike` returns."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import Final

from chaos import disk, wall_clock
from chaos.calls import Call
from chaos.machine import Machine
from chaos.rogue import Rogue

AWAY_S: Final = 5.0
"""How long the broker stays away at a restart."""
JUMP_S: Final = 3 * 3_600
"""Of the wall clock: Kafka itself refuses, unless told otherwise, records that are stamped more than an hour ahead."""
NONSENSE: Final = 400


@dataclass(frozen=True, slots=True)
class Hand:
    """What a fault needs to be struck.

    Attributes:
        machine: whom.
        rng: decides what is left to chance.
        calls: those of the round.
        stop_s: how long a process is stopped.
    """

    machine: Machine
    rng: random.Random
    calls: Sequence[Call]
    stop_s: float


Strike = Callable[[Hand], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault.

    Attributes:
        name: on the command line and in the report.
        says: what happens, in a few words.
        strike: does it.
        needs_disks: the broker and the gateway must write to disks of their own.
        needs_clock: the processes must go by a clock of their own.
        limit_s: how soon after its end every stream must have fresh results; None: it is reported only.
    """

    name: str
    says: str
    strike: Strike
    needs_disks: bool = False
    needs_clock: bool = False
    limit_s: float | None = None

    def why_not(self) -> str | None:
        """Why it cannot be struck here; None if it can."""
        return (disk.why_not() if self.needs_disks else None) or (wall_clock.why_not() if self.needs_clock else None)


def _one(hand: Hand, kind: str) -> str:
    return hand.rng.choice([name for name in hand.machine.names() if name.startswith(kind)])


def _kill(kind: str) -> Strike:
    async def strike(hand: Hand) -> None:
        hand.machine.send(_one(hand, kind), SIGKILL)

    return strike


def _stop(kind: str) -> Strike:
    async def strike(hand: Hand) -> None:
        name = _one(hand, kind)
        hand.machine.send(name, SIGSTOP)
        try:
            await asyncio.sleep(hand.stop_s)
        finally:
            hand.machine.send(name, SIGCONT)

    return strike


async def _kill_broker(hand: Hand) -> None:
    hand.machine.send("broker", SIGKILL)
    await hand.machine.broker_away()
    await hand.machine.broker_back()


async def _restart_broker(hand: Hand) -> None:
    await hand.machine.broker_away()
    await asyncio.sleep(AWAY_S)
    await hand.machine.broker_back()


async def _more_and_fewer_workers(hand: Hand) -> None:
    hand.machine.add_worker()
    await asyncio.sleep(8.0)
    hand.machine.add_worker()
    await asyncio.sleep(6.0)
    await hand.machine.remove_worker()
    await asyncio.sleep(4.0)
    await hand.machine.lose_worker()


async def _full_disk(hand: Hand) -> None:
    """Kafka ends itself when it cannot write; when there is room again, it is started again."""
    assert hand.machine.disk is not None
    await asyncio.to_thread(hand.machine.disk.fill)
    try:
        await asyncio.sleep(hand.stop_s / 2)
        await hand.machine.broker_away()
    finally:
        hand.machine.disk.free()
    await hand.machine.broker_back()


async def _full_spool(hand: Hand) -> None:
    """The broker does not answer, and what the gateway would keep meanwhile has no room."""
    assert hand.machine.spool_disk is not None
    await asyncio.to_thread(hand.machine.spool_disk.fill)
    try:
        await _stop("broker")(hand)
    finally:
        hand.machine.spool_disk.free()


async def _slow_disk(hand: Hand) -> None:
    """Whoever writes waits for most of a second, again and again."""
    assert hand.machine.disk is not None
    until = asyncio.get_running_loop().time() + hand.stop_s
    while asyncio.get_running_loop().time() < until:
        await asyncio.to_thread(hand.machine.disk.freeze)
        await asyncio.sleep(hand.rng.uniform(0.3, 1.5))
        await asyncio.to_thread(hand.machine.disk.thaw)
        await asyncio.sleep(hand.rng.uniform(0.05, 0.3))


def _clock(seconds: int) -> Strike:
    async def strike(hand: Hand) -> None:
        assert hand.machine.clock is not None
        hand.machine.clock.set_off(seconds)
        try:
            await asyncio.sleep(hand.stop_s / 2)
        finally:
            hand.machine.clock.set_off(0)

    return strike


async def _written_again(hand: Hand) -> None:
    await asyncio.to_thread(Rogue(hand.machine.settings, hand.rng).write_again, in_order=True)


async def _out_of_order(hand: Hand) -> None:
    rogue = Rogue(hand.machine.settings, hand.rng)
    await asyncio.to_thread(rogue.write_again, in_order=False)
    await asyncio.to_thread(rogue.write_early, hand.calls)


async def _nonsense(hand: Hand) -> None:
    await asyncio.to_thread(Rogue(hand.machine.settings, hand.rng).write_nonsense, NONSENSE)


_ALL: Final = (
    Fault("kill-worker", "kill -9 of a worker", _kill("worker"), limit_s=10.0),
    Fault("kill-gateway", "kill -9 of the gateway", _kill("gateway")),
    Fault("kill-sink", "kill -9 of the sink", _kill("sink")),
    Fault("kill-broker", "kill -9 of the broker", _kill_broker),
    Fault("stop-worker", "SIGSTOP of a worker", _stop("worker")),
    Fault("stop-gateway", "SIGSTOP of the gateway", _stop("gateway")),
    Fault("stop-sink", "SIGSTOP of the sink", _stop("sink")),
    Fault("stop-broker", "SIGSTOP of the broker", _stop("broker")),
    Fault("restart-broker", f"the broker restarts, {AWAY_S:.0f} s away", _restart_broker),
    Fault("workers", "two workers come; one leaves, one is killed for good", _more_and_fewer_workers),
    Fault("full-disk", "no room left on Kafka's disk", _full_disk, needs_disks=True),
    Fault("full-spool", "the broker stands still, no room left on the gateway's disk", _full_spool, needs_disks=True),
    Fault("slow-disk", "Kafka's disk stalls again and again", _slow_disk, needs_disks=True),
    Fault("clock-ahead", "the wall clock jumps three hours ahead, and back", _clock(JUMP_S), needs_clock=True),
    Fault("clock-back", "the wall clock jumps three hours back, and ahead", _clock(-JUMP_S), needs_clock=True),
    Fault("duplicates", "records written again, up to three times", _written_again),
    Fault("reordered", "records in any order, some before their turn", _out_of_order),
    Fault("corrupt", f"{NONSENSE} records of nonsense", _nonsense),
)
FAULTS: Final[Mapping[str, Fault]] = {fault.name: fault for fault in _ALL}
"""By name."""
