from __future__ import annotations

import numpy as np

from callscope.replay.pacing import Pacing
from callscope.streams import StreamId
from processors.records import AudioFrame, Envelope, Ledger

A, B = StreamId("a", "customer"), StreamId("b", "customer")


def frame(stream: StreamId, start_s: float, arrived_s: float, *, last: bool = False) -> Envelope:
    record = AudioFrame(stream, 0, round(start_s * 16_000), np.zeros(1_600, np.int16), last=last)
    return Envelope(record, Ledger(round((1_000 + arrived_s) * 1e9)))


def test_a_stream_begins_when_it_did_and_goes_on_by_its_media_time() -> None:
    for speed in (1.0, 4.0):
        pacing = Pacing(speed)
        due = [
            pacing.due_s(frame(A, 0.0, 0.0)),
            pacing.due_s(frame(A, 0.1, 0.0)),  # sent faster than it was spoken
            pacing.due_s(frame(B, 0.0, 2.0)),
            pacing.due_s(frame(A, 0.2, 2.5)),  # held up on its way
            pacing.due_s(frame(B, 5.0, 2.5)),  # over a hole
        ]
        assert np.allclose(due, np.array([0.1, 0.2, 2.1, 0.3, 7.1]) / speed)


def test_nothing_is_waited_for_long() -> None:
    pacing = Pacing(1.0)
    pacing.due_s(frame(A, 0.0, 0.0))
    assert np.isclose(pacing.due_s(frame(A, 50_000.0, 0.1)), 0.1), "a media time that may be wrong"
    assert np.isclose(pacing.due_s(frame(A, 0.1, 0.2)), 0.2)
    assert np.isclose(pacing.due_s(frame(B, 0.0, 30_000.0)), 10.3), "a quiet night, or a clock that was set"


def test_a_name_that_is_used_again_begins_anew() -> None:
    pacing = Pacing(1.0)
    pacing.due_s(frame(A, 0.0, 0.0))
    pacing.due_s(frame(A, 3.0, 3.0, last=True))
    assert np.isclose(pacing.due_s(frame(A, 0.0, 5.0)), 5.1)
