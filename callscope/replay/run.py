"""A run from outside: its plan, its workers, how far they are together, and what came of it."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from callscope import clock, lifetime
from callscope.config import Settings, child_environment
from callscope.errors import BadReplay
from callscope.replay import destinations, digest
from callscope.replay.partition import is_wanted
from callscope.replay.plan import Leg, Part, Plan, RunFolder, configuration_of
from callscope.replay.sources import source_of
from callscope.topics import partition_of
from processors.records import RATE_HZ

GRACE_S: Final = 75.0
"""How long a worker may take to make safe what it has."""


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        records: of audio that were looked at in this attempt.
        of: how many there are to look at.
        seconds: of audio, over all legs, that were analysed.
        for_s: since the first worker began.
    """

    records: int
    of: int
    seconds: float
    for_s: float

    @property
    def rate(self) -> float:
        """Leg-seconds a second."""
        return self.seconds / self.for_s if self.for_s > 0 else 0.0


@dataclass(frozen=True)
class Outcome:
    """What came of a run that is finished.

    Attributes:
        legs: name of each stream → what it was.
        missing: calls that were asked for and have no audio.
        unreadable: records of audio that could not be read.
        progress: of this attempt.
        digest: of the results.
    """

    legs: dict[str, Leg]
    missing: list[str]
    unreadable: int
    progress: Progress
    digest: str

    @property
    def seconds(self) -> float:
        """Of audio over all legs."""
        return sum(leg.samples for leg in self.legs.values()) / RATE_HZ


def draw_up(
    settings: Settings, plan: Plan, folder: RunFolder, since_ms: int | None = None, until_ms: int | None = None
) -> Plan:
    """Complete a new run's plan with what there is to replay at this moment, write it, and make its topics.

    Args:
        settings: the settings in force.
        plan: what is wanted.
        folder: of the run.
        since_ms: only calls of which anything came at that time or later, milliseconds since the epoch.
        until_ms: and anything before it.

    Raises:
        CallscopeError: there is no such audio, or the run cannot be begun.
    """
    if folder.exists():
        raise BadReplay(f"There is a run {plan.run} already. {folder.resume} goes on with it; or name another.")
    if plan.to == "folder":
        _refuse_full(Path(plan.folder))
    plan = replace(plan, partitions=settings.topics.partitions, configuration=configuration_of(settings))
    source = source_of(plan, settings)
    if since_ms is not None or until_ms is not None:
        wanted = None if plan.calls is None else frozenset(plan.calls)
        calls = source.calls_between(since_ms, until_ms)
        plan = replace(plan, calls=sorted(call for call in calls if is_wanted(plan, wanted, call)))
    parts = source.parts()
    if plan.source == "kafka" and parts:
        plan = replace(plan, partitions=len(parts))
    if plan.calls is not None and plan.source == "kafka":
        theirs = {partition_of(call, plan.partitions) for call in plan.calls}
        parts = [part for part in parts if part.number in theirs]
    plan = replace(plan, parts=[part for part in parts if part.records], newest_ns=source.newest_ns())
    if not plan.parts or plan.calls == []:
        raise BadReplay("There is no audio to replay" + (" of that time." if plan.calls == [] else "."))
    if plan.to == "topics":
        destinations.make_topics(settings, plan)
    folder.write_plan(plan)
    return plan


