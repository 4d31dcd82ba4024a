from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.protocols.placing import MAX_HELD, Piece, Track

RATE_HZ = 8_000
CHUNK = 160
CHUNK_MS = 20
WINDOW_MS = 100

Chunk = tuple[int, int, bytes]
"""Number, timestamp in ms, data."""


def chunk(number: int, at_ms: int | None = None) -> Chunk:
    """The chunk of a stream without holes; its bytes tell which it is."""
    return number, (number - 1) * CHUNK_MS if at_ms is None else at_ms, number.to_bytes(2, "big") * (CHUNK // 2)


def placed(chunks: list[Chunk], window_ms: int = WINDOW_MS, flush: bool = True) -> list[Piece]:
    """What comes out, neighbouring audio joined."""
    track = Track(RATE_HZ, 1, window_ms)
    pieces: list[Piece] = []
    for number, at_ms, data in chunks:
        pieces += track.push(number, at_ms, data)
    if flush:
        pieces += track.flush()
    assert track.clock == sum(piece if isinstance(piece, int) else len(piece) for piece in pieces)
    return joined(pieces)


def joined(pieces: list[Piece]) -> list[Piece]:
    whole: list[Piece] = []
    for piece in pieces:
        last = whole[-1] if whole else None
        if isinstance(piece, bytes) and isinstance(last, bytes):
            whole[-1] = last + piece
        else:
            whole.append(piece)
    return whole


def audio(*numbers: int) -> bytes:
    return b"".join(chunk(number)[2] for number in numbers)


def test_chunks_in_order_come_out_at_once() -> None:
    track = Track(RATE_HZ, 1, WINDOW_MS)
    for number in range(1, 50):
        assert track.push(*chunk(number)) == [audio(number)]
    assert track.flush() == []
    assert track.late == 0


def test_a_chunk_that_is_early_waits_for_the_one_before() -> None:
    track = Track(RATE_HZ, 1, WINDOW_MS)
    assert track.push(*chunk(1)) == [audio(1)]
    assert track.push(*chunk(3)) == []
    assert track.push(*chunk(4)) == []
    assert joined(track.push(*chunk(2))) == [audio(2, 3, 4)]


def test_a_missing_chunk_is_a_hole_once_the_window_has_passed() -> None:
    track = Track(RATE_HZ, 1, WINDOW_MS)
    track.push(*chunk(1))
    for number in range(3, 8):  # 100 ms
        assert track.push(*chunk(number)) == []
    assert joined(track.push(*chunk(8))) == [CHUNK, audio(3, 4, 5, 6, 7, 8)]
    assert track.push(*chunk(2)) == []
    assert track.late == 1
    assert track.push(*chunk(9)) == [audio(9)]


def test_what_waits_comes_out_at_the_end() -> None:
    assert placed([chunk(1), chunk(3)]) == [audio(1), CHUNK, audio(3)]
    assert placed([chunk(1), chunk(3)], flush=False) == [audio(1)]


def test_duplicates_are_late_whether_the_first_one_waits_or_has_come_out() -> None:
    track = Track(RATE_HZ, 1, WINDOW_MS)
    track.push(*chunk(1))
    assert track.push(*chunk(1)) == []
    track.push(*chunk(3))
    assert track.push(*chunk(3)) == []
    assert track.late == 2


def test_the_first_chunk_is_placed_where_its_timestamp_says() -> None:
    assert placed([chunk(1, 70), chunk(2, 90)]) == [560, audio(1, 2)]
    assert placed([chunk(1, 5)]) == [40, audio(1)]


def test_a_lost_beginning() -> None:
    assert placed([chunk(3), chunk(4)]) == [2 * CHUNK, audio(3, 4)]


def test_timestamps_that_wobble_make_no_holes() -> None:
    wobble = [0, 21, 39, 75, 80, 118, 112, 160]
    assert placed([chunk(n + 1, at) for n, at in enumerate(wobble)]) == [audio(*range(1, 9))]


def test_a_source_that_was_silent_makes_a_hole_without_missing_numbers() -> None:
    assert placed([chunk(1), chunk(2, 1_020)]) == [audio(1), 8_000, audio(2)]


def test_small_holes_without_missing_numbers_add_up_until_they_count() -> None:
    assert placed([chunk(1, 0), chunk(2, 45), chunk(3, 90), chunk(4, 135)]) == [audio(1, 2), 400, audio(3, 4)]


def test_a_wobbling_timestamp_after_missing_numbers_does_not_change_the_holes_length() -> None:
    assert placed([chunk(1), chunk(4, 71)]) == [audio(1), 2 * CHUNK, audio(4)]
    assert placed([chunk(1), chunk(4, 500)]) == [audio(1), 480 * 8, audio(4)]


def test_numbers_that_skip_though_time_does_not() -> None:
    # As where a platform counts both tracks together.
    track = Track(RATE_HZ, 1, WINDOW_MS)
    for n in range(20):
        assert track.push(2 * n + 1, n * CHUNK_MS, audio(n)) == [audio(n)]


def test_timestamps_that_stand_still() -> None:
    assert placed([chunk(number, 5) for number in range(1, 200)]) == [40, audio(*range(1, 200))]


def test_another_clock_takes_over_without_a_hole() -> None:
    # Forward by a day, then back to 0; a hole after that is as long as it is.
    day = 86_400_000
    chunks = [chunk(1), chunk(2, day), chunk(3, day + 20), chunk(4, 0), chunk(5, 1_020)]
    assert placed(chunks) == [audio(1, 2, 3, 4), 8_000, audio(5)]


def test_chunks_without_numbers_or_timestamps_come_as_they_come() -> None:
    track = Track(RATE_HZ, 1, WINDOW_MS)
    assert track.push(None, 0, b"a" * CHUNK) == [b"a" * CHUNK]
    assert track.push(None, None, b"b" * CHUNK) == [b"b" * CHUNK]
    assert track.push(None, 1_040, b"c" * CHUNK) == [8_000, b"c" * CHUNK]
    assert track.push(7, None, b"d" * CHUNK) == [b"d" * CHUNK]


def test_empty_chunks_bring_out_nothing_but_count() -> None:
    track = Track(RATE_HZ, 1, WINDOW_MS)
    assert track.push(1, 0, b"") == []
    assert track.push(2, 0, b"x") == [b"x"]


def test_sixteen_bit_samples_are_two_bytes() -> None:
    track = Track(16_000, 2, WINDOW_MS)
    assert track.push(1, 0, bytes(640)) == [bytes(640)]
    assert track.push(2, 100, bytes(640)) == [1_280, bytes(640)]


def test_only_so_many_chunks_wait() -> None:
    track = Track(RATE_HZ, 1, 3_600_000)
    track.push(*chunk(1))
    held = 0
    while not track.push(*chunk(3 + held)):
        held += 1
        assert held <= MAX_HELD
    assert held == MAX_HELD


@st.composite
def displaced(draw: st.DrawFn) -> tuple[list[Chunk], list[Chunk]]:
    """A stream with some chunks lost, in order; and the same with every chunk at most four places late."""
    count = draw(st.integers(1, 60))
    lost = draw(st.sets(st.integers(1, count), max_size=count // 2))
    wobble = draw(st.lists(st.integers(-4, 4), min_size=count, max_size=count))
    lead_ms = draw(st.integers(10, 300))
    silences = draw(st.dictionaries(st.integers(1, count), st.integers(50, 5_000), max_size=3))
    chunks: list[Chunk] = []
    at_ms = lead_ms
    for number in range(1, count + 1):
        at_ms += silences.get(number, 0)
        if number not in lost:
            chunks.append(chunk(number, at_ms + wobble[number - 1]))
        at_ms += CHUNK_MS
    delays = draw(st.lists(st.floats(0, 3.99), min_size=len(chunks), max_size=len(chunks)))
    order = sorted(range(len(chunks)), key=lambda i: chunks[i][0] + delays[i])
    return chunks, [chunks[i] for i in order]


@given(displaced())
def test_the_order_of_arrival_changes_nothing_within_the_window(streams: tuple[list[Chunk], list[Chunk]]) -> None:
    in_order, reordered = streams
    assert placed(reordered) == placed(in_order)


@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(0, 2**60),
            st.none() | st.integers(-(2**60), 2**60),
            st.binary(max_size=400),
        ),
        max_size=80,
    ),
    st.integers(0, 500),
)
def test_whatever_comes_every_byte_comes_out_once_or_is_counted(
    chunks: list[tuple[int | None, int | None, bytes]], window_ms: int
) -> None:
    track = Track(RATE_HZ, 1, window_ms)
    pieces: list[Piece] = []
    late = 0
    for number, at_ms, data in chunks:
        before = track.late
        pieces += track.push(number, at_ms, data)
        if track.late > before:
            late += len(data)
    pieces += track.flush()
    assert all(pieces), "no empty pieces, no holes of nothing"
    assert all(piece > 0 for piece in pieces if isinstance(piece, int))
    assert sum(len(piece) for piece in pieces if isinstance(piece, bytes)) + late == sum(len(c[2]) for c in chunks)


@pytest.mark.parametrize("cut", [lambda data: [data], lambda data: [data[i : i + 7] for i in range(0, len(data), 7)]])
def test_any_length_of_chunk_will_do(cut: Callable[[bytes], list[bytes]]) -> None:
    whole = bytes(range(256)) * 10
    track = Track(RATE_HZ, 1, WINDOW_MS)
    out = b""
    at = 0
    for number, data in enumerate(cut(whole), start=1):
        for piece in track.push(number, at * 1_000 // RATE_HZ, data):
            assert isinstance(piece, bytes)
            out += piece
        at += len(data)
    assert out == whole
