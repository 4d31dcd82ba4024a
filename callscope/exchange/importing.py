"""From an export's folder to the topics: the same records with the same keys, in the partitions of their calls."""

from __future__ import annotations

import heapq
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from callscope.config import Settings
from callscope.errors import BadExport, KafkaUnreachable
from callscope.exchange import folder as layout
from callscope.exchange.exporting import RESULTS, Progress
from callscope.exchange.folder import Contents
from callscope.exchange.retained import Retained, Stored, call_of
from callscope.kafka import ensure_topics, producer
from callscope.topics import AUDIO_FRAMES, CALL_EVENTS, TOPICS, Topic, partition_of
from schemas.v1.events_pb2 import CallEvent

_FLUSH_S: Final = 60.0
_NAME: Final = re.compile(r"[A-Za-z0-9._:@+-]{1,128}")
_BY_NAME: Final = {topic.name: topic for topic in TOPICS}


def bring_in(
    settings: Settings,
    folder: Path,
    progress: Progress,
    *,
    prefix: str = "",
    results: bool = False,
    keep_timestamps: bool = False,
) -> Contents:
    """Publish an export's audio and events again, and its results if asked.

    A consent is safe in Kafka before the audio that came after it is published.

    Args:
        settings: where Kafka is.
        folder: of the export.
        progress: told how far it is.
        prefix: put before every call id.
        results: publish results too; the export must hold them as records.
        keep_timestamps: Kafka's timestamps as they were; then retention counts from there.

    Raises:
        BadExport: it is not whole, cannot be published, or a call of it exists; nothing was published in that case.
        KafkaUnreachable: the broker does not take the records.
    """
    contents = layout.read(folder)
    topics = [CALL_EVENTS, AUDIO_FRAMES, *(RESULTS if results else ())]
    if results and not any(layout.records_file(folder, topic.name).is_file() for topic in RESULTS):
        raise BadExport(f"{folder} does not hold results as records: export with --results records.")
    calls = {call: prefix + call for call in contents.calls}
    wrong = [call for call in calls.values() if prefix and not _NAME.fullmatch(call)]
    if wrong:
        raise BadExport(f"{wrong[0]!r} is no call id: at most 128 letters, digits and . _ : @ + -")
    ensure_topics(settings)
    _refuse_existing(settings, folder, set(calls.values()), prefix)
    total = sum(contents.records.get(topic.name, 0) for topic in topics)
    publishing = _Publishing(settings, keep_timestamps)
    done = 0
    for stored in _in_order(folder, topics):
        publishing.send(_BY_NAME[stored.topic], stored, prefix)
        done += 1
        if done % 500 == 0:
            progress(done, total)
    publishing.flush()
    progress(total, total)
    return contents


def _in_order(folder: Path, topics: Collection[Topic]) -> Iterator[Stored]:
    """All records, those of a partition by time; each topic's stay in their own order."""
    return heapq.merge(
        *(layout.stored_records(folder, topic) for topic in topics),
        key=lambda stored: (stored.partition, stored.timestamp_ms),
    )


def _refuse_existing(settings: Settings, folder: Path, calls: set[str], prefix: str) -> None:
    """See that none of the calls is there. Every call that came in by a gateway has events; else its audio tells."""
    with_events = {prefix + (call_of(CALL_EVENTS, s.key) or "") for s in layout.stored_records(folder, CALL_EVENTS)}
    topics = [CALL_EVENTS] if calls <= with_events else [CALL_EVENTS, AUDIO_FRAMES]
    with Retained(settings, topics) as retained:
        partitions = {partition_of(call, settings.topics.partitions) for call in calls}
        there = {
            call_of(topic, stored.key)
            for topic in topics
            for partition in sorted(partitions)
            for stored in retained.records(topic, partition)
        }
    found = sorted(calls & {call for call in there if call})
    if found:
        shown = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        raise BadExport(
            f"{len(found)} of {len(calls)} calls exist already: {shown}. Nothing was imported. `--as PREFIX` imports "
            "them under other ids."
        )


class _Publishing:
    """Records on their way to Kafka."""

    def __init__(self, settings: Settings, keep_timestamps: bool) -> None:
        self._kafka = settings.kafka
        self._partitions = settings.topics.partitions
        self._keep_timestamps = keep_timestamps
        self._producer = producer(settings)
        self._failed: str | None = None

    def send(self, topic: Topic, stored: Stored, prefix: str) -> None:
        call = call_of(topic, stored.key)
        if call is None:
            raise BadExport(f"A record of {topic.name} has no call in its key: {stored.key[:80]!r}.")
        key, value = stored.key, stored.value
        if prefix:
            key, value, call = prefix.encode() + key, _renamed(topic, value, prefix + call), prefix + call
        extra: dict[str, Any] = {"timestamp": stored.timestamp_ms} if self._keep_timestamps else {}
        while True:
            try:
                self._producer.produce(
                    topic.name,
                    key=key,
                    value=value,
                    partition=partition_of(call, self._partitions),
                    headers=list(stored.headers),
                    on_delivery=self._report,
                    **extra,
                )
                break
            except BufferError:
                self._producer.poll(0.1)
                self._check()
            except KafkaException as error:
                raise BadExport(f"Kafka refuses a record of {call}: {error.args[0].str()}.") from error
        self._producer.poll(0)
        self._check()
        if topic is CALL_EVENTS and _is_consent(value):
            self.flush()

    def flush(self) -> None:
        left = self._producer.flush(_FLUSH_S)
        self._check()
        if left:
            raise KafkaUnreachable(
                f"Kafka at {self._kafka} did not take {left} records within {_FLUSH_S:.0f} s; the import is not whole. "
                "Import again under another name: --as PREFIX."
            )

    def _report(self, error: KafkaError | None, _: object) -> None:
        if error is not None and self._failed is None:
            self._failed = error.str()

    def _check(self) -> None:
        if self._failed is not None:
            raise KafkaUnreachable(
                f"Kafka at {self._kafka} did not take a record: {self._failed}. The import is not whole. Import again "
                "under another name: --as PREFIX."
            )


def _renamed(topic: Topic, value: bytes, call: str) -> bytes:
    """The same record about another call; what is no such record stays as it is."""
    kind = message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(topic.value))
    try:
        record: Any = kind.FromString(value)
    except DecodeError:
        return value
    record.call_id = call
    return bytes(record.SerializeToString(deterministic=True))


def _is_consent(value: bytes) -> bool:
    try:
        return CallEvent.FromString(value).kind == CallEvent.CONSENT
    except DecodeError:
        return False
