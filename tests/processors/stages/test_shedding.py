from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from callscope.config import Overload
from processors.stages.shedding import Shedding

CONFIG = Overload()
ALL = ("detect", "extract", "infer")
lags = st.lists(st.tuples(st.floats(0, 2_000), st.floats(0.01, 1.0)), max_size=80)


@given(lags)
def test_infer_goes_first_then_extract_and_detect_never(steps: list[tuple[float, float]]) -> None:
    shedding, now = Shedding(CONFIG, ALL), 0.0
    for lag_ms, pause in steps:
        now += pause
        before = shedding.shed
        assert shedding.observe(lag_ms, now) == (shedding.shed != before)
        assert shedding.shed in ((), ("infer",), ("infer", "extract"))
        assert abs(len(shedding.shed) - len(before)) <= 1


@given(lags)
def test_within_ten_seconds_of_normal_load_everything_is_back(steps: list[tuple[float, float]]) -> None:
    shedding, now = Shedding(CONFIG, ALL), 0.0
    for lag_ms, pause in steps:
        now += pause
        shedding.observe(lag_ms, now)
    for _ in range(100):
        now += 0.1
        shedding.observe(0.75 * CONFIG.calm_ms, now)
    assert shedding.shed == ()


@given(lags)
def test_a_level_lasts_for_its_wait_at_least_so_that_nothing_flaps(steps: list[tuple[float, float]]) -> None:
    shedding, now, risen_at = Shedding(CONFIG, ALL), 0.0, 0.0
    for lag_ms, pause in steps:
        now += pause
        before = shedding.level
        shedding.observe(lag_ms, now)
        if shedding.level > before:
            risen_at = now
        if shedding.level < before:
            assert now - risen_at >= CONFIG.fall_s


def overloaded(*stages: str, config: Overload = CONFIG) -> Shedding:
    shedding = Shedding(config, stages)
    for tenth in range(100):
        shedding.observe(1_000, tenth / 10)
    return shedding


def test_a_worker_of_one_stage_sheds_that_one_only() -> None:
    assert overloaded("infer").shed == ("infer",)
    assert overloaded("extract").shed == ("extract",)
    assert overloaded("detect").shed == ()


def test_turned_off_nothing_is_shed() -> None:
    assert overloaded(*ALL, config=Overload(shed=False)).shed == ()


def test_old_audio_says_nothing_of_the_lag() -> None:
    shedding = Shedding(CONFIG, ALL)
    assert shedding.lag_ms([5_000.0, 86_400_000.0, 20.0]) == 5_000.0
    assert shedding.lag_ms([86_400_000.0]) is None
    assert shedding.lag_ms([]) is None
