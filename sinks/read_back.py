"""Brings subscribers that come back what they missed: reads Kafka once more, from where they say they are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from callscope import kafka
from callscope.clock import monotonic, wall_ns
from callscope.config import Settings
from callscope.following import KafkaRecord
from sinks import telemetry
from sinks.feed import place_of, read
from sinks.hub import Hub, Resumption, Subscriber
from sinks.memory import Place
from sinks.messages import TOPIC_OF, TYPE_OF
from sinks.outline import outline_of
from sinks.subscription import Subscription

AT_ONCE: Final = 4
"""Subscribers that read at once; further ones wait for their turn."""
BATCH: Final = 500
SILENCE_S: Final = 15.0
"""When Kafka says nothing for so long, the subscriber is sent away, to come again."""
_POLL_S: Final = 0.1
_ROOM_S: Final = 0.01
_TIMEOUT_S: Final = 10.0


class CannotResume(Exception):
    """What a subscriber missed cannot be read now."""


class Past(Protocol):
    """Where what was missed comes from."""

    async def plan(self, hub: Hub, subscription: Subscription) -> Resumption:
        """From where a subscriber that comes back is to be brought up to date.

        Raises:
            CannotResume: that cannot be found out now.
        """

    async def bring(self, hub: Hub, subscriber: Subscriber) -> None:
        """Bring a subscriber what it is behind; returns when it has joined the others everywhere.

        Raises:
            CannotResume: it cannot be read now; the subscriber must not go on as if it had been.
        """


class ReadBack:
    """That, from Kafka.

    Args:
        settings: where Kafka is, and how far back it goes.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def plan(self, hub: Hub, subscription: Subscription) -> Resumption:
        """See `Past.plan`."""
        asked: dict[Place, int] = {}
        for place in hub.places_of(subscription):
            offsets = (subscription.resume or {}).get(place[0], ())
            offset = offsets[place[1]] if place[1] < len(offsets) else None
            if offset is not None and offset != hub.positions[place]:
                asked[place] = offset
        if not asked:
            return Resumption()
        try:
            bounds = await asyncio.to_thread(self._bounds, list(asked))
        except KafkaException as error:
            raise CannotResume(error.args[0].str()) from error
        since: dict[Place, int] = {}
        too_old = set()
        for place, offset in asked.items():
            first, end = bounds[place]
            first = max(first, hub.memory.known_from(place))
            if offset > end:  # of another Kafka, or of a topic that was made anew
                too_old.add(place)
                continue
            if offset < first:
                too_old.add(place)
            since[place] = max(first, offset)
        return Resumption(since, frozenset(too_old))

    async def bring(self, hub: Hub, subscriber: Subscriber) -> None:
        """See `Past.bring`."""
        behind = subscriber.behind
        async with self._turn:
            starts = dict(behind)
            consumer = await asyncio.to_thread(self._open, starts)
            began_at = heard_at = monotonic()
            try:
                while behind and subscriber.behind is behind:
                    polled = await asyncio.to_thread(consumer.consume, BATCH, _POLL_S)
                    if polled:
                        heard_at = monotonic()
                    elif monotonic() - heard_at > SILENCE_S:
                        raise CannotResume(f"Kafka said nothing for {SILENCE_S:.0f} s")
                    for message in polled:
                        while 2 * len(subscriber) >= hub.room:  # noqa: ASYNC110  # it knows no event for that
                            await asyncio.sleep(_ROOM_S)  # its socket is slower than we
                        _bring(hub, subscriber, message)
            except KafkaException as error:
                raise CannotResume(error.args[0].str()) from error
            finally:
                await asyncio.to_thread(consumer.close)
            telemetry.subscriber_resumed(len(starts), monotonic() - began_at)

    def _open(self, starts: Mapping[Place, int]) -> Consumer:
        consumer = kafka.consumer(
            self._settings,
            **{
                "group.id": "callscope-sink-back",
                "enable.partition.eof": True,
                "queued.max.messages.kbytes": 8 * 1024,
            },
        )
        consumer.assign([TopicPartition(TOPIC_OF[type_], number, at) for (type_, number), at in starts.items()])
        return consumer

    def _bounds(self, places: Sequence[Place]) -> dict[Place, tuple[int, int]]:
        """Of each partition the first record that is not too old, and its end."""
        consumer = kafka.consumer(self._settings, **{"group.id": "callscope-sink-back"})
        try:
            since_ms = max(0, int(wall_ns() / 1e6 - self._settings.sink.resume_s * 1_000))
            asked = [TopicPartition(TOPIC_OF[type_], number, since_ms) for type_, number in places]
            bounds = {}
            for part in consumer.offsets_for_times(asked, timeout=_TIMEOUT_S):
                if part.error is not None:
                    raise KafkaException(part.error)
                low, high = consumer.get_watermark_offsets(part, timeout=_TIMEOUT_S)
                first = high if part.offset == OFFSET_END or part.offset < 0 else max(low, part.offset)
                bounds[TYPE_OF[part.topic], part.partition] = first, high
            return bounds
        finally:
            consumer.close()


def _bring(hub: Hub, subscriber: Subscriber, message: Any) -> None:
    """One polled message."""
    place = place_of(message.topic(), message.partition())
    assert place is not None, "only results are read"
    if (error := message.error()) is not None:
        if error.code() == KafkaError._PARTITION_EOF:
            hub.brought_up_to(subscriber, place, message.offset())
        elif error.fatal() or not error.retriable():
            raise KafkaException(error)
        return
    if place not in subscriber.behind:
        return
    key, value = message.key() or b"", message.value() or b""
    record = KafkaRecord(message.topic(), message.partition(), message.offset(), key, value)
    found = None
    try:
        outline = outline_of(record.topic, record.value) if place[0] != "call" else read(record)
        if outline is not None and hub.expects(subscriber, place, record.offset, outline):
            found = read(record)
    except Exception:  # it could not be read before either, and then a letter was written about it
        found = None
    hub.bring_back(subscriber, place, record.offset, found)
