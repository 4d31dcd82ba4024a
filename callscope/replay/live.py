"""The digests of what lies on topics or in folders, to hold beside those of a run."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from callscope.config import Settings
from callscope.errors import BadReplay
from callscope.exchange import folder as layout
from callscope.exchange.retained import Retained, Stored, call_of
from callscope.replay.destinations import topic_of
from callscope.replay.digest import RESULTS, Digests, NoResult
from callscope.topics import Topic, partition_of
from processors import telemetry

Progress = Callable[[int, int], None]


def of_topics(
    settings: Settings,
    wanted: Callable[[str], bool],
    progress: Progress,
    run: str | None = None,
    calls: Collection[str] | None = None,
) -> dict[str, str]:
    """Digests of the streams whose results lie on the topics now. A partition's results are held at a time.

    Args:
        settings: where Kafka is.
        wanted: whether a call's results count.
        progress: told records read, and records to read.
        run: a run's topics; None: the live ones.
        calls: all that can be wanted, if that is known: no more is read than their partitions.

    Raises:
        KafkaUnreachable: the broker does not answer, or no more.
    """
    topics = {live.name: live if run is None else topic_of(run, live) for live in RESULTS}
    found: dict[str, str] = {}
    with Retained(settings, list(topics.values())) as retained:
        numbers = sorted(_partitions_of(calls, retained.partitions))
        total, done = retained.count(list(topics.values()), numbers), 0
        for number in numbers:
            digests = Digests()
            for live in RESULTS:
                for stored in retained.records(topics[live.name], number):
                    _add(digests, live, stored, wanted)
                    done += 1
                    if done % 500 == 0:
                        progress(done, total)
            found |= _taken(digests)
    progress(total, total)
    return found


def of_folder(folder: Path, wanted: Callable[[str], bool]) -> dict[str, str]:
    """Digests of the streams whose results an export, or a replay, has as records.

    Raises:
        BadExport: it is none.
        BadReplay: it holds no results as records.
    """
    contents = layout.read(folder)
    if not any(layout.records_file(folder, topic.name).is_file() for topic in RESULTS):
        raise BadReplay(f"{folder} does not hold results as records: export with --results records.")
    found: dict[str, str] = {}
    for number in range(contents.partitions):
        digests = Digests()
        for topic in RESULTS:
            for stored in layout.stored_records(folder, topic, partition=number):
                _add(digests, topic, stored, wanted)
        found |= _taken(digests)
    return found


def _partitions_of(calls: Collection[str] | None, partitions: int) -> Collection[int]:
    if calls is None or not partitions:
        return range(partitions)
    return {partition_of(call, partitions) for call in calls}


def _add(digests: Digests, topic: Topic, stored: Stored, wanted: Callable[[str], bool]) -> None:
    call = call_of(topic, stored.key)
    if call is None or not wanted(call):
        return
    try:
        digests.add(topic.name, stored.value)
    except NoResult as error:
        telemetry.record_undecodable(stored.topic, stored.partition, stored.offset, str(error))


def _taken(digests: Digests) -> dict[str, str]:
    return {str(stream): digests.take(stream) or "" for stream in digests.streams()}
