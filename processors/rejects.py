"""What a worker could not work on, gathered while it works on a fetch, and the letters that become of it.

A record is found by its bytes (`intake`), or by the stage that failed on it. Where the stages are fused, what a later
one fails on was never a record in Kafka: the letter then holds the audio that brought it about.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from callscope import dead_letters, telemetry
from processors import wire
from processors.record_reader import Polled
from processors.records import Envelope
from processors.transport import Batch, Fetch
from schemas.v1.dead_letter_pb2 import DeadLetter


@dataclass(frozen=True, slots=True)
class _Failed:
    stage: str
    envelope: Envelope
    reason: str


class Rejects:
    """The rejects of one worker.

    Args:
        worker: the stage that it runs, or "fused": who finds a record undecodable.
    """

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._letters: list[DeadLetter] = []
        self._failed: list[_Failed] = []
        self._allowance = dead_letters.Allowance()

    def undecodable(self, batch: Batch, record: Polled, reason: str) -> None:
        """A record is not what its topic and key promise."""
        self._letters.append(_letter(batch, record, self._worker, reason))

    def failed(self, stage: str, envelope: Envelope, error: Exception) -> None:
        """A stage could not work on a record."""
        self._failed.append(_Failed(stage, envelope, f"{type(error).__name__}: {error}"))

    def take(self, fetch: Fetch) -> list[DeadLetter]:
        """The letters about what was rejected of a fetch, as many as may be written; all are counted and logged."""
        letters, self._letters = self._letters, []
        failed, self._failed = self._failed, []
        letters += [_find(fetch, one) for one in failed]
        for dead in letters:
            telemetry.record_dead(dead.stage, dead.topic, dead.partition, dead.offset, dead.reason)
        return [dead for dead in letters if self._allowance.take()]


def _letter(batch: Batch, record: Polled, stage: str, reason: str) -> DeadLetter:
    at = batch.tp.topic, batch.tp.partition, record.offset
    return dead_letters.letter(*at, stage, reason, record.key, record.value, record.timestamp_ms)


def _find(fetch: Fetch, failed: _Failed) -> DeadLetter:
    """The letter about the record of a fetch that a failure came of: the same stream's, and the same audio's."""
    record, ledger = failed.envelope.record, failed.envelope.ledger
    nearest: tuple[Batch, Polled] | None = None
    for batch, polled, read in _decoded(fetch):
        if read.record.stream != record.stream:
            continue
        nearest = batch, polled
        if (read.ledger.arrived_ns, read.ledger.published_ns) == (ledger.arrived_ns, ledger.published_ns):
            break
    if nearest is not None:
        return _letter(*nearest, failed.stage, failed.reason)
    # It came of a fetch before: what was in hand is all there is.
    topic = wire.topic_of(record).name
    partition = next(iter(fetch.batches))
    value = wire.encode(failed.envelope)
    return dead_letters.letter(topic, partition, -1, failed.stage, failed.reason, str(record.stream).encode(), value)


def _decoded(fetch: Fetch) -> Iterator[tuple[Batch, Polled, Envelope]]:
    """Its records once more; this is paid for by those that fail only."""
    for batch in fetch.batches.values():
        for polled in batch.records:
            try:
                yield batch, polled, wire.decode(batch.tp.topic, polled.value or b"")
            except wire.Undecodable:
                continue
