from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from callscope.streams import StreamId
from processors.records import Consent
from processors.stages.consents import Consents

CUSTOMER, AGENT = StreamId("call", "customer"), StreamId("call", "agent")
WEEK_MS = 7 * 24 * 3_600_000


def consents(*told: Consent) -> Consents:
    known = Consents(WEEK_MS)
    for consent in told:
        known.note(consent)
    return known


def refusal(at: int, leg: str = "customer", purposes: tuple[str, ...] = ()) -> Consent:
    return Consent("call", leg, at, allowed=False, purposes=purposes)


def leave(at: int, leg: str = "customer", purposes: tuple[str, ...] = ()) -> Consent:
    return Consent("call", leg, at, allowed=True, purposes=purposes)


def test_what_nobody_speaks_of_is_allowed() -> None:
    assert consents().allow(CUSTOMER, "emotion", 0, 100)
    assert consents(refusal(0)).allow(StreamId("another", "customer"), "emotion", 0, 100)
    assert consents(refusal(0)).allow(AGENT, "emotion", 0, 100)


def test_a_refusal_holds_for_spans_that_end_after_it() -> None:
    known = consents(refusal(50))
    assert known.allow(CUSTOMER, "emotion", 0, 50)
    assert not known.allow(CUSTOMER, "emotion", 0, 51)
    assert not known.allow(CUSTOMER, "any", 50, 60)


def test_after_leave_is_given_again_only_spans_that_begin_after_it_are_allowed() -> None:
    known = consents(refusal(50), leave(80))
    assert known.allow(CUSTOMER, "emotion", 20, 50)
    assert not known.allow(CUSTOMER, "emotion", 79, 200)
    assert known.allow(CUSTOMER, "emotion", 80, 200)
    assert not known.allow(CUSTOMER, "emotion", 0, 200)


def test_a_later_record_overrules_an_earlier_one_from_its_time_on() -> None:
    """A client that connects again under the same ids begins at media time 0."""
    assert consents(refusal(50), leave(0)).allow(CUSTOMER, "emotion", 0, 200)


def test_a_refusal_may_be_about_one_purpose() -> None:
    known = consents(refusal(0, purposes=("emotion",)))
    assert not known.allow(CUSTOMER, "emotion", 0, 100)
    assert known.allow(CUSTOMER, "health", 0, 100)


def test_a_refusal_without_a_leg_is_for_the_whole_call() -> None:
    known = consents(refusal(0, leg=""))
    assert not known.allow(CUSTOMER, "emotion", 0, 100)
    assert not known.allow(AGENT, "emotion", 0, 100)


def test_calls_whose_records_are_gone_are_forgotten() -> None:
    known = consents(Consent("old", "customer", 0, allowed=False, written_ms=0))
    known.note(Consent("call", "customer", 0, allowed=False, written_ms=WEEK_MS))
    assert len(known) == 2
    known.note(Consent("old", "customer", 9, allowed=False, written_ms=WEEK_MS + 1))
    assert len(known) == 2
    known.note(Consent("new", "customer", 0, allowed=False, written_ms=2 * WEEK_MS + 1))
    assert len(known) == 2
    assert not known.allow(StreamId("old", "customer"), "any", 9, 10)


@given(
    st.lists(st.tuples(st.integers(0, 20), st.booleans(), st.sampled_from(["", "customer", "agent"])), max_size=6),
    st.integers(0, 20),
    st.integers(1, 10),
)
def test_a_span_is_allowed_if_each_of_its_samples_is(
    told: list[tuple[int, bool, str]], start: int, length: int
) -> None:
    events = [Consent("call", leg, at, allowed) for at, allowed, leg in told]

    def allowed(sample: int) -> bool:
        about = [e.allowed for e in events if e.at <= sample and e.leg in ("", "customer")]
        return about[-1] if about else True

    expected = all(allowed(sample) for sample in range(start, start + length))
    assert consents(*events).allow(CUSTOMER, "any", start, start + length) == expected