def _refuse_full(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise BadReplay(f"{folder} is not empty. Name a new folder.")
    except OSError as error:
        raise BadReplay(f"{folder} cannot be written: {error}.") from error


def carry_out(
    settings: Settings, folder: RunFolder, workers: int, progress: Callable[[Progress], None] = lambda _: None
) -> Outcome:
    """Replay what a run has not replayed yet. Interrupted, it can be carried out again.

    Args:
        settings: the settings in force.
        folder: of the run.
        workers: processes at most; each has partitions of its own.
        progress: told how far it is, a few times a second.

    Raises:
        CallscopeError: the run cannot go on; what was safe stays so.
    """
    plan = folder.plan()
    if plan.configuration != configuration_of(settings):
        raise BadReplay(
            f"The settings under [processors] are not those that run {plan.run} began with; half of its results would "
            "be other ones. Set them as they were, or begin a new run."
        )
    left = {part.number: _left(part, folder) for part in plan.parts}
    shares = shared_out(left, workers)
    done = _attend(settings, folder, shares, sum(left.values()), progress)
    legs: dict[str, Leg] = {}
    unreadable = 0
    for part in plan.parts:
        state = folder.state(part)
        if not state.finished:
            raise BadReplay(f"Partition {part.number} was not finished. {folder.resume} goes on there.")
        legs |= state.legs
        unreadable += state.unreadable
    if not legs:
        raise BadReplay("There is no audio of such calls (any more). `callscope topics` says how long audio is kept.")
    missing = sorted(set(plan.calls or ()) - {name.rpartition("/")[0] for name in legs})
    if plan.to == "folder":
        destinations.finish(Path(plan.folder), plan, legs)
    return Outcome(legs, missing, unreadable, done, digest.combined(digests_of(legs)))


def digests_of(legs: dict[str, Leg]) -> dict[str, str]:
    """Of each stream that has results."""
    return {name: leg.digest for name, leg in legs.items() if leg.digest}


def _left(part: Part, folder: RunFolder) -> int:
    """About how many records are left; 0 of a partition that is finished."""
    state = folder.state(part)
    if state.finished:
        return 0
    if part.end <= part.first:
        return part.records
    return max(1, round(part.records * (part.end - state.next) / (part.end - part.first)))


def shared_out(left: dict[int, int], workers: int) -> list[list[int]]:
    """Partitions for each worker: the fullest first, each to whoever has least. Nobody is without one.

    Args:
        left: number of each partition → its records.
        workers: how many at most.
    """
    shares: list[list[int]] = [[] for _ in range(workers)]
    loads = [0] * workers
    for number in sorted((n for n in left if left[n]), key=lambda n: (-left[n], n)):
        least = loads.index(min(loads))
        shares[least].append(number)
        loads[least] += left[number]
    return [share for share in shares if share]


@dataclass
class _Known:
    """What is known of one worker."""

    news: dict[str, Any] = field(default_factory=dict)
    failed: str = ""


def _attend(
    settings: Settings,
    folder: RunFolder,
    shares: Sequence[Sequence[int]],
    total: int,
    progress: Callable[[Progress], None],
) -> Progress:
    """Start the workers, and wait until all have ended."""
    environment = child_environment(
        **({"kafka": settings.kafka} if settings.kafka else {}), topics__partitions=str(settings.topics.partitions)
    )
    news: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
    children: list[subprocess.Popen[bytes]] = []
    ears: list[threading.Thread] = []
    known = [_Known() for _ in shares]
    began: float | None = None
    now = Progress(0, total, 0.0, 0.0)
    try:
        for number, share in enumerate(shares):
            child = lifetime.spawn(
                [sys.executable, "-m", "callscope.replay.worker"], env=environment, stdout=subprocess.PIPE
            )
            children.append(child)
            orders = {"state": str(folder.path.parent), "run": folder.run, "partitions": list(share)}
            assert child.stdin is not None
            child.stdin.write(json.dumps(orders).encode() + b"\n")
            ear = threading.Thread(target=_hear, args=(number, child, news), daemon=True)
            ear.start()
            ears.append(ear)
        running = len(children)
        while running:
            number, told = news.get()
            if told is None:
                running -= 1
                code = children[number].wait()
                if code and not known[number].failed:
                    known[number].failed = f"A worker ended with {code}."
                if known[number].failed:
                    break
                continue
            if told.get("ready"):
                began = began or clock.monotonic()
            if "failed" in told:
                known[number].failed = told["failed"]
            known[number].news |= told
            records = sum(worker.news.get("records", 0) for worker in known)
            seconds = sum(worker.news.get("seconds", 0.0) for worker in known)
            now = Progress(records, total, seconds, clock.monotonic() - began if began else 0.0)
            progress(now)
    finally:
        for child in children:
            child.terminate()
        for child in children:
            lifetime.stop(child, GRACE_S)
        for ear in ears:
            ear.join()
    if trouble := next((worker.failed for worker in known if worker.failed), ""):
        raise BadReplay(f"{trouble} What is done is kept: {folder.resume} goes on.")
    return now


def _hear(number: int, child: subprocess.Popen[bytes], news: queue.Queue[tuple[int, dict[str, Any] | None]]) -> None:
    assert child.stdout is not None
    with child.stdout:
        for line in child.stdout:
            news.put((number, json.loads(line)))
    news.put((number, None))
