from __future__ import annotations

from types import SimpleNamespace

from faust.types import TP

from callscope.streams import StreamId
from processors.gathering import Gathering, shares
from processors.records import Envelope, Insight
from processors.transport import Batch


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def batch(partition: int, records: int = 4) -> Batch:
    return Batch(TP("voice.features", partition), [SimpleNamespace(offset=n) for n in range(records)])


def test_a_batch_that_comes_alone_does_not_wait() -> None:
    gathering, alone = Gathering(32, 0.02, Clock()), batch(0)
    assert gathering.add(alone, more_coming=False) == [alone]
    assert alone.undelivered == 1
    gathering.done([alone])
    assert alone.undelivered == 0


def test_batches_wait_while_more_come_until_there_are_enough() -> None:
    gathering = Gathering(10, 0.02, Clock())
    first, second, third = batch(0), batch(1), batch(2)
    assert gathering.add(first, more_coming=True) == []
    assert gathering.add(second, more_coming=True) == []
    assert gathering.add(third, more_coming=True) == [first, second, third]


def test_the_last_of_those_that_come_takes_all_along() -> None:
    gathering = Gathering(32, 0.02, Clock())
    first, second = batch(0), batch(1)
    assert gathering.add(first, more_coming=True) == []
    assert gathering.add(second, more_coming=False) == [first, second]


def test_nothing_waits_longer_than_it_may() -> None:
    clock = Clock()
    gathering = Gathering(32, 0.02, clock)
    first, second = batch(0), batch(1)
    gathering.add(first, more_coming=True)
    clock.now = 0.02
    assert gathering.add(second, more_coming=True) == [first, second]


def test_what_is_given_up_is_forgotten() -> None:
    gathering = Gathering(32, 0.02, Clock())
    gathering.add(batch(0), more_coming=True)
    gathering.drop()
    other = batch(1)
    assert gathering.add(other, more_coming=False) == [other]


def test_results_count_for_the_first_batch_that_holds_their_stream() -> None:
    a, b, c = StreamId("a", "customer"), StreamId("b", "customer"), StreamId("c", "customer")

    def envelope(stream: StreamId) -> Envelope:
        return Envelope(Insight(stream, 0, "arousal", "1", 0, 0, False, 0, ()))

    first, second = batch(0), batch(1)
    arrived = [(first, [envelope(a), envelope(b)]), (second, [envelope(b), envelope(c)])]
    results = [envelope(b), envelope(c), envelope(b), envelope(a)]
    assert shares(arrived, results) == [(first, [results[0], results[2], results[3]]), (second, [results[1]])]
