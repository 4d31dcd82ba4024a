"""The figures as a table for a terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import psutil
from rich.table import Table

from bench.transports.contenders import CONTENDERS
from bench.transports.measure import Figures

_TITLES = {contender.name: contender.title for contender in CONTENDERS}


def machine() -> str:
    """What was measured on, in a line."""
    info = Path("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    memory_gb = psutil.virtual_memory().total / 2**30
    return (
        f"{psutil.cpu_count()} cores ({models[0] if models else platform.machine()}), {memory_gb:.0f} GiB, "
        f"{platform.system()} {platform.release().partition('-')[0]}, Python {platform.python_version()}"
    )


def table(figures: Sequence[Figures]) -> Table:
    """For a terminal."""
    shown = Table(title="Two forwarding stages, side by side")
    for name in ("contender", "processes", "records/s", "fetching"):
        shown.add_column(name)
    for name in ("kept up", "p50 ms", "p99 ms", "worker CPU s", "broker CPU s"):
        shown.add_column(name, justify="right")
    for run in figures:
        shown.add_row(
            _TITLES[run.contender],
            str(run.processes),
            f"{run.rate:,}",
            run.fetching,
            _kept_up(run),
            milliseconds(run.p50_ms),
            milliseconds(run.p99_ms),
            f"{run.worker_cpu_s:.1f}",
            f"{run.broker_cpu_s:.1f}",
        )
    return shown


def markdown(figures: Sequence[Figures], absent: Mapping[str, str]) -> str:
    """For the documentation: a row a contender and way of fetching, a column a rate."""
    rates = sorted({run.rate for run in figures})
    lines = [
        "| | processes | fetching | " + " | ".join(f"{rate:,} records/s" for rate in rates) + " |",
        "| --- | --- | --- |" + " --- |" * len(rates),
    ]
    for contender in CONTENDERS:
        for fetching in contender.fetching:
            runs = {run.rate: run for run in figures if (run.contender, run.fetching) == (contender.name, fetching)}
            if runs:
                cells = " | ".join(_cell(runs[rate]) if rate in runs else "not run" for rate in rates)
                lines.append(f"| {contender.title} | {contender.processes} | {fetching} | {cells} |")
    lines += [f"\nLeft out: {_TITLES[name]}, since {reason}." for name, reason in absent.items()]
    return "\n".join(lines)


def _cell(run: Figures) -> str:
    kept = "" if run.kept_up else f"; {_kept_up(run)}"
    return (
        f"{milliseconds(run.p50_ms)}/{milliseconds(run.p99_ms)} ({run.worker_cpu_s:.1f} + {run.broker_cpu_s:.1f}){kept}"
    )


def milliseconds(latency_ms: float | None) -> str:
    """A latency in whole milliseconds; a dash where nothing came out."""
    return "–" if latency_ms is None else f"{latency_ms:.0f}"


def _kept_up(run: Figures) -> str:
    return "yes" if run.kept_up else f"{run.received:.0%} came out"


def as_json(figures: Sequence[Figures], absent: Mapping[str, str]) -> str:
    """Everything, for other programs."""
    runs = [{**asdict(run), "kept_up": run.kept_up} for run in figures]
    return json.dumps({"machine": machine(), "runs": runs, "left_out": dict(absent)}, indent=2)
