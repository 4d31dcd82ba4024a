from __future__ import annotations

from callscope.restarts import DELAYS_S, SOUND_S, Restarts


def test_one_that_ends_at_every_start_is_started_again_ever_later_and_then_no_more() -> None:
    restarts, now = Restarts(0.0), 0.0
    for delay in DELAYS_S:
        assert restarts.ended(now) == delay
        now += delay
        restarts.started(now)
        now += 1.0
    assert restarts.ended(now) is None
    assert restarts.ends == len(DELAYS_S) + 1


def test_one_that_ran_for_long_is_started_again_at_once() -> None:
    restarts, now = Restarts(0.0), 0.0
    for _ in range(20):
        now += SOUND_S
        assert restarts.ended(now) == 0.0
        restarts.started(now)
