"""A load test's steps as JSON, as Markdown, and as a plot."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from callscope.bench.step import GENERATOR, LIMIT_MS, Step

COLUMNS = (
    "legs",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "max ms",
    "lost",
    "twice",
    "shed",
    "CPU/leg ms/s",
    "gateway",
    "broker",
    "workers",
    "sink",
    "(generator)",
    "MB/leg",
    "busy cores",
    "lag",
)
"""Of the table; CPU columns are milliseconds of CPU time per second and leg."""


def most_legs(steps: Sequence[Step]) -> int:
    """The largest number of legs that stayed within the limit; 0 for none."""
    return max((step.legs for step in steps if step.within), default=0)


def verdict(steps: Sequence[Step]) -> str:
    """The result in a sentence."""
    most = most_legs(steps)
    if not most:
        return f"No step stayed within the limit: 99 % of results under {LIMIT_MS:.0f} ms, none lost, none twice."
    return f"{most} legs at once are the most that stayed within the limit: 99 % of results under {LIMIT_MS:.0f} ms."


def as_json(steps: Sequence[Step]) -> dict[str, Any]:
    """All of it: the machine, the steps, the verdict."""
    return {
        "machine": machine(),
        "limit_ms": LIMIT_MS,
        "most_legs": most_legs(steps),
        "steps": [step.as_json() for step in steps],
    }


def machine() -> dict[str, Any]:
    """What it ran on."""
    return {
        "cores": psutil.cpu_count(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "cpu": _cpu_name(),
    }


def row(step: Step) -> list[str]:
    """A step's cells, as `COLUMNS` names them."""
    latency = step.seen.latency
    by_part: dict[str, float] = {}
    for name, cost in step.costs.items():
        part = name if name in ("gateway", "broker", "sink", GENERATOR) else "workers"
        by_part[part] = by_part.get(part, 0.0) + cost.cpu_ms_per_s / step.legs
    return [
        str(step.legs),
        *(f"{value:.0f}" for value in (latency.p50_ms, latency.p95_ms, latency.p99_ms, latency.max_ms)),
        str(step.seen.lost),
        str(step.seen.duplicated),
        str(step.seen.shed),
        f"{step.cpu_ms_per_leg:.1f}",
        *(f"{by_part.get(part, 0.0):.1f}" for part in ("gateway", "broker", "workers", "sink", GENERATOR)),
        f"{step.memory_mb_per_leg:.1f}",
        f"{step.busy_cores:.1f} of {step.cores}",
        str(step.lag_records),
    ]


def stage_line(step: Step) -> str:
    """The ledger: how long results took from station to station."""
    parts = [f"{name} {of.p50_ms:.0f}/{of.p99_ms:.0f}" for name, of in step.seen.stages.items() if of.count]
    line = f"{step.legs} legs, from station to station, p50/p99 ms: {', '.join(parts)}"
    if step.seen.onset.count:
        line += f"; start of speech known {step.seen.onset.p50_ms:.0f}/{step.seen.onset.p99_ms:.0f} ms after the onset"
    return line


def markdown(steps: Sequence[Step]) -> str:
    """A table for a document."""
    lines = [
        "| " + " | ".join(COLUMNS) + " |",
        "|" + " ---: |" * len(COLUMNS),
        *("| " + " | ".join(row(step)) + " |" for step in steps),
        "",
        *(stage_line(step) + "." for step in steps),
        "",
        verdict(steps),
    ]
    return "\n".join(lines) + "\n"


def plot(steps: Sequence[Step], path: Path) -> None:
    """Latency and CPU over the number of legs, as PNG or SVG by the name's ending."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    ordered = sorted(steps, key=lambda step: step.legs)
    legs = [step.legs for step in ordered]
    figure, (latency, cpu) = plt.subplots(2, 1, sharex=True, figsize=(7, 7), layout="constrained")
    for name in ("p50_ms", "p95_ms", "p99_ms"):
        latency.plot(legs, [getattr(step.seen.latency, name) for step in ordered], marker="o", label=name[:3])
    latency.axhline(LIMIT_MS, color="gray", linestyle="--", label="limit")
    latency.set_ylabel("latency, ms")
    latency.set_yscale("log")
    latency.legend()
    latency.grid(alpha=0.3)
    names = sorted({name for step in ordered for name in step.costs})
    shares = [
        [step.costs[name].cpu_ms_per_s / 1_000 if name in step.costs else 0.0 for step in ordered] for name in names
    ]
    cpu.stackplot(legs, shares, labels=names)
    cpu.axhline(ordered[0].cores, color="gray", linestyle="--")
    cpu.set_ylabel("CPU, cores")
    cpu.set_xlabel("legs at once")
    cpu.legend(loc="upper left", fontsize="small")
    cpu.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _cpu_name() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as info:
            return next(line.partition(":")[2].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
