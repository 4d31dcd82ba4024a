from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callscope.streams import StreamId
from processors.records import AudioFrame, Envelope, Ledger
from processors.stages.arrivals import AGAIN_S, WAITING, Arrivals, OutOfPlace, Restart

STREAM = StreamId("call-1", "customer")
FRAME = 320
BEGAN_NS = 1_000_000


def frames(count: int, *, began_ns: int = BEGAN_NS, gaps: frozenset[int] = frozenset()) -> list[Envelope]:
    """A stream's records; before those of `gaps` there is a hole, of which they tell."""
    out, start = [], 0
    for n in range(count):
        gap = 5 * FRAME if n in gaps else 0
        pcm = np.full(FRAME, n, np.int16)
        last = n == count - 1
        out.append(
            Envelope(AudioFrame(STREAM, n, start + gap, pcm, gap, last), Ledger(arrived_ns=began_ns + n * 20_000))
        )
        start += gap + FRAME
    return out


class Seen:
    def __init__(self) -> None:
        self.refused: list[tuple[Envelope, OutOfPlace]] = []
        self.arrivals = Arrivals(lambda envelope, error: self.refused.append((envelope, error)))

    def __call__(self, *envelopes: Envelope) -> list[Envelope | Restart]:
        return self.arrivals(envelopes)


def test_records_in_order_pass_at_once() -> None:
    seen = Seen()
    for envelope in frames(50, gaps=frozenset({7, 20})):
        assert seen(envelope) == [envelope]


@settings(max_examples=200)
@given(st.data())
def test_repeated_and_reordered_records_leave_no_trace(data: st.DataObject) -> None:
    """Each record may come late by up to 8 others, and again at any time after; the stream comes out as it was."""
    count = data.draw(st.integers(2, 60))
    stream = frames(count, gaps=data.draw(st.frozensets(st.integers(1, count - 1), max_size=5)))
    places = [(n + data.draw(st.integers(0, 8)) if n else -1, n) for n in range(count)]
    mixed = [stream[n] for _, n in sorted(places)]
    for again in data.draw(st.lists(st.integers(0, count - 1), max_size=10)):
        first = mixed.index(stream[again])
        mixed.insert(data.draw(st.integers(first + 1, len(mixed))), stream[again])
    seen, out = Seen(), []
    while mixed:
        size = data.draw(st.integers(1, 20))
        out += seen(*mixed[:size])
        del mixed[:size]
    assert out == stream
    assert seen.refused == []


def test_a_stream_goes_on_over_records_that_never_come() -> None:
    seen, stream = Seen(), frames(60)
    out = seen(*stream[:10], *stream[12:])
    assert out == [*stream[:10], *stream[12:]]
    assert seen.refused == []


def test_what_leads_nowhere_is_refused_and_the_stream_does_not_notice() -> None:
    seen, stream = Seen(), frames(60)
    stray = Envelope(AudioFrame(STREAM, 9, 2**50, np.zeros(FRAME, np.int16)), Ledger(arrived_ns=BEGAN_NS))
    assert seen(*stream[:10], stray, *stream[10:]) == stream
    ((refused, error),) = seen.refused
    assert refused is stray
    assert "nothing that came leads up to it" in str(error)


def test_a_stray_record_is_not_taken_for_the_other_side_of_a_hole() -> None:
    seen, stream = Seen(), frames(60)
    stray = Envelope(AudioFrame(STREAM, 9, 11 * FRAME, np.zeros(FRAME, np.int16)), Ledger(arrived_ns=BEGAN_NS))
    far = Envelope(AudioFrame(STREAM, 9, 2**50, np.zeros(FRAME, np.int16)), Ledger(arrived_ns=BEGAN_NS))
    out = seen(*stream[:10], far, stray, *stream[20:])
    assert out == [*stream[:10], *stream[20:]]
    assert {envelope for envelope, _ in map(lambda r: (id(r[0]), r[1]), seen.refused)} == {id(far), id(stray)}


