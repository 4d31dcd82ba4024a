"""`callscope bench` as a whole: start the system, climb step by step, report."""

from __future__ import annotations

import json
from contextlib import ExitStack
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from callscope import supervisor
from callscope.bench import report
from callscope.bench.run import run_step
from callscope.bench.step import Step, next_legs
from callscope.client.showing import progress_bar
from callscope.config import Settings
from callscope.errors import CallscopeError

AUDIO_FILES = ("*.wav", "*.flac", "*.ogg", "*.mp3")


def measure(
    settings: Settings,
    *,
    console: Console,
    legs: int | None,
    seconds: float,
    warm_up: float,
    recordings: Path | None,
    subscribers: int,
    workers: int | None,
    chained: bool,
    as_json: bool,
    markdown: Path | None,
    plot: Path | None,
) -> list[Step]:
    """Measure one step, or climb to the limit.

    Args:
        settings: the settings in force.
        console: where to write.
        legs: one step of so many; None climbs.
        seconds: how long a step.
        warm_up: seconds of the first step's load before it, which nobody measures: until Java has compiled what runs.
        recordings: a file or folder; None: the shipped call.
        subscribers: how many follow all calls.
        workers: worker processes; None: one a core.
        chained: workers of their own for each stage.
        as_json: JSON on standard output instead of a table.
        markdown: where to write the table, if anywhere.
        plot: where to draw, if anywhere.

    Raises:
        CallscopeError: the system cannot start, a recording cannot be used, or the load could not be kept up.
    """
    steps: list[Step] = []
    notes = Console(stderr=True, highlight=False, soft_wrap=True) if as_json else console
    with ExitStack() as stack:
        shipped = stack.enter_context(as_file(files("callscope.demo") / "call.ogg"))
        heard = _recordings(recordings) if recordings is not None else [shipped]
        notes.print("Callscope bench: starting Kafka, the gateway, the workers and the sink …")
        broker = settings.broker
        if broker.optimize is None:  # it is measured as it is where it runs for days
            settings = settings.model_copy(update={"broker": broker.model_copy(update={"optimize": True})})
        system = stack.enter_context(
            supervisor.running(
                settings, chained=chained, ephemeral=True, free_ports=True, say=notes.print, workers=workers
            )
        )
        bar = stack.enter_context(progress_bar(notes))
        group = f"{settings.processors.group}-{'detect' if chained else 'fused'}"
        wanted = legs if legs is not None else next_legs(steps)

        def run(what: str, count: int, length: float) -> Step:
            task = bar.add_task(what, total=length)
            told = partial(_advance, bar, task)
            step = run_step(settings, system, count, length, heard, subscribers, [group], told)
            bar.remove_task(task)
            return step

        if wanted is not None and warm_up:
            run("warming up", wanted, warm_up)
        while wanted is not None:
            step = run(f"{wanted} legs", wanted, seconds)
            steps.append(step)
            notes.print(f"{wanted} legs: p50 {step.seen.latency.p50_ms:.0f} ms, p99 {step.seen.latency.p99_ms:.0f} ms")
            for problem in step.seen.lost_because:
                notes.print(f"  lost: {problem}")
            wanted = None if legs is not None else next_legs(steps)
    if as_json:
        click.echo(json.dumps(report.as_json(steps), indent=2))
    else:
        _show(steps, console)
    if markdown is not None:
        markdown.write_text(report.markdown(steps), encoding="utf-8")
    if plot is not None:
        report.plot(steps, plot)
    return steps


def _recordings(path: Path) -> list[Path]:
    found = sorted(file for ending in AUDIO_FILES for file in path.glob(ending)) if path.is_dir() else [path]
    if not found:
        raise CallscopeError(f"{path} holds no recordings ({', '.join(AUDIO_FILES)}).")
    return found


def _advance(bar: Progress, task: TaskID, seconds: float) -> None:
    bar.update(task, completed=seconds)


def _show(steps: list[Step], console: Console) -> None:
    table = Table(*report.COLUMNS, box=SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        column.justify, column.no_wrap = "right", True
    for step in steps:
        table.add_row(*report.row(step))
    console.print(table, width=max(console.width, 150))
    console.print("CPU columns: milliseconds of CPU time per second and leg. The generator is not part of the sum.")
    for step in steps:
        console.print(report.stage_line(step))
    console.print(report.verdict(steps))
