from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from callscope.config import Settings
from callscope.errors import KafkaUnreachable
from callscope.kafka import ensure_topics, producer
from callscope.topics import CALL_EVENTS, partition_of
from processors.consent_reader import ConsentReader
from processors.records import Consent
from schemas.v1.events_pb2 import CallEvent

CALLS = [f"consent-{n}" for n in range(12)]


def tell(kafka: Settings, *events: CallEvent) -> None:
    writer = producer(kafka)
    for event in events:
        partition = partition_of(event.call_id, kafka.topics.partitions)
        writer.produce(CALL_EVENTS.name, key=event.call_id, value=event.SerializeToString(), partition=partition)
    assert writer.flush(10) == 0


def consent(call_id: str, at: int, *, allowed: bool) -> CallEvent:
    return CallEvent(kind=CallEvent.CONSENT, call_id=call_id, leg="customer", at=at, allowed=allowed)


def of(consents: list[Consent], call_id: str) -> list[tuple[int, bool]]:
    return [(c.at, c.allowed) for c in consents if c.call_id == call_id]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110  # polls a broker
            await asyncio.sleep(0.01)


@pytest.mark.integration
async def test_what_was_said_before_a_worker_started_is_known_and_what_comes_is_told(kafka: Settings) -> None:
    ensure_topics(kafka, (CALL_EVENTS,))
    started = [CallEvent(kind=CallEvent.STREAM_STARTED, call_id=call_id, leg="customer") for call_id in CALLS]
    tell(kafka, *started, *(consent(call_id, 100, allowed=False) for call_id in CALLS))
    reader = ConsentReader(kafka)
    try:
        reader.catch_up()
        history = reader.fresh()
        assert [of(history, call_id) for call_id in CALLS] == [[(100, False)]] * len(CALLS)
        assert reader.fresh() == []
        tell(kafka, consent(CALLS[0], 200, allowed=True), consent(CALLS[0], 300, allowed=False))
        fresh: list[Consent] = []

        def both() -> bool:
            fresh.extend(reader.fresh())
            return len(fresh) == 2

        await until(both)
        assert of(fresh, CALLS[0]) == [(200, True), (300, False)]
    finally:
        reader.close()


def test_nothing_is_inferred_where_it_cannot_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processors.consent_reader._TIMEOUT_S", 0.3)
    reader = ConsentReader(Settings(kafka="127.0.0.1:1"))
    try:
        with pytest.raises(KafkaUnreachable, match=r"cannot be read from call\.events at 127\.0\.0\.1:1"):
            reader.catch_up()
    finally:
        reader.close()
