"""Topics of results in memory: the sink's tests read them once and, for those who come back, once more."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

from callscope.following import KafkaRecord
from callscope.streams import topic_call_id
from callscope.topics import CALL_EVENTS, partition_of
from sinks.feed import Feed, place_of, read
from sinks.hub import Hub, Resumption, Subscriber
from sinks.memory import Place
from sinks.messages import TYPE_OF, message_of
from sinks.outline import outline_of
from sinks.subscription import Subscription
from tests.sinks import records

PARTITIONS = 3
CALLS = ("c1", "c2")
assert len({partition_of(call, PARTITIONS) for call in CALLS}) == 2


class Log:
    """Records in the order in which they were written; as `Past`, without Kafka."""

    def __init__(self) -> None:
        self.records: list[KafkaRecord] = []
        self._lengths: defaultdict[tuple[str, int], int] = defaultdict(int)

    def append(self, record: records.Record) -> KafkaRecord:
        topic, value = record
        message = message_of(topic, value)
        assert message is not None
        call = topic_call_id(message.tenant, message.call_id)
        partition = partition_of(call, PARTITIONS)
        key = call if topic == CALL_EVENTS.name else f"{call}/{message.leg}"
        stored = KafkaRecord(topic, partition, self._lengths[topic, partition], key.encode(), value)
        self._lengths[topic, partition] += 1
        self.records.append(stored)
        return stored

    def of(self, place: Place) -> list[KafkaRecord]:
        return [record for record in self.records if place_of(record.topic, record.partition) == place]

    def start(self, hub: Hub) -> None:
        """Every partition is known, as after the reader's start."""
        for type_ in TYPE_OF.values():
            for partition in range(PARTITIONS):
                hub.positions.setdefault((type_, partition), 0)

    async def plan(self, hub: Hub, subscription: Subscription) -> Resumption:
        return plan(hub, subscription)

    async def bring(self, hub: Hub, subscriber: Subscriber) -> None:
        for place in list(subscriber.behind):
            for record in self.of(place):
                bring(hub, subscriber, record)
                await asyncio.sleep(0)


def plan(hub: Hub, subscription: Subscription) -> Resumption:
    since = {}
    for type_, partition in hub.places_of(subscription):
        offsets = (subscription.resume or {}).get(type_, ())
        if partition < len(offsets) and (offset := offsets[partition]) is not None:
            since[type_, partition] = offset
    return Resumption(since)


def bring(hub: Hub, subscriber: Subscriber, record: KafkaRecord) -> None:
    place = place_of(record.topic, record.partition)
    assert place is not None
    outline = outline_of(record.topic, record.value) if place[0] != "call" else read(record)
    expected = outline is not None and hub.expects(subscriber, place, record.offset, outline)
    hub.bring_back(subscriber, place, record.offset, read(record) if expected else None)


class NoLetters:
    """Nothing in these tests is unreadable."""

    def put(self, _: object) -> None:
        raise AssertionError("a letter")


def feed_of(hub: Hub, publish: Callable[..., object], *, is_live: bool = True) -> Feed:
    feed = Feed(hub, publish, NoLetters())  # type: ignore[arg-type]  # stands in for the one that writes to Kafka
    feed.is_live = is_live
    return feed
