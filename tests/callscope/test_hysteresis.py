from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from callscope.hysteresis import Hysteresis

HIGH, LOW, RISE_S, FALL_S = 100.0, 50.0, 1.0, 4.0
figures = st.lists(st.tuples(st.floats(0, 200), st.floats(0.001, 2.0)), max_size=60)


def levels() -> Hysteresis:
    return Hysteresis(2, HIGH, LOW, RISE_S, FALL_S)


@given(figures)
def test_the_level_changes_by_one_and_only_after_a_wait_on_one_side(steps: list[tuple[float, float]]) -> None:
    hysteresis, now = levels(), 0.0
    since = {"high": 0.0, "low": 0.0}
    changed_at, before = 0.0, 0
    for value, pause in steps:
        now += pause
        if value <= HIGH:
            since["high"] = float("inf")
        elif since["high"] == float("inf") or (not changed_at and now == pause):
            since["high"] = now
        if value > LOW:
            since["low"] = float("inf")
        elif since["low"] == float("inf"):
            since["low"] = now
        level = hysteresis.observe(value, now)
        assert abs(level - before) <= 1
        assert 0 <= level <= 2
        if level > before:
            assert value > HIGH
        if level < before:
            assert value <= LOW
            assert now - max(since["low"], changed_at) >= FALL_S - 1e-9
        if level != before:
            changed_at, before = now, level


@given(figures)
def test_between_the_thresholds_nothing_changes(steps: list[tuple[float, float]]) -> None:
    hysteresis, now = levels(), 0.0
    hysteresis.observe(HIGH + 1, 0.0)
    hysteresis.observe(HIGH + 1, RISE_S)
    for value, pause in steps:
        now += pause
        assert hysteresis.observe(LOW + 1 + value / 200 * (HIGH - LOW - 1), RISE_S + now) == 1


@given(figures, st.floats(0.01, 1.0))
def test_two_waits_after_the_last_high_figure_everything_is_back(
    steps: list[tuple[float, float]], every_s: float
) -> None:
    hysteresis, now = levels(), 0.0
    for value, pause in steps:
        now += pause
        hysteresis.observe(value, now)
    calm_from = now
    while now < calm_from + 2 * FALL_S + 3 * every_s:
        now += every_s
        hysteresis.observe(LOW, now)
    assert hysteresis.level == 0


def test_a_single_high_figure_changes_nothing() -> None:
    hysteresis = levels()
    hysteresis.observe(10 * HIGH, 0.0)
    hysteresis.observe(LOW, 5.0)
    assert hysteresis.observe(10 * HIGH, 6.0) == 0
