"""A fetch's bytes to envelopes; what is not what its topic and key promise is rejected, and the stream goes on."""

from __future__ import annotations

from callscope.topics import partition_of
from processors import wire
from processors.record_reader import Polled
from processors.records import Envelope
from processors.rejects import Rejects
from processors.transport import Fetch


def decode_fetch(fetch: Fetch, partitions: int, rejects: Rejects) -> list[Envelope]:
    """The fetch's records, in offset order within each partition, without those that are not what they should be.

    Args:
        fetch: what was read of one topic.
        partitions: how many the topic has.
        rejects: told of what is left out.
    """
    envelopes = []
    for batch in fetch.batches.values():
        for record in batch.records:
            try:
                envelopes.append(decode_record(batch.tp.topic, batch.tp.partition, record, partitions))
            except wire.Undecodable as error:
                rejects.undecodable(batch, record, str(error))
    return envelopes


def decode_record(topic: str, partition: int, record: Polled, partitions: int) -> Envelope:
    """A record that is what its topic promises, and lies where records of its stream belong.

    Args:
        topic: where it was read.
        partition: likewise.
        record: it.
        partitions: how many the topic has.

    Raises:
        Undecodable: it is not; the message says why.
    """
    envelope = wire.decode(topic, record.value or b"", record.offset)
    stream = envelope.record.stream
    if record.key != str(stream).encode():
        raise wire.Undecodable(f"a record of {stream} under the key {record.key!r}"[:300])
    if partition != (belongs := partition_of(stream.call_id, partitions)):
        raise wire.Undecodable(f"a record of {stream}, whose partition is {belongs}, in partition {partition}")
    return envelope
