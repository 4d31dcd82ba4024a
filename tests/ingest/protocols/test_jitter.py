from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.protocols.jitter import Hole, JitterBuffer, Packet, Placed, Quiet

RATE = 48_000
SAMPLES = 960
DELAY_S = 0.06


def packet(number: int, sequence_at: int = 0, timestamp_at: int = 0) -> Packet:
    return Packet(
        (sequence_at + number) % 2**16, (timestamp_at + number * SAMPLES) % 2**32, SAMPLES, number.to_bytes(4, "big")
    )


def at(number: float) -> float:
    return 100 + number * 0.02


class Clock:
    """Gives a buffer its packets at their times, and calls `release` whenever it is due."""

    def __init__(self) -> None:
        self.buffer = JitterBuffer(RATE, DELAY_S)
        self.out: list[tuple[float, Placed]] = []

    def run(self, arrivals: list[tuple[float, Packet]]) -> list[Placed]:
        for now, one in sorted(arrivals, key=lambda arrival: arrival[0]):
            while (due := self.buffer.due_s) is not None and due < now:
                self.take(due, self.buffer.release(due))
            self.take(now, self.buffer.push(one, now))
        while (due := self.buffer.due_s) is not None:
            self.take(due, self.buffer.release(due))
        return [placed for _, placed in self.out]

    def take(self, now: float, placed: list[Placed]) -> None:
        self.out += [(now, one) for one in placed]


def test_what_comes_in_order_goes_out_at_once() -> None:
    clock = Clock()
    clock.run([(at(n), packet(n)) for n in range(50)])
    assert clock.out == [(at(n), packet(n)) for n in range(50)]


def test_swapped_packets_are_put_in_order() -> None:
    order = [0, 2, 1, 3, 6, 5, 4, 7]
    assert Clock().run([(at(i), packet(n)) for i, n in enumerate(order)]) == [packet(n) for n in range(8)]


def test_what_never_comes_is_a_hole_after_the_delay_and_not_before() -> None:
    clock = Clock()
    assert clock.run([(at(n), packet(n)) for n in (0, 1, 4, 5, 6, 7, 8, 9)]) == [
        *map(packet, (0, 1)),
        Hole(2 * SAMPLES, "lost"),
        *map(packet, range(4, 10)),
    ]
    told = next(now for now, placed in clock.out if isinstance(placed, Hole))
    assert told == pytest.approx(at(4) + DELAY_S)


def test_a_late_packet_and_a_second_copy_are_counted_and_nothing_else() -> None:
    clock = Clock()
    arrivals = [(at(n), packet(n)) for n in (0, 1, 3, 4, 5, 6, 7)] + [(at(7) + 0.001, packet(2)), (at(4.5), packet(4))]
    assert clock.run(arrivals) == [
        *map(packet, (0, 1)),
        Hole(SAMPLES, "lost"),
        *map(packet, (3, 4, 5, 6, 7)),
    ]
    assert clock.buffer.late == 2


@pytest.mark.parametrize(("jump", "told"), [(SAMPLES * 20, Quiet(SAMPLES * 20)), (RATE * 3, Hole(RATE * 3, "paused"))])
def test_a_sender_that_sent_nothing_was_quiet_or_paused(jump: int, told: Placed) -> None:
    after = Packet(2, 2 * SAMPLES + jump, SAMPLES, b"after")
    arrivals = [(at(0), packet(0)), (at(1), packet(1)), (at(2) + jump / RATE, after)]
    assert Clock().run(arrivals) == [packet(0), packet(1), told, after]


@pytest.mark.parametrize("timestamp", [2**31, 2**32 - 500_000, 40 * RATE])
def test_a_sender_that_begins_anew_is_placed_by_the_clock(timestamp: int) -> None:
    anew = [Packet(7_000 + n, (timestamp + n * SAMPLES) % 2**32, SAMPLES, b"anew") for n in range(3)]
    arrivals = [(at(0), packet(0)), (at(1), packet(1)), *((at(1) + 2.0 + 0.02 * n, one) for n, one in enumerate(anew))]
    assert Clock().run(arrivals) == [packet(0), packet(1), Hole(2 * RATE - SAMPLES, "paused"), *anew]


def test_a_clock_that_steps_back_while_the_numbers_go_on_begins_anew() -> None:
    back = [Packet(n, n * SAMPLES - RATE, SAMPLES, b"back") for n in range(100, 103)]
    arrivals = [(at(n), packet(n)) for n in range(100)] + [(at(n), one) for n, one in enumerate(back, 100)]
    assert Clock().run(arrivals) == [*map(packet, range(100)), *back]


def test_a_flood_behind_a_hole_is_not_kept() -> None:
    buffer = JitterBuffer(RATE, delay_s=1e6)
    out = [placed for n in (0, *range(2, 1_002)) for placed in buffer.push(packet(n), 100.0)]
    assert Hole(SAMPLES, "lost") in out and len(out) > 500  # far ahead of the clock, the rest is another timeline


def test_flush_gives_what_waits() -> None:
    buffer = JitterBuffer(RATE, DELAY_S)
    buffer.push(packet(0), at(0))
    assert buffer.push(packet(2), at(2)) == []
    assert buffer.flush() == [Hole(SAMPLES, "lost"), packet(2)]
    assert buffer.due_s is None


@given(
    late_ms=st.lists(st.integers(0, 150), min_size=2, max_size=60),
    lost=st.sets(st.integers(1, 59)),
    twice=st.sets(st.integers(0, 59)),
    sequence_at=st.integers(0, 2**16 - 1),
    timestamp_at=st.integers(0, 2**32 - 1),
)
def test_any_network_gives_each_sample_once_in_order_and_within_the_delay(
    late_ms: list[int], lost: set[int], twice: set[int], sequence_at: int, timestamp_at: int
) -> None:
    """Wherever numbers and timestamps wrap around, whatever is late, lost or doubled."""
    late_ms[0] = 0  # time begins with the packet that comes first
    sent = [(n, at(n) + late_ms[n] / 1e3) for n in range(len(late_ms)) if n not in lost or n == 0]
    arrivals = [(when, packet(n, sequence_at, timestamp_at)) for n, when in sent]
    arrivals += [(when + 0.005, packet(n, sequence_at, timestamp_at)) for n, when in sent if n in twice]
    clock = Clock()
    clock.run(arrivals)

    came = dict(sent)
    position = 0
    for now, placed in clock.out:
        if isinstance(placed, Packet):
            number = int.from_bytes(placed.payload, "big")
            assert number * SAMPLES == position
            assert came[number] <= now <= came[number] + DELAY_S + 1e-9
        else:
            assert isinstance(placed, Hole) and placed.reason == "lost"
        position += placed.samples
    heard = [int.from_bytes(placed.payload, "big") for _, placed in clock.out if isinstance(placed, Packet)]
    assert all(before < after for before, after in pairwise(heard))
    # What came no later than the delay after everything behind it is heard.
    for number, when in sent:
        behind = [other for n, other in sent if n > number]
        if not behind or when < min(behind) + DELAY_S:
            assert number in heard
