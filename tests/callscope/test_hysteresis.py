from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from callscope.hysteresis import Hysteresis

HIGH, LOW, RISE_S, FALL_S = 100.0, 50.0, 1.0, 4.0
figures = st.lists(st.tuples(st.floats(0, 200), st.floats(0.001, 2.0)), max_size=60)


def levels() -> Hysteresis:
    return Hysteresis(2, HIGH, LOW, RISE_S, FALL_S)


@given(figures)
def test_the_level_changes_by_one_and_never_sooner_than_its_wait_allows(steps: list[tuple[float, float]]) -> None:
    hysteresis, now, before, changed_at, fell_at = levels(), 0.0, 0, 0.0, -FALL_S
    for value, pause in steps:
        now += pause
        level = hysteresis.observe(value, now)
        assert abs(level - before) <= 1
        assert 0 <= level <= 2
        if level > before:
            assert value > HIGH
            assert now - changed_at >= min(RISE_S, now) - 1e-9 or now - fell_at <= FALL_S
        if level < before:
            assert value <= LOW
            assert now - changed_at >= FALL_S - 1e-9
            fell_at = now
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


def test_what_was_given_up_too_early_is_taken_up_again_at_once() -> None:
    hysteresis = levels()
    for now in (0.0, RISE_S, 2 * RISE_S):
        hysteresis.observe(HIGH + 1, now)
    assert hysteresis.level == 2
    hysteresis.observe(LOW, 3.0)
    assert hysteresis.observe(LOW, 3.0 + FALL_S) == 1
    assert hysteresis.observe(HIGH + 1, 4.0 + FALL_S) == 2
    hysteresis.observe(LOW, 5.0 + FALL_S)
    assert hysteresis.observe(LOW, 5.0 + 2 * FALL_S) == 1
    hysteresis.observe((LOW + HIGH) / 2, 5.0 + 3 * FALL_S)
    assert hysteresis.observe(HIGH + 1, 6.0 + 3 * FALL_S) == 1, "long after a fall it waits again"


def test_by_the_mean_it_falls_though_a_few_figures_are_high() -> None:
    smoothed, plain = Hysteresis(1, HIGH, LOW, 0.0, FALL_S, 0.5), Hysteresis(1, HIGH, LOW, 0.0, FALL_S)
    for hysteresis in (smoothed, plain):
        hysteresis.observe(HIGH + 1, 0.0)
        for tick in range(1, 400):
            hysteresis.observe(2 * LOW if tick % 20 == 0 else LOW / 2, tick * 0.02)
    assert (smoothed.level, plain.level) == (0, 1)
