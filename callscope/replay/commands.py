"""`callscope replay` and `callscope digest`."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

from callscope import clock
from callscope.config import cores
from callscope.exchange.commands import Moment, cluster, progress_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from callscope.config import Settings
    from callscope.replay import run as running
    from callscope.replay.plan import Leg, Plan, RunFolder

console = Console(highlight=False, soft_wrap=True)


@contextmanager
def _bar() -> Iterator[Callable[[running.Progress], None]]:
    """A bar in records, with the rate in leg-seconds a second and the time left, on a terminal."""
    columns: Sequence[ProgressColumn] = (
        TextColumn("replaying"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    shown = Console(stderr=True)
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as bar:
        task = bar.add_task("", total=None, rate="")

        def tell(now: running.Progress) -> None:
            bar.update(task, completed=now.records, total=now.of, rate=f"{now.rate:.0f} leg-seconds/s")

        yield tell


_state = click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="Where runs are kept.")
_calls = click.option(
    "--call", "calls", multiple=True, metavar="ID", help="Only this call; may be given several times."
)
_tenant = click.option("--tenant", help="Only this tenant's calls.")


@click.command("replay")
@_calls
@_tenant
@click.option("--since", type=Moment(), help="Calls of which audio came at this time (ISO 8601, UTC) or later.")
@click.option("--until", type=Moment(), help="Calls of which audio came before this time.")
@click.option("--speed", type=click.FloatRange(0, 1000), default=0.0,
              help="1: as it was; N: N times as fast. Default: as fast as it goes.")  # fmt: skip
@click.option("--to", type=click.Choice(["topics", "folder", "none"]), default="topics", show_default=True,
              help="Results into topics replay.<run>.…, into --folder, or nowhere.")  # fmt: skip
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), help="A new folder, for --to folder.")
@click.option("--workers", type=click.IntRange(1, 256), help="Processes. Default: one a core.")
@click.option("--run", "run_id", help="The run's id. Default: the time.")
@click.option("--keep-hours", type=click.IntRange(1, 8_760), default=24, show_default=True,
              help="How long the run's topics keep results.")  # fmt: skip
@click.option("--legs", default="customer,agent", show_default=True, help="Of audio files: names of the channels.")
@click.option("--resume", metavar="RUN", help="Go on with a run that was cut off; only --workers goes with it.")
@click.option("--forget", metavar="RUN", help="Delete a run's topics and what is known of it, and do nothing else.")
@_state
@click.argument("sources", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.pass_context
def replay_command(
    context: click.Context,
    calls: tuple[str, ...],
    tenant: str | None,
    since: int | None,
    until: int | None,
    speed: float,
    to: str,
    folder: Path | None,
    workers: int | None,
    run_id: str | None,
    keep_hours: int,
    legs: str,
    resume: str | None,
    forget: str | None,
    state: Path | None,
    sources: tuple[Path, ...],
) -> None:
    """Analyse calls once more, with the stages that run live.

    SOURCES are the folder of an export, or audio files and folders of them; without any, what the topic audio.frames
    still holds. Calls are replayed whole, as far as they are kept. Nothing that runs live is disturbed.
    """
    from callscope.replay import run as running
    from callscope.replay.plan import Plan, RunFolder, usual_root
    from callscope.replay.sources import is_export
    from callscope.streams import topic_call_id

    settings = cluster()
    root = state or usual_root()
    if forget:
        _refuse_others(context, "forget", ("forget", "state"), "Of a run that is to be forgotten only its id is wanted")
        _forget(settings, RunFolder(root, forget))
        return
    if resume:
        _refuse_others(context, "resume", ("resume", "state", "workers"), "A run goes on as it began")
        place = RunFolder(root, resume)
        plan = place.plan()
    else:
        if (to == "folder") != (folder is not None):
            raise click.UsageError("--to folder and --folder go together.")
        kind: Literal["kafka", "export", "files"] = "kafka"
        if sources:
            kind = "export" if is_export(sources) else "files"
        if kind == "files" and (calls or tenant or since is not None or until is not None):
            raise click.UsageError(
                "Of audio files name those that you want: --call, --tenant, --since, --until are not for them."
            )
        name = run_id or f"{_now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"
        place = RunFolder(root, name)
        wanted = Plan(
            run=name,
            source=kind,
            to=cast(Literal["topics", "folder", "none"], to),
            paths=[str(path.resolve()) for path in sources],
            legs=[leg.strip() for leg in legs.split(",")],
            folder=str(folder.resolve()) if folder else "",
            calls=sorted({topic_call_id(tenant or "", call) for call in calls}) if calls else None,
            tenant=tenant,
            speed=speed,
            keep_hours=keep_hours,
        )
        plan = running.draw_up(settings, wanted, place, since, until)
    try:
        with _bar() as progress:
            outcome = running.carry_out(settings, place, workers or cores(), progress)
    except KeyboardInterrupt:
        console.print(f"stopped; what is done is kept: {place.resume} goes on")
        context.exit(130)
    _tell(plan, outcome)


def _forget(settings: Settings, place: RunFolder) -> None:
    from callscope.replay.destinations import drop_topics

    kept = place.exists()
    has_topics = not kept or place.plan().to == "topics"  # nobody knows of it any more, but they may still be there
    dropped = drop_topics(settings, place.run) if has_topics else []
    if not kept and not dropped:
        place.plan()  # says which there are
    if kept:
        place.remove()
    console.print(f"run {place.run} is forgotten; topics deleted: {', '.join(dropped) or 'none'}")


def _refuse_others(context: click.Context, option: str, allowed: Collection[str], says: str) -> None:
    source = click.core.ParameterSource.DEFAULT
    given = [
        parameter.opts[-1]
        for parameter in context.command.params
        if parameter.name not in allowed and context.get_parameter_source(str(parameter.name)) is not source
    ]
    if given:
        raise click.UsageError(f"{says}: {', '.join(given)} cannot go with --{option}.")


def _now() -> datetime:
    return datetime.fromtimestamp(clock.wall_ns() / 1e9, UTC)


def _tell(plan: Plan, outcome: running.Outcome) -> None:
    legs, now = outcome.legs, outcome.progress
    calls = {name.rpartition("/")[0] for name in legs}
    console.print(
        f"run {plan.run}: {len(calls)} calls, {len(legs)} legs, {outcome.seconds:.0f} s of audio; "
        f"{now.seconds:.0f} leg-seconds in {now.for_s:.1f} s, {now.rate:.0f} a second"
    )
    if plan.to == "topics":
        console.print(f"results: topics replay.{plan.run}.…, kept {plan.keep_hours} hours")
    elif plan.to == "folder":
        console.print(f"results: {plan.folder}")
    _remark(legs, lambda leg: not leg.ended, "were still running, as far as their audio says")
    _remark(legs, lambda leg: not leg.whole, "have lost their beginning; live results of them differ")
    _remark(legs, lambda leg: leg.again, "came twice under the same name; their digests cannot be compared")
    if outcome.unreadable:
        console.print(f"{outcome.unreadable} records of audio could not be read")
    console.print(f"digest {outcome.digest}")
    if outcome.missing:
        named = ", ".join(outcome.missing[:5]) + (", …" if outcome.missing[5:] else "")
        console.print(f"there is no audio (any more) of {named}")
        raise SystemExit(1)


def _remark(legs: dict[str, Leg], applies: Callable[[Leg], bool], says: str) -> None:
    if count := sum(map(applies, legs.values())):
        console.print(f"{count} legs {says}")


@click.command("digest")
@_calls
@_tenant
@click.option("--run", "run_id", metavar="RUN", help="Of the results that a replay wrote to its topics.")
@click.option("--as", "like", metavar="RUN", help="Of the streams that a replay had; ends with 1 if they differ.")
@click.option("--streams", is_flag=True, help="The digest of each stream too.")
@_state
@click.argument("folder", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
def digest_command(
    calls: tuple[str, ...],
    tenant: str | None,
    run_id: str | None,
    like: str | None,
    streams: bool,
    state: Path | None,
    folder: Path | None,
) -> None:
    """Print a hash over results: of the live topics, of a run's, or of a FOLDER that export or replay wrote.

    Results of the same audio have the same digest, live and replayed. What is not a function of the audio, the
    ledgers, does not count; nor how often a result came.
    """
    from callscope.replay import digest, live
    from callscope.replay.plan import RunFolder, usual_root
    from callscope.streams import tenant_and_call_id, topic_call_id

    if run_id and folder:
        raise click.UsageError("Name --run or FOLDER, not both.")
    chosen = {topic_call_id(tenant or "", call) for call in calls}
    of_run: dict[str, str] = {}
    if like:
        of_run = _of_run(RunFolder(state or usual_root(), like))
        of_run_calls = {name.rpartition("/")[0] for name in of_run}
        chosen = chosen & of_run_calls if chosen else of_run_calls

    def wanted(call: str) -> bool:
        return (not chosen or call in chosen) and (tenant is None or tenant_and_call_id(call)[0] == tenant)

    if folder:
        found = live.of_folder(folder, wanted)
    else:
        with progress_of("reading") as progress:
            found = live.of_topics(cluster(), wanted, progress, run_id, chosen or None)
    if like:
        of_run = {name: value for name, value in of_run.items() if wanted(name.rpartition("/")[0])}
        found = {name: value for name, value in found.items() if name in of_run}
    if streams:
        for name, value in sorted(found.items()):
            console.print(f"{value}  {name}")
    console.print(f"digest {digest.combined(found)}  {len(found)} streams")
    if like:
        _compare(found, of_run, like)


def _of_run(place: RunFolder) -> dict[str, str]:
    from callscope.replay.run import digests_of

    legs: dict[str, Leg] = {}
    for part in place.plan().parts:
        legs |= place.state(part).legs
    return digests_of(legs)


def _compare(found: dict[str, str], of_run: dict[str, str], run: str) -> None:
    from callscope.replay.digest import different

    if differing := different(found, of_run):
        console.print(f"{len(differing)} of {len(of_run)} streams differ from run {run}: {', '.join(differing[:10])}")
        raise SystemExit(1)
    console.print(f"the same as run {run}")
