"""The bytes of a segment file of the spool; pure.

A segment is a header and frames, which are only ever appended::

    header  8 bytes "CSSPOOL1", u64 offset up to which Kafka has acknowledged the frames, u32 CRC-32 of that offset
    frame   u32 length of the body, u32 CRC-32 of the body, body
    body    u8 length of the topic, topic, u16 length of the key, key, u64 owner, u64 seq, u64 end, u32 samples, value

All numbers are little-endian. The offset in the header is rewritten in place; where its CRC is wrong, because the
machine went down in the middle, Kafka has nothing: a record that comes twice can be told, one that is missing is lost.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final
from zlib import crc32

MAGIC: Final = b"CSSPOOL1"
MAX_BODY: Final = (1 << 20) + (1 << 16)
"""No record is longer: Kafka takes 1 MiB. A length beyond that is none."""

_MARK: Final = struct.Struct("<QI")
_HEAD: Final = struct.Struct("<II")
_NUMBERS: Final = struct.Struct("<QQQI")
_KEY: Final = struct.Struct("<H")
HEADER_BYTES: Final = len(MAGIC) + _MARK.size
MAX_FRAME: Final = MAX_BODY + _HEAD.size
MARK_AT: Final = len(MAGIC)


@dataclass(slots=True)  # not frozen: one is made of every record that goes to Kafka, and freezing costs a microsecond
class Spooled:
    """A record as the spool keeps it.

    Attributes:
        topic: its topic's name.
        key: its Kafka key.
        value: its value.
        owner: the number of the stream's `Delivery` in the process that wrote it; 0 where none waits for it.
        seq: of audio: the record's number in its stream.
        end: of audio: media time just after its last sample.
        samples: of audio: how many it holds.
    """

    topic: str
    key: str
    value: bytes
    owner: int = 0
    seq: int = 0
    end: int = 0
    samples: int = 0


def header(delivered: int = HEADER_BYTES) -> bytes:
    """The first bytes of a segment whose frames up to the offset `delivered` are in Kafka."""
    return MAGIC + mark(delivered)


def mark(delivered: int) -> bytes:
    """What belongs at `MARK_AT` of such a segment."""
    number = delivered.to_bytes(8, "little")
    return _MARK.pack(delivered, crc32(number))


def delivered_of(head: bytes) -> int | None:
    """Offset of the first frame that Kafka may not have; None where these bytes begin no segment of ours.

    Args:
        head: the file's first `HEADER_BYTES`, or all of it where it is shorter.
    """
    if len(head) < HEADER_BYTES or head[: len(MAGIC)] != MAGIC:
        return None
    delivered, check = _MARK.unpack_from(head, MARK_AT)
    is_good = check == crc32(int(delivered).to_bytes(8, "little")) and delivered >= HEADER_BYTES
    return int(delivered) if is_good else HEADER_BYTES


def encode(record: Spooled) -> bytes:
    """A frame."""
    topic, key = record.topic.encode(), record.key.encode()
    body = b"".join(
        (
            bytes((len(topic),)),
            topic,
            _KEY.pack(len(key)),
            key,
            _NUMBERS.pack(record.owner, record.seq, record.end, record.samples),
            record.value,
        )
    )
    return _HEAD.pack(len(body), crc32(body)) + body


def decode(data: bytes) -> tuple[list[tuple[Spooled, int]], bool]:
    """The whole frames that bytes begin with.

    Args:
        data: from a frame's first byte on.

    Returns:
        Each record with the offset in `data` just after its frame; and whether what follows them can still become a
        frame with more bytes (True), or is none (False). Nothing left over can.
    """
    found: list[tuple[Spooled, int]] = []
    at = 0
    while at + _HEAD.size <= len(data):
        length, check = _HEAD.unpack_from(data, at)
        if length > MAX_BODY:
            return found, False
        after = at + _HEAD.size + length
        if after > len(data):
            return found, True
        body = data[at + _HEAD.size : after]
        record = _record(body) if crc32(body) == check else None
        if record is None:
            return found, False
        found.append((record, after))
        at = after
    return found, True


def _record(body: bytes) -> Spooled | None:
    """A body whose CRC was right; None where it is no record all the same, as eight zero bytes are none."""
    try:
        topic_ends = 1 + body[0]
        (key_length,) = _KEY.unpack_from(body, topic_ends)
        key_at = topic_ends + _KEY.size
        owner, seq, end, samples = _NUMBERS.unpack_from(body, key_at + key_length)
        return Spooled(
            body[1:topic_ends].decode(),
            body[key_at : key_at + key_length].decode(),
            body[key_at + key_length + _NUMBERS.size :],
            owner,
            seq,
            end,
            samples,
        )
    except (IndexError, struct.error, UnicodeDecodeError):
        return None
