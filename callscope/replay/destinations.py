"""Where a replay's results go: topics of the run, a folder, or nowhere. Never a live topic."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from callscope.config import Settings
from callscope.errors import BadReplay, KafkaUnreachable
from callscope.exchange import folder as layout
from callscope.exchange.exporting import Choice, ExportWriter
from callscope.exchange.folder import Contents, ExportedLeg
from callscope.exchange.retained import Stored, call_of
from callscope.exchange.tables import RATE_HZ, RECORDS, TableWriter, record_row
from callscope.kafka import client_options, ensure_topics, producer
from callscope.replay.digest import RESULTS, canonical, seal
from callscope.replay.plan import Leg, Plan
from callscope.streams import StreamId
from callscope.topics import HOUR_MS, Topic, partition_of

PREFIX: Final = "replay."
"""Names of a replay's topics begin with it, and no live one does."""
PARTS: Final = "parts"
_FLUSH_S: Final = 60.0
_DROP_S: Final = 15.0


def topic_of(run: str, live: Topic, keep_hours: int = 24) -> Topic:
    """A run's topic for what goes to a live topic otherwise."""
    return replace(live, name=f"{PREFIX}{run}.{live.name}", writer="replay", retention_ms=keep_hours * HOUR_MS)


def make_topics(settings: Settings, plan: Plan) -> None:
    """Create the run's topics, where they are not there yet.

    Raises:
        CallscopeError: they cannot be had.
    """
    broker = settings.broker.model_copy(update={"retention_hours": None})  # the run's own holds
    topics = settings.topics.model_copy(update={"partitions": plan.partitions})
    own = settings.model_copy(update={"broker": broker, "topics": topics})
    ensure_topics(own, tuple(topic_of(plan.run, live, plan.keep_hours) for live in RESULTS))


def drop_topics(settings: Settings, run: str) -> list[str]:
    """Delete a run's topics; returns the names of those that were there.

    Raises:
        KafkaUnreachable: they could not be listed or deleted.
    """
    admin = AdminClient(client_options(settings))
    own = {topic_of(run, live).name for live in RESULTS}
    try:
        there = sorted(own & admin.list_topics(timeout=_DROP_S).topics.keys())
        for deleted in (admin.delete_topics(there, operation_timeout=_DROP_S) if there else {}).values():
            deleted.result(timeout=_DROP_S)
    except KafkaException as error:
        raise KafkaUnreachable(
            f"The topics of run {run} could not be deleted at {settings.kafka}: {error.args[0].str()}. "
            "Nothing else was touched; try again."
        ) from error
    return there


class Destination(Protocol):
    """Where results go."""

    def put(self, topic: Topic, stream: StreamId, arrived_ns: int, value: bytes) -> None:
        """Take in a result of a live topic's kind.

        Raises:
            CallscopeError: it cannot be kept, or an earlier one was not.
        """

    def settle(self) -> None:
        """Return when everything that was put is safe.

        Raises:
            CallscopeError: it is not.
        """


def destination_of(plan: Plan, settings: Settings) -> Destination:
    """Where a plan's results go."""
    match plan.to:
        case "topics":
            return ToTopics(settings, plan.run, plan.partitions)
        case "folder":
            return ToFolder(Path(plan.folder), plan.partitions)
        case "none":
            return Nowhere()


class Nowhere:
    """Results are forgotten."""

    def put(self, topic: Topic, stream: StreamId, arrived_ns: int, value: bytes) -> None:
        """See `Destination`."""

    def settle(self) -> None:
        """See `Destination`."""


class ToTopics:
    """Results as the live ones are: key, partition and header; the names of the topics are the run's."""

    def __init__(self, settings: Settings, run: str, partitions: int) -> None:
        self._kafka = settings.kafka
        self._partitions = partitions
        self._names = {live.name: topic_of(run, live).name for live in RESULTS}
        self._producer = producer(settings, **{"linger.ms": 50})
        self._failed: str | None = None

    def put(self, topic: Topic, stream: StreamId, arrived_ns: int, value: bytes) -> None:
        """See `Destination`. Waits while the producer's bounded queue is full."""
        while True:
            try:
                self._producer.produce(
                    self._names[topic.name],
                    key=str(stream),
                    value=value,
                    partition=partition_of(stream.call_id, self._partitions),
                    headers=[("schema", topic.value)],
                    on_delivery=self._report,
                )
                break
            except BufferError:
                self._producer.poll(0.1)
                self._check()
            except KafkaException as error:
                raise BadReplay(f"Kafka refuses a result of {stream}: {error.args[0].str()}.") from error
        self._producer.poll(0)
        self._check()

    def settle(self) -> None:
        """See `Destination`."""
        left = self._producer.flush(_FLUSH_S)
        self._check()
        if left:
            raise KafkaUnreachable(f"Kafka at {self._kafka} did not take {left} results within {_FLUSH_S:.0f} s.")

    def _report(self, error: KafkaError | None, _: object) -> None:
        if error is not None and self._failed is None:
            self._failed = error.str()

    def _check(self) -> None:
        if self._failed is not None:
            raise KafkaUnreachable(f"Kafka at {self._kafka} did not take a result: {self._failed}.")


