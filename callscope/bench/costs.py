"""CPU and memory of the system's processes over a span of time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from callscope.clock import monotonic

MB = 1e6


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process, or a group of them, used.

    Attributes:
        cpu_ms_per_s: CPU time, milliseconds a second.
        memory_mb: resident at the end, megabytes.
        grown_mb: of that, since the beginning.
    """

    cpu_ms_per_s: float
    memory_mb: float
    grown_mb: float


class Meter:
    """Measures from its making on.

    Args:
        processes: name → pid.
    """

    def __init__(self, processes: Mapping[str, int]) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in processes.items()}
        self._began = monotonic()
        self._cpu_s = {name: _cpu_s(process) for name, process in self._processes.items()}
        self._memory_mb = {name: _memory_mb(process) for name, process in self._processes.items()}

    def read(self) -> dict[str, Cost]:
        """The cost of each process so far."""
        seconds = monotonic() - self._began
        costs = {}
        for name, process in self._processes.items():
            memory_mb = _memory_mb(process)
            costs[name] = Cost(
                round((_cpu_s(process) - self._cpu_s[name]) * 1_000 / seconds, 1),
                round(memory_mb, 1),
                round(memory_mb - self._memory_mb[name], 1),
            )
        return costs


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _memory_mb(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / MB
