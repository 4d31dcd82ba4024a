"""Reads what speakers allowed or refused from `call.events`, beside the agents: every worker knows it of every call."""

from __future__ import annotations

from typing import Final

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from callscope import clock, kafka
from callscope.config import Settings
from callscope.errors import KafkaUnreachable
from callscope.topics import CALL_EVENTS, VOICE_FEATURES
from processors import telemetry, wire
from processors.records import Consent

HISTORY_MS: Final = VOICE_FEATURES.retention_ms
"""How far back events are read: no older window is left to be judged."""
_BATCH: Final = 500
_TIMEOUT_S: Final = 10.0
_CATCH_UP_S: Final = 120.0


class ConsentReader:
    """Follows every partition of `call.events`, with no group and no commits.

    A worker reads the history first, so that a consent outlives the worker it was given to, and asks for what is new
    before each batch it judges. librdkafka fetches in the background; asking is cheap and never waits.

    Args:
        settings: where Kafka is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: Consumer = kafka.consumer(
            settings,
            **{
                "queued.max.messages.kbytes": 4 * 1024,
                "group.id": "callscope-consents",
                "max.poll.interval.ms": 86_400_000,
            },
        )
        self._unasked: list[Consent] = []

    def catch_up(self) -> None:
        """Read the events of the last `HISTORY_MS`; blocks until that is done.

        Raises:
            KafkaUnreachable: Kafka did not give them.
        """
        began = clock.monotonic()
        since = max(0, clock.calendar_ns() // 1_000_000 - HISTORY_MS)
        try:
            partitions = self._consumer.list_topics(CALL_EVENTS.name, timeout=_TIMEOUT_S).topics[CALL_EVENTS.name]
            wanted = [TopicPartition(CALL_EVENTS.name, number, since) for number in partitions.partitions]
            starts = self._consumer.offsets_for_times(wanted, timeout=_TIMEOUT_S)
            behind = {}
            for start in starts:
                end = self._consumer.get_watermark_offsets(start, timeout=_TIMEOUT_S)[1]
                if start.offset < 0:  # nothing as young as that
                    start.offset = end
                if start.offset < end:
                    behind[start.partition] = end
            self._consumer.assign(starts)
        except KafkaException as error:
            raise self._unreachable(error.args[0].str()) from error
        while behind:
            if clock.monotonic() - began > _CATCH_UP_S:
                raise self._unreachable(f"its history was not read within {_CATCH_UP_S:.0f} s")
            for message in self._consumer.consume(_BATCH, timeout=0.2):
                self._take(message)
            for position in self._consumer.position([TopicPartition(CALL_EVENTS.name, number) for number in behind]):
                if position.offset >= behind[position.partition]:
                    del behind[position.partition]

    def fresh(self) -> list[Consent]:
        """The consents that came since this was last called, in the order of their topic. Never waits."""
        for message in self._consumer.consume(_BATCH, timeout=0):
            self._take(message)
        fresh, self._unasked = self._unasked, []
        return fresh

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            telemetry.consents_delayed(error.str())
            return
        try:
            consent = wire.decode_consent(message.value() or b"", message.timestamp()[1])
        except wire.Undecodable as undecodable:
            telemetry.record_undecodable(
                CALL_EVENTS.name, message.partition() or 0, message.offset() or 0, str(undecodable)
            )
            return
        if consent is not None:
            telemetry.consent_noted(consent.call_id, consent.leg, consent.allowed)
            self._unasked.append(consent)

    def _unreachable(self, reason: str) -> KafkaUnreachable:
        return KafkaUnreachable(
            f"What speakers allowed or refused cannot be read from {CALL_EVENTS.name} at {self._settings.kafka}: "
            f"{reason}. Nothing is inferred without knowing it."
        )