class ToFolder:
    """Results as files of records by partition, each whole or not there; `finish` makes an export of them."""

    def __init__(self, folder: Path, partitions: int) -> None:
        self._parts = folder / PARTS
        self._partitions = partitions
        self._open: dict[tuple[int, str], tuple[Path, TableWriter]] = {}
        self._written = 0

    def put(self, topic: Topic, stream: StreamId, arrived_ns: int, value: bytes) -> None:
        """See `Destination`."""
        number = partition_of(stream.call_id, self._partitions)
        stored = Stored(
            topic.name,
            number,
            self._written,
            arrived_ns // 1_000_000,
            str(stream).encode(),
            value,
            (("schema", topic.value.encode()),),
        )
        self._written += 1
        key = (number, topic.name)
        try:
            if key not in self._open:
                self._parts.mkdir(parents=True, exist_ok=True)
                path = self._parts / f"{number}-{topic.name}-{uuid.uuid4().hex}.new"
                self._open[key] = path, TableWriter(path, RECORDS)
            self._open[key][1].add(record_row(stored, stream.call_id), len(value))
        except OSError as error:
            raise BadReplay(f"{self._parts} cannot be written: {error}.") from error

    def settle(self) -> None:
        """See `Destination`."""
        try:
            while self._open:
                path, table = self._open.popitem()[1]
                table.close()
                path.rename(path.with_suffix(".parquet"))
        except OSError as error:
            raise BadReplay(f"{self._parts} cannot be written: {error}.") from error


def written(folder: Path, topic: Topic, partition: int) -> Iterator[Stored]:
    """What `ToFolder` has made safe of a topic's partition."""
    for path in sorted((folder / PARTS).glob(f"{partition}-{topic.name}-*.parquet")):
        yield from layout.records_in(path, topic)


def finish(folder: Path, plan: Plan, legs: dict[str, Leg]) -> None:
    """Make an export of what was written: records and tables, without audio; what was written twice is there once.

    Raises:
        BadReplay: it cannot be written.
    """
    forms: Collection[str] = ("parquet", "jsonl", "records")
    try:
        for name in (layout.RECORDS, layout.RESULTS):
            _clear(folder / name)  # of an attempt that was cut off here
        with ExitStack() as files:
            writer = ExportWriter(folder, Choice(audio="none", results=forms), files, plan.partitions)
            for partition in range(plan.partitions):
                for topic in RESULTS:
                    seen: set[tuple[bytes, bytes]] = set()
                    for stored in written(folder, topic, partition):
                        call = call_of(topic, stored.key)
                        if call is not None and _once(topic, stored, seen):
                            writer.add(topic, stored, call)
                writer.partition_done()
        contents = writer.contents
        contents.calls = _calls(legs)
        layout.write(folder, contents, {"audio": "none", "results": sorted(forms), "replay": plan.run})
        _clear(folder / PARTS)
    except OSError as error:
        raise BadReplay(f"{folder} cannot be written: {error}. `--resume {plan.run}` tries that again.") from error


def _once(topic: Topic, stored: Stored, seen: set[tuple[bytes, bytes]]) -> bool:
    """Whether it is the first of its kind; results of an attempt that was cut off come again."""
    mark = (stored.key, seal(topic.name, canonical(topic.name, stored.value).value))
    if mark in seen:
        return False
    seen.add(mark)
    return True


def _clear(folder: Path) -> None:
    if folder.is_dir():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def _calls(legs: dict[str, Leg]) -> dict[str, dict[str, ExportedLeg]]:
    contents: Contents = Contents()
    for stream, leg in sorted(legs.items()):
        call, _, name = stream.rpartition("/")
        contents.calls.setdefault(call, {})[name] = ExportedLeg(
            leg.end / RATE_HZ, leg.records, leg.gaps, leg.gap_samples / RATE_HZ, leg.ended
        )
    return contents.calls
