"""The bytes of the spool: whatever is cut or broken, what is whole before it is found."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest.spool.framing import (
    HEADER_BYTES,
    MARK_AT,
    MAX_BODY,
    Spooled,
    decode,
    delivered_of,
    encode,
    header,
    mark,
)

RECORDS = st.lists(
    st.builds(
        Spooled,
        st.sampled_from(["audio.frames", "call.events"]),
        st.text(max_size=20),
        st.binary(max_size=100),
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**32 - 1),
    ),
    max_size=6,
)


def ends(records: list[Spooled]) -> list[int]:
    found, at = [], 0
    for record in records:
        at += len(encode(record))
        found.append(at)
    return found


@given(RECORDS, st.data())
def test_whatever_is_cut_off_what_is_whole_before_it_is_found(records: list[Spooled], data: st.DataObject) -> None:
    written = b"".join(map(encode, records))
    cut = data.draw(st.integers(0, len(written)))
    found, more = decode(written[:cut])
    assert more
    whole = [end for end in ends(records) if end <= cut]
    assert found == list(zip(records[: len(whole)], whole, strict=True))


@given(RECORDS.filter(bool), st.data())
def test_whatever_is_broken_what_comes_before_it_is_found_and_nothing_else_is_made_up(
    records: list[Spooled], data: st.DataObject
) -> None:
    written = bytearray(b"".join(map(encode, records)))
    at = data.draw(st.integers(0, len(written) - 1))
    written[at] ^= data.draw(st.integers(1, 255))
    found, _ = decode(bytes(written))
    before = sum(end <= at for end in ends(records))
    assert [record for record, _ in found] == records[:before]


@given(st.binary(max_size=200))
def test_other_bytes_are_no_records(data: bytes) -> None:
    assert decode(data)[0] == []


def test_zeros_after_a_power_cut_are_no_records() -> None:
    record = Spooled("audio.frames", "call/leg", b"pcm", 1, 2, 3, 4)
    assert decode(encode(record) + bytes(4_096)) == ([(record, len(encode(record)))], False)


def test_a_length_that_cannot_be_is_no_beginning_of_a_record() -> None:
    assert decode((MAX_BODY + 1).to_bytes(4, "little") + bytes(4)) == ([], False)


@given(st.integers(HEADER_BYTES, 2**63))
def test_the_header_says_what_kafka_has(delivered: int) -> None:
    assert len(header()) == HEADER_BYTES
    assert delivered_of(header()) == HEADER_BYTES
    assert delivered_of(header()[:MARK_AT] + mark(delivered)) == delivered


def test_a_mark_that_was_torn_counts_as_nothing_and_another_file_as_none_of_ours() -> None:
    torn = bytearray(header(1_000))
    torn[MARK_AT] ^= 1
    assert delivered_of(bytes(torn)) == HEADER_BYTES
    assert delivered_of(b"\x7fELF" + bytes(40)) is None
    assert delivered_of(header()[:5]) is None
