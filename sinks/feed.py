"""Records to the hub, one by one: what cannot be read becomes a dead letter, and nobody notices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from callscope.dead_letters import LetterBox, letter
from callscope.following import KafkaRecord
from callscope.streams import topic_call_id
from callscope.topics import CALL_EVENTS, WORKER_STATUS
from sinks import telemetry
from sinks.hub import Hub
from sinks.memory import Place
from sinks.messages import TYPE_OF, Message, Undecodable, message_of
from sinks.outline import outline_of

STAGE: Final = "sink"


class Feed:
    """Everything that is read goes through here, in the order of each partition.

    Attributes:
        is_live: False while records are history: then results are only remembered, to be known again. Calls are
            followed from the first record on.

    Args:
        hub: what is fed.
        publish: hands a message to subscribers.
        letters: takes what cannot be read.
    """

    def __init__(self, hub: Hub, publish: Callable[[Message], None], letters: LetterBox) -> None:
        self.is_live = False
        self._hub = hub
        self._publish = publish
        self._letters = letters

    def __call__(self, records: Sequence[KafkaRecord]) -> None:
        """Take in what was read."""
        for record in records:
            try:
                self._take(record)
            except Exception as error:  # whatever it is, it is this record's
                reason = str(error) if isinstance(error, Undecodable) else f"{type(error).__name__}: {error}"
                self._give_up(record, reason)
            if (place := place_of(record.topic, record.partition)) is not None:
                self._hub.passed(place, record.offset)

    def _take(self, record: KafkaRecord) -> None:
        if record.topic == WORKER_STATUS.name:
            for message in self._hub.workers.heard(record.value):
                self._publish(message)
        elif self.is_live or record.topic == CALL_EVENTS.name:
            if (found := read(record)) is not None:
                self._publish(found)
        elif (outline := outline_of(record.topic, record.value)) is not None:
            self._hub.memory.is_news(outline, record.partition, record.offset)

    def _give_up(self, record: KafkaRecord, reason: str) -> None:
        telemetry.record_unreadable(record.topic)
        at = record.topic, record.partition, record.offset
        self._letters.put(letter(*at, STAGE, reason, record.key, record.value))


def place_of(topic: str, partition: int) -> Place | None:
    """The partition as the hub knows it; None where its records are no results."""
    type_ = TYPE_OF.get(topic)
    return None if type_ is None else (type_, partition)


def read(record: KafkaRecord) -> Message | None:
    """The message about a record of results; None where subscribers are not told.

    Raises:
        Undecodable: it is not what its topic and key promise.
    """
    message = message_of(record.topic, record.value, (record.partition, record.offset))
    if message is not None:
        call = topic_call_id(message.tenant, message.call_id)
        if record.key != (call if record.topic == CALL_EVENTS.name else f"{call}/{message.leg}").encode():
            raise Undecodable(f"a record of {message.stream} under the key {record.key!r}"[:300])
    return message
