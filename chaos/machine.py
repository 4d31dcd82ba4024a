"""The system under test, and the hands that are laid on it: its processes, its broker, its disk, its clock."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from callscope import lifetime, supervisor
from callscope.broker import EmbeddedBroker
from callscope.broker.ports import free_ports
from callscope.clock import monotonic
from callscope.config import Settings, child_environment, load
from callscope.supervisor import Addresses, Say, System
from chaos.disk import Disk
from chaos.wall_clock import WallClock

WORKERS: Final = 2
PARTITIONS: Final = 8
DISK_MB: Final = 6_000
SPOOL_DISK_MB: Final = 64
_LOOK_S: Final = 0.2
_HELD_UP_S: Final = 2.0

_ENVIRONMENT: Final = {
    # A run compares results. What is left out under load is left out in the open, and is no part of them.
    "CALLSCOPE_PROCESSORS__OVERLOAD__SHED": "false",
    "CALLSCOPE_INGEST__ADMISSION__ENABLED": "false",
    # Nor are callers turned away who were held up.
    "CALLSCOPE_INGEST__RESUME_S": "120",
    "CALLSCOPE_INGEST__IDLE_TIMEOUT_S": "120",
    "CALLSCOPE_TOPICS__PARTITIONS": str(PARTITIONS),
    "CALLSCOPE_LOG_LEVEL": "warning",
}


class Machine:
    """A running system, with a broker of its own.

    Attributes:
        settings: its settings.
        disk: what the broker writes to; None where it writes to the machine's.
        spool_disk: what the gateway writes to while the broker is away; likewise.
        clock: that of the gateway, the workers and the sink; None where they go by the machine's.
    """

    def __init__(
        self,
        settings: Settings,
        system: System,
        broker: EmbeddedBroker,
        disk: Disk | None,
        spool_disk: Disk | None,
        clock: WallClock | None,
    ):
        self.settings = settings
        self.disk = disk
        self.spool_disk = spool_disk
        self.clock = clock
        self._system = system
        self._broker = broker
        self._added: list[subprocess.Popen[bytes]] = []

    @property
    def addresses(self) -> Addresses:
        """Where it can be reached."""
        return self._system.addresses

    async def keep(self, say: Say) -> None:
        """Watch over its processes, as `callscope up` does; never returns.

        Args:
            say: told when this process was held up: whatever else it measured then was held up too.

        Raises:
            ChildDied: one ends as soon as it is started.
        """
        looked = monotonic()
        while True:
            self._system.tend()
            await asyncio.sleep(_LOOK_S)
            held_up_s = monotonic() - looked - _LOOK_S
            if held_up_s > _HELD_UP_S:
                say(f"This machine stood still for {held_up_s:.0f} s: times measured meanwhile mean nothing.")
            looked = monotonic()

    def names(self) -> list[str]:
        """Its processes: "gateway", "worker 1", "sink", "broker", ..."""
        return sorted({**self._system.children, "broker": None})

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal to one of its processes; to one that has just ended, nothing happens."""
        if name == "broker":
            os.kill(self._broker.pid, number)
        else:
            self._system.children[name].send_signal(number)

    async def broker_away(self) -> None:
        """Stop the broker, gracefully if it still runs."""
        await asyncio.to_thread(self._broker.stop)

    async def broker_back(self) -> None:
        """Start it again on the same port and data, and return when it answers."""
        await asyncio.to_thread(self._broker.start)

    def add_worker(self) -> None:
        """Start one more."""
        environment = {
            **child_environment(kafka=self.addresses.kafka),
            **(self.clock.environment() if self.clock else {}),
        }
        self._added.append(lifetime.spawn([sys.executable, "-m", "processors"], env=environment))

    async def remove_worker(self) -> None:
        """End the one that was added last, as an operator does."""
        await asyncio.to_thread(lifetime.stop, self._added.pop(), supervisor.STOP_TIMEOUT_S)

    async def lose_worker(self) -> None:
        """Kill the one that was added last; nobody starts it again."""
        await asyncio.to_thread(lifetime.stop, self._added[-1], 0.0)
        self._added.pop()

    async def clean_up(self) -> None:
        """End what was added."""
        while self._added:
            await self.remove_worker()


@asynccontextmanager
async def running(say: Say, *, own_disks: bool, own_clock: bool) -> AsyncIterator[Machine]:
    """Start a system for a run and end it.

    Args:
        say: told of every step.
        own_disks: its broker and its gateway each write to a disk of their own.
        own_clock: its gateway, workers and sink go by a clock that can be set.

    Raises:
        CallscopeError: something cannot start.
    """
    async with AsyncExitStack() as stack:
        disk = stack.enter_context(Disk(DISK_MB)) if own_disks else None
        spool_disk = stack.enter_context(Disk(SPOOL_DISK_MB)) if own_disks else None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="callscope-chaos-")))
        data = (disk.root if disk else folder) / "kafka"
        spool = (spool_disk.root if spool_disk else folder) / "spool"
        clock = WallClock(folder / "clock") if own_clock else None
        stack.enter_context(_environment({**_ENVIRONMENT, "CALLSCOPE_INGEST__SPOOL__DATA_DIR": str(spool)}))
        settings = load()
        broker = EmbeddedBroker(settings.broker.model_copy(update={"data_dir": data, "port": free_ports(1)[0]}))
        stack.callback(broker.stop)
        await asyncio.to_thread(broker.start)
        settings = settings.model_copy(update={"kafka": broker.bootstrap})
        with _environment(clock.environment() if clock else {}):
            system = stack.enter_context(
                supervisor.running(settings, chained=False, ephemeral=False, free_ports=True, say=say, workers=WORKERS)
            )
        machine = Machine(settings, system, broker, disk, spool_disk, clock)
        stack.push_async_callback(machine.clean_up)
        yield machine


@contextmanager
def _environment(added: Mapping[str, str]) -> Iterator[None]:
    """Add to the environment that children inherit, for a while."""
    before = dict(os.environ)
    os.environ.update(added)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
