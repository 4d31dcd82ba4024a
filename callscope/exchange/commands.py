"""`callscope export` and `callscope import`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from callscope import logs
from callscope.config import Settings, load

if TYPE_CHECKING:
    from callscope.exchange import exporting

console = Console(highlight=False, soft_wrap=True)
_RESULTS = ("parquet", "jsonl", "records")


class Moment(click.ParamType):
    """A time by ISO 8601; UTC where it names no zone. Becomes milliseconds since the epoch."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See click."""
        if isinstance(value, int):
            return value
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a time such as 2026-11-24T09:30 or 2026-11-24T09:30+01:00.", param, ctx)
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000)


class _Results(click.ParamType):
    """Forms of results, with commas between them; or "none"."""

    name = "forms"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        forms = tuple(part.strip() for part in str(value).split(",") if part.strip() not in ("", "none"))
        unknown = [form for form in forms if form not in _RESULTS]
        if unknown:
            self.fail(f"{unknown[0]!r} is none of {', '.join(_RESULTS)}, none.", param, ctx)
        return forms


@contextmanager
def progress_of(what: str) -> Iterator[exporting.Progress]:
    """A bar in records, on a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    shown = Console(stderr=True)
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def cluster() -> Settings:
    """The settings, with the broker that `callscope up` starts where they name no other."""
    from callscope.broker.ports import USUAL_PORT

    settings = load(log_level="warning")
    logs.configure_logging(settings.log_level)
    if settings.kafka is None:
        settings = settings.model_copy(update={"kafka": f"127.0.0.1:{settings.broker.port or USUAL_PORT}"})
    return settings


@click.command("export")
@click.option("--call", "calls", multiple=True, metavar="ID", help="Only this call; may be given several times.")
@click.option("--since", type=Moment(), help="Calls of which anything came at this time (ISO 8601, UTC) or later.")
@click.option("--until", type=Moment(), help="Calls of which anything came before this time.")
@click.option("--audio", type=click.Choice(["leg", "stereo", "none"]), default="leg", show_default=True,
              help="A WAV file a leg, one of two channels a call, or none.")  # fmt: skip
@click.option("--results", type=_Results(), default="parquet,jsonl", show_default=True,
              help="Of parquet, jsonl, and records (byte for byte, to be imported); or none.")  # fmt: skip
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def export_command(
    calls: tuple[str, ...], since: int | None, until: int | None, audio: str, results: tuple[str, ...], folder: Path
) -> None:
    """Write calls from Kafka's topics into FOLDER.

    Audio comes as WAV files and, byte for byte, as Parquet that `callscope import` and `callscope eval` take.
    A call that is chosen comes whole, as far as the topics still keep it.
    """
    from callscope.exchange import exporting

    form = cast(Literal["leg", "stereo", "none"], audio)
    choice = exporting.Choice(calls, since, until, form, results)
    with progress_of("exporting") as progress:
        contents = exporting.export(cluster(), choice, folder, progress)
    legs = [leg for of_call in contents.calls.values() for leg in of_call.values()]
    console.print(
        f"{folder}: {len(contents.calls)} calls, {len(legs)} legs, {sum(leg.seconds for leg in legs):.0f} s of audio, "
        f"{sum(contents.records.values())} records"
    )
    if gaps := sum(leg.gaps for leg in legs):
        seconds = sum(leg.gap_seconds for leg in legs)
        console.print(f"{gaps} holes of together {seconds:.1f} s; audio/gaps.csv lists what is silence for them")
    if running := sum(any(not leg.ended for leg in of_call.values()) for of_call in contents.calls.values()):
        console.print(f"{running} calls had not ended")
    if contents.unreadable:
        console.print(f"{contents.unreadable} records could not be read; they are in no table")


@click.command("import")
@click.option("--as", "prefix", default="", metavar="PREFIX", help="Put this before every call id.")
@click.option("--results", is_flag=True, help="Results too; without them the workers make them anew from the audio.")
@click.option("--keep-timestamps", is_flag=True,
              help="Audio and events keep their timestamps. What is past its retention goes at once.")  # fmt: skip
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def import_command(prefix: str, results: bool, keep_timestamps: bool, folder: Path) -> None:
    """Publish the calls of an exported FOLDER to Kafka again.

    The same records with the same keys, each in its call's partition. If any of the calls exists, nothing is done.
    """
    from callscope.exchange import importing

    with progress_of("importing") as progress:
        contents = importing.bring_in(
            cluster(), folder, progress, prefix=prefix, results=results, keep_timestamps=keep_timestamps
        )
    console.print(f"{len(contents.calls)} calls imported" + (f" as {prefix}…" if prefix else ""))
