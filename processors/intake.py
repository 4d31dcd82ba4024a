"""A fetch's bytes to envelopes; what cannot be decoded is counted, logged and passed over, and the stream goes on."""

from __future__ import annotations

from callscope import telemetry
from processors import wire
from processors.records import Envelope
from processors.transport import Fetch


def decode_fetch(fetch: Fetch) -> list[Envelope]:
    """The fetch's records, in offset order within each partition, without those that their topic does not promise."""
    envelopes = []
    for batch in fetch.batches.values():
        for record in batch.records:
            try:
                envelopes.append(wire.decode(batch.tp.topic, record.value or b"", record.offset))
            except wire.Undecodable as error:
                telemetry.record_undecodable(batch.tp.topic, batch.tp.partition, record.offset, str(error))
    return envelopes
