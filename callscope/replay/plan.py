"""A run on disk: what it replays and where to, written once; how far each partition got, written as it goes."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import platformdirs

from callscope.config import Settings
from callscope.errors import BadReplay

RUN: Final = r"[A-Za-z0-9_-]{1,64}"
"""Pattern of a run's id; it becomes a part of its topics' names."""
VERSION: Final = 1
_PLAN: Final = "run.json"


@dataclass(frozen=True)
class Part:
    """What of a partition is replayed.

    Attributes:
        number: of the partition.
        first: offset of its first record.
        end: offset behind its last one.
        records: how many there are.
    """

    number: int
    first: int
    end: int
    records: int


@dataclass(frozen=True)
class Plan:
    """A run.

    Attributes:
        run: its id.
        source: "kafka", "export" (then `paths` is its folder) or "files" (then `paths` are those).
        to: where results go.
        paths: absolute.
        legs: of files: names of their channels.
        folder: where results go if that is a folder; absolute.
        calls: only these, as the topics name them; None: all.
        tenant: only its calls; None: everybody's.
        speed: 1: as it was; 0: as fast as it goes.
        keep_hours: how long the topics of results keep them.
        partitions: that the topics of results have.
        parts: what is replayed.
        configuration: hash of the settings that results depend on.
    """

    run: str
    source: Literal["kafka", "export", "files"]
    to: Literal["topics", "folder", "none"]
    paths: list[str] = field(default_factory=list)
    legs: list[str] = field(default_factory=list)
    folder: str = ""
    calls: list[str] | None = None
    tenant: str | None = None
    speed: float = 0.0
    keep_hours: int = 24
    partitions: int = 0
    parts: list[Part] = field(default_factory=list)
    configuration: str = ""

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Plan:
        """What `to_json` gave.

        Raises:
            ValueError: it is of another version.
            TypeError: it is no plan.
        """
        rest = dict(said)
        version = rest.pop("version", None)
        if version != VERSION:
            raise ValueError(f"it is of format {version}, this Callscope knows {VERSION}")
        return cls(**{**rest, "parts": [Part(**part) for part in rest["parts"]]})


@dataclass
class Leg:
    """What was replayed of a stream.

    Attributes:
        until: offset of its last record.
        arrived_ns: when its last audio arrived, nanoseconds since the epoch.
        records: of audio.
        samples: of audio.
        end: media time of its end, samples.
        gaps: holes in it.
        gap_samples: their length.
        ended: it had an end.
        whole: its beginning was there.
        again: it began once more after its end.
        digest: of its results; "" where there are none.
    """

    until: int = -1
    arrived_ns: int = 0
    records: int = 0
    samples: int = 0
    end: int = 0
    gaps: int = 0
    gap_samples: int = 0
    ended: bool = False
    whole: bool = True
    again: bool = False
    digest: str = ""


@dataclass
class PartitionState:
    """How far a partition got.

    Attributes:
        position: offset behind the last record that was worked on.
        next: where to go on: no stream that is not in `legs` has a record before it.
        finished: all of it was worked on.
        unreadable: records that could not be read.
        legs: name of each stream that is done → what it was.
    """

    position: int
    next: int
    finished: bool = False
    unreadable: int = 0
    legs: dict[str, Leg] = field(default_factory=dict)


class RunFolder:
    """Where a run's plan and states lie.

    Attributes:
        run: the run's id.
        path: of the folder.
        resume: the command that goes on with it, to be told.

    Args:
        root: of all runs.
        run: its id.
    """

    def __init__(self, root: Path, run: str) -> None:
        if not re.fullmatch(RUN, run):
            raise BadReplay(f"{run!r} is no id of a run: 1 to 64 letters, digits, - and _.")
        self.run = run
        self.path = root / run
        self.resume = f"`callscope replay --resume {run}{'' if root == usual_root() else f' --state {root}'}`"

    def exists(self) -> bool:
        """Whether there is such a run."""
        return (self.path / _PLAN).is_file()

    def write_plan(self, plan: Plan) -> None:
        """Write the plan of a new run.

        Raises:
            BadReplay: the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            _write(self.path / _PLAN, plan.to_json())
        except OSError as error:
            raise BadReplay(f"{self.path} cannot be written: {error}. `--state` names another place.") from error

    def plan(self) -> Plan:
        """The plan.

        Raises:
            BadReplay: there is no such run, or its plan cannot be read.
        """
        path = self.path / _PLAN
        try:
            return Plan.from_json(json.loads(path.read_text("utf-8")))
        except FileNotFoundError as error:
            known = sorted(found.parent.name for found in self.path.parent.glob(f"*/{_PLAN}"))
            listed = f"There are {', '.join(known[-5:])}." if known else "There are none."
            raise BadReplay(f"{self.path.parent} holds no run {self.run}. {listed}") from error
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise BadReplay(f"{path} cannot be read: {error}.") from error

    def write_state(self, number: int, state: PartitionState) -> None:
        """Write how far a partition got: all of it or nothing."""
        _write(self._state(number), asdict(state))

    def state(self, part: Part) -> PartitionState:
        """How far a partition got; its beginning if nobody said.

        Raises:
            BadReplay: what was said cannot be read.
        """
        path = self._state(part.number)
        try:
            said = json.loads(path.read_text("utf-8"))
            return PartitionState(**{**said, "legs": {name: Leg(**leg) for name, leg in said["legs"].items()}})
        except FileNotFoundError:
            return PartitionState(part.first, part.first)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise BadReplay(f"{path} cannot be read: {error}. Without that file the partition begins anew.") from error

    def remove(self) -> None:
        """Delete it, and what it says of the run.

        Raises:
            BadReplay: it cannot be deleted.
        """
        try:
            shutil.rmtree(self.path)
        except OSError as error:
            raise BadReplay(f"{self.path} cannot be deleted: {error}.") from error

    def _state(self, number: int) -> Path:
        return self.path / f"partition-{number}.json"


def _write(path: Path, said: object) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(said, ensure_ascii=False) + "\n", "utf-8")
    new.replace(path)


def usual_root() -> Path:
    """Where runs are kept if nobody says otherwise."""
    return Path(platformdirs.user_state_dir("callscope", appauthor=False)) / "replays"


def configuration_of(settings: Settings) -> str:
    """Hash of the settings that results depend on."""
    processors = settings.processors
    parts = (processors.detect, processors.extract, processors.infer)
    said = [*(part.model_dump_json() for part in parts), repr(processors.idle_stream_s)]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()
