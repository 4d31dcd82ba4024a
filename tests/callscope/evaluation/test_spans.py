from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callscope.evaluation.spans import Span, both_s, merge, on_grid, spans_of, spoken_in

spans = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 10)), max_size=6).map(
    lambda found: merge([(a / 10, (a + length) / 10) for a, length in found], 0.0)
)


def test_spans_and_frames() -> None:
    assert spans_of(np.array([True, False, True, True])) == ((0.0, 0.01), (0.02, 0.04))
    assert merge([(1.0, 1.5), (0.0, 0.9), (1.4, 2.0)], 0.2) == ((0.0, 2.0),)
    hops = [(0, 512, 0.1), (512, 512, 0.9), (1_600, 512, 0.4)]
    assert on_grid(hops, 14).tolist() == [0.1] * 3 + [0.9] * 7 + [0.4] * 4
    assert on_grid([], 0).tolist() == []


@given(spans, spans)
def test_time_in_common_is_that_of_the_frames_in_common(some: list[Span], others: list[Span]) -> None:
    frames = 600
    common = (spoken_in(some, frames) & spoken_in(others, frames)).sum() / 100
    assert both_s(some, others) == pytest.approx(common, abs=0.011 * (len(some) + len(others)))


@given(st.lists(st.booleans(), max_size=50))
def test_frames_to_spans_and_back(spoken: list[bool]) -> None:
    frames = np.array(spoken, bool)
    assert spoken_in(spans_of(frames), len(frames)).tolist() == spoken
