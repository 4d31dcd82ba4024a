"""An export's folder: what lies where, what it says of itself, and its records in order."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from callscope.errors import BadExport
from callscope.exchange.retained import Stored
from callscope.topics import Topic

MANIFEST: Final = "export.json"
RECORDS: Final = "records"
RESULTS: Final = "results"
AUDIO: Final = "audio"
VERSION: Final = 1
RECORDS_PARTITION: Final = 1
"""Number of the column "partition" in a file of records."""
_ROWS: Final = 256


@dataclass
class ExportedLeg:
    """A leg of an exported call.

    Attributes:
        seconds: of media time, holes included.
        records: of audio.
        gaps: holes.
        gap_seconds: their length.
        ended: the stream had ended.
        wav: its file within the folder; None where no audio files were asked for.
        cut: the file ends before the leg does.
    """

    seconds: float = 0.0
    records: int = 0
    gaps: int = 0
    gap_seconds: float = 0.0
    ended: bool = False
    wav: str | None = None
    cut: bool = False


@dataclass
class Contents:
    """What an export holds.

    Attributes:
        calls: call id → leg → what there is of it.
        records: topic → how many records.
        duplicates: results that came more than once and are in the tables once.
        unreadable: records without a usable key or value; those with a key are kept as records.
        partitions: of the topics they came from.
    """

    calls: dict[str, dict[str, ExportedLeg]] = field(default_factory=dict)
    records: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    unreadable: int = 0
    partitions: int = 0


def records_file(folder: Path, topic: str) -> Path:
    """Where a topic's records are, byte for byte."""
    return folder / RECORDS / f"{topic}.parquet"


def write(folder: Path, contents: Contents, choices: Mapping[str, Any]) -> None:
    """Write the manifest, last of all: a folder without it is no whole export."""
    said = {"format": "callscope-export", "version": VERSION, **choices, **asdict(contents)}
    (folder / MANIFEST).write_text(json.dumps(said, indent=1, ensure_ascii=False) + "\n", "utf-8")


def is_export(folder: Path) -> bool:
    """Whether the folder holds a whole export."""
    return (folder / MANIFEST).is_file()


def read(folder: Path) -> Contents:
    """What an export says of itself.

    Raises:
        BadExport: it is none, is not whole, or of a later version.
    """
    path = folder / MANIFEST
    try:
        said = json.loads(path.read_text("utf-8"))
        if said["format"] != "callscope-export":
            raise ValueError("its format is another one")
        if said["version"] > VERSION:
            raise BadExport(f"{folder} was written by a later Callscope (format {said['version']}); use that one.")
        calls = {call: {leg: ExportedLeg(**of) for leg, of in legs.items()} for call, legs in said["calls"].items()}
        return Contents(calls, said["records"], said["duplicates"], said["unreadable"], said["partitions"])
    except FileNotFoundError as error:
        raise BadExport(
            f"{folder} is no whole export: it has no {MANIFEST}, which is written last. Export again."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadExport(f"{path} cannot be read: {error}.") from error


def stored_records(
    folder: Path, topic: Topic, calls: Collection[str] | None = None, partition: int | None = None
) -> Iterator[Stored]:
    """A topic's records as they lay in Kafka: by partition, in order within each.

    Args:
        folder: of the export.
        topic: which.
        calls: only of these; None: all.
        partition: only of this one; None: of all.

    Raises:
        BadExport: the file is damaged.
    """
    path = records_file(folder, topic.name)
    if path.is_file():
        yield from records_in(path, topic, calls, partition)


def records_in(
    path: Path, topic: Topic, calls: Collection[str] | None = None, partition: int | None = None
) -> Iterator[Stored]:
    """The same of a file of records, wherever it lies. Of one partition, no more of the file is read than holds it."""
    try:
        with pq.ParquetFile(path) as file:
            groups = [n for n in range(file.num_row_groups) if partition is None or _may_hold(file, n, partition)]
            for batch in file.iter_batches(_ROWS, row_groups=groups):
                for row in batch.to_pylist():
                    if partition is not None and row["partition"] != partition:
                        continue
                    if calls is None or row["call_id"] in calls:
                        yield Stored(
                            topic.name,
                            row["partition"],
                            row["offset"],
                            row["timestamp_ms"],
                            row["key"],
                            row["value"],
                            tuple((header["name"], header["value"]) for header in row["headers"]),
                        )
    except (pa.ArrowException, OSError, KeyError) as error:
        raise BadExport(f"{path} is damaged: {error}") from error


def _may_hold(file: pq.ParquetFile, group: int, partition: int) -> bool:
    told = file.metadata.row_group(group).column(RECORDS_PARTITION).statistics
    return told is None or not told.has_min_max or told.min <= partition <= told.max


def record_columns(folder: Path, topic: Topic, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Some columns of a topic's records, in order: quick where the values are not among them.

    Raises:
        BadExport: the file is damaged.
    """
    path = records_file(folder, topic.name)
    if not path.is_file():
        return
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS * 16, columns=columns):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise BadExport(f"{path} is damaged: {error}") from error


def table_rows(folder: Path, name: str, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Rows of one of the tables of results, in order.

    Args:
        folder: of the export.
        name: "activity", "features", "insights" or "call_events".
        columns: the wanted ones.

    Raises:
        BadExport: there is no such table, or it is damaged.
    """
    path = folder / RESULTS / f"{name}.parquet"
    if not path.is_file():
        raise BadExport(f"{folder} has no {RESULTS}/{name}.parquet: export with --results parquet.")
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS * 16, columns=columns):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise BadExport(f"{path} is damaged: {error}") from error
