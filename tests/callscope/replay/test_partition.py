from __future__ import annotations

import numpy as np
import pytest

from callscope.replay.partition import Partition, is_wanted
from callscope.replay.plan import Part, PartitionState, Plan
from callscope.streams import StreamId
from processors.records import AudioFrame, Envelope, Ledger

A, B = StreamId("a", "customer"), StreamId("b", "customer")
SECOND = 1_000_000_000


def frame(stream: StreamId, seq: int, arrived_s: float = 0.0, gap: int = 0) -> Envelope:
    record = AudioFrame(stream, seq, seq * 320, np.zeros(320, np.int16), gap_before=gap)
    return Envelope(record, Ledger(int(arrived_s * SECOND)))


@pytest.fixture
def partition() -> Partition:
    return Partition(Part(3, 10, 30, 20), PartitionState(10, 10), 5.0)


def test_goes_on_before_the_first_stream_that_is_open(partition: Partition) -> None:
    for offset, stream in ((10, A), (11, B), (12, A), (13, B)):
        assert partition.admit(offset, frame(stream, (offset - 10) // 2))
    assert partition.checkpoint().next == 10
    partition.ended(A, "digest of a")
    assert partition.checkpoint().next == 11
    partition.ended(B, "")
    assert partition.checkpoint().next == 14
    assert partition.state.legs["a/customer"].digest == "digest of a"


def test_a_second_attempt_passes_over_what_is_done(partition: Partition) -> None:
    partition.admit(10, frame(B, 0))
    partition.admit(11, frame(A, 0))
    partition.ended(A, "digest of a")
    second = Partition(partition.part, partition.checkpoint(), 5.0)
    assert second.state.next == 10
    assert second.admit(10, frame(B, 0)) and not second.admit(11, frame(A, 0))
    assert second.admit(12, frame(A, 0)), "what comes behind its end was not done"
    second.ended(A, "of another")
    leg = second.state.legs["a/customer"]
    assert (leg.again, leg.records, leg.samples, leg.digest) == (True, 2, 640, "of another")


def test_a_stream_is_idle_by_when_audio_arrived(partition: Partition) -> None:
    partition.admit(10, frame(A, 0, arrived_s=0.0))
    partition.admit(11, frame(B, 0, arrived_s=3.0))
    assert partition.idle(5 * SECOND) == []
    assert partition.idle(5 * SECOND + 1) == [A]
    partition.admit(12, frame(A, 1, arrived_s=4.0))
    assert partition.idle(8 * SECOND + 1) == [B]
    assert partition.idle(10 * SECOND) == [B, A]


def test_what_is_not_wanted_moves_on_and_unreadable_counts_once(partition: Partition) -> None:
    partition.skipped(10)
    partition.skipped(11, unreadable=True)
    partition.skipped(11, unreadable=True)
    state = partition.checkpoint()
    assert (state.next, state.position, state.unreadable) == (12, 12, 1)


def test_what_a_leg_was(partition: Partition) -> None:
    partition.admit(10, frame(A, 4))
    partition.admit(11, frame(A, 8, gap=960))
    assert partition.open == [A]
    partition.ended(A, "", ended=False)
    leg = partition.state.legs["a/customer"]
    assert (leg.whole, leg.ended, leg.gaps, leg.gap_samples, leg.end, leg.until) == (False, False, 1, 960, 2_880, 11)


def test_whose_calls_are_wanted() -> None:
    plan = Plan("r", "kafka", "none")
    assert is_wanted(plan, None, "acme~c") and is_wanted(plan, {"c"}, "c") and not is_wanted(plan, {"c"}, "d")
    acme = Plan("r", "kafka", "none", tenant="acme")
    assert is_wanted(acme, None, "acme~c") and not is_wanted(acme, None, "c") and not is_wanted(acme, None, "b~c")
    assert is_wanted(Plan("r", "kafka", "none", tenant=""), None, "c"), "those that belong to no tenant"
