"""The queue policy, against every order of puts and takes hypothesis can think of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callscope.mailbox import Mailbox

# True: a final item comes in, False: an interim one, None: the oldest is taken.
steps = st.lists(st.sampled_from([True, False, False, None]), max_size=200)


@given(limit=st.integers(1, 12), steps=steps)
def test_nothing_final_is_lost_before_the_limit_and_order_is_kept(limit: int, steps: list[bool | None]) -> None:
    mailbox: Mailbox[tuple[int, bool]] = Mailbox(limit)
    put: list[tuple[int, bool]] = []
    taken: list[tuple[int, bool]] = []
    dropped = 0
    for number, step in enumerate(steps):
        if step is None:
            if len(mailbox):
                taken.append(mailbox.take())
            continue
        finals_waiting = sum(final for _, final in put) - sum(final for _, final in taken)
        dropped += mailbox.put((number, step), final=step)
        if mailbox.overflowed:
            assert step and finals_waiting == limit, "overflow only when a final finds nothing but finals"
            break
        put.append((number, step))
        assert len(mailbox) <= limit
    while len(mailbox):
        taken.append(mailbox.take())
    assert taken == sorted(taken), "in the order they came"
    assert [item for item in taken if item[1]] == [item for item in put if item[1]], "every final arrives"
    assert len(put) - len(taken) == dropped == mailbox.take_dropped()
    assert mailbox.take_dropped() == 0


def test_the_oldest_interim_goes_first() -> None:
    mailbox: Mailbox[str] = Mailbox(3)
    mailbox.put("final", final=True)
    mailbox.put("old", final=False)
    mailbox.put("newer", final=False)
    assert mailbox.put("newest", final=False) == 1
    assert [mailbox.take() for _ in range(3)] == ["final", "newer", "newest"]


def test_among_finals_only_a_new_interim_is_the_one_to_go() -> None:
    mailbox: Mailbox[str] = Mailbox(2)
    mailbox.put("a", final=True)
    mailbox.put("b", final=True)
    assert mailbox.put("interim", final=False) == 1
    assert not mailbox.overflowed
    assert [mailbox.take(), mailbox.take()] == ["a", "b"]


def test_taking_from_an_empty_one_is_an_error() -> None:
    with pytest.raises(IndexError):
        Mailbox[str](1).take()