@pytest.mark.parametrize("lost_last", [False, True])
def test_what_waits_when_a_stream_is_over_comes_out_in_order(lost_last: bool) -> None:
    seen, stream = Seen(), frames(15)
    far = Envelope(AudioFrame(STREAM, 9, 2**50, np.zeros(FRAME, np.int16)), Ledger(arrived_ns=BEGAN_NS))
    late = stream[8:13] if lost_last else stream[8:]
    assert seen(*stream[:6], far, *reversed(late)) == stream[:6]
    assert seen.arrivals.rest(STREAM) == late
    assert [envelope for envelope, _ in seen.refused] == [far]
    assert seen.arrivals.rest(STREAM) == []


def test_what_comes_again_after_the_end_is_no_new_stream() -> None:
    seen, stream = Seen(), frames(20)
    assert seen(*stream) == stream
    assert seen(stream[0], stream[12], stream[-1]) == []


@pytest.mark.parametrize("later_ns", [10_000_000, -500_000])
def test_an_id_that_is_used_again_begins_anew(later_ns: int) -> None:
    """Also where the gateway's clock was set back."""
    seen, stream = Seen(), frames(20)
    later = frames(20, began_ns=BEGAN_NS + later_ns)
    assert seen(*stream, *later) == [*stream, *later]


def test_a_first_record_begins_anew_where_the_end_was_never_seen() -> None:
    seen, stream = Seen(), frames(AGAIN_S * 50 + 10)[:-1]
    later = frames(20, began_ns=BEGAN_NS + 10_000_000)
    assert seen(*stream, *later) == [*stream, Restart(STREAM), *later]


def test_what_begins_again_at_once_is_the_same_stream() -> None:
    """A client whose gateway died before it had acknowledged anything sends all of it again, to another one."""
    seen, stream = Seen(), frames(40)
    again = frames(40, began_ns=BEGAN_NS + 10_000_000)
    assert seen(*stream[:10], *again) == [*stream[:10], *again[10:]]


def test_a_stream_of_another_worker_is_gone_on_with() -> None:
    """From a record on that its mark names; a later one that came before it waits for its turn here too."""
    seen, stream = Seen(), frames(40)
    early, first = stream[13], stream[10]
    seen.arrivals.resume(STREAM, 10 * FRAME, 10, BEGAN_NS)
    assert seen(early, first, *stream[11:]) == stream[10:]


def test_who_begins_with_a_record_needs_those_that_wait_for_it() -> None:
    """So it goes by the offset of the first of these."""
    seen = Seen()
    stream = [replace(envelope, offset=n) for n, envelope in enumerate(frames(20)[:-1])]
    late = replace(stream[5], offset=100)
    out = seen(*stream[:5], *stream[6:8], late, *stream[8:])
    assert [one.offset for one in out if isinstance(one, Envelope)][4:9] == [4, 6, 6, 7, 8]


def test_another_gateway_that_goes_on_with_a_stream_begins_nothing_anew() -> None:
    """It counts from 0, from the position that its client knows to be safe, which is before what was published."""
    seen, stream = Seen(), frames(40)
    at = 15 * FRAME
    records = [envelope.record for envelope in stream[15:] if isinstance(envelope.record, AudioFrame)]
    going_on = [
        Envelope(replace(record, seq=n, gap_before=0 if n else at), Ledger(arrived_ns=7 + n))
        for n, record in enumerate(records)
    ]
    out = seen(*stream[:18], *going_on)
    assert seen.refused == []
    heard = [one.record for one in out if isinstance(one, Envelope) and isinstance(one.record, AudioFrame)]
    assert len(heard) == len(out), "nothing begins anew"
    reached = 0
    for frame in heard:
        assert frame.start <= reached
        reached = max(reached, frame.start + FRAME)
    assert reached == 40 * FRAME
    assert heard[-1].last


def test_of_streams_that_others_have_nothing_is_known() -> None:
    seen, stream = Seen(), frames(20)
    seen(*stream[:5])
    seen.arrivals.drop(lambda one: one == STREAM)
    assert seen(*stream[7:]) == stream[7:]


def test_an_ended_stream_that_went_silent_goes_on() -> None:
    seen, stream = Seen(), frames(2 * WAITING)
    seen(*stream[:10])
    seen.arrivals.rest(STREAM)
    assert seen(*stream[10:]) == stream[10:]
