from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.stages.recent_rows import PrefixSums, RecentRows

groups = st.lists(st.integers(0, 40), max_size=30)


@given(groups, st.integers(1, 12))
def test_the_last_rows_stay_known(sizes: list[int], keep: int) -> None:
    table = np.arange(2.0 * sum(sizes)).reshape(-1, 2)
    recent, numbers = RecentRows(2, keep, np.float64), RecentRows(None, keep, np.float32)
    end = 0
    for size in sizes:
        recent.append(table[end : end + size])
        numbers.append(table[end : end + size, 0])
        end += size
        first = max(0, end - keep)
        assert len(recent) == len(numbers) == end
        assert recent.between(first, end).tolist() == table[first:end].tolist()
        assert numbers.between(first, end).tolist() == table[first:end, 0].tolist()


def test_other_rows_are_refused() -> None:
    recent = RecentRows(1, 5, np.float32)
    recent.append(np.zeros((23, 1)))
    for first, end in ((0, 3), (20, 24), (22, 21)):
        with pytest.raises(IndexError):
            recent.between(first, end)


@given(groups, st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.integers(1, 12))
def test_sums_are_of_the_rows_and_do_not_show_their_grouping(sizes: list[int], values: list[float], keep: int) -> None:
    rows = np.array(values)[:, None]
    one, other = PrefixSums(1, keep), PrefixSums(1, keep)
    one.append(rows)
    for part in np.split(rows, np.minimum(np.cumsum(sizes), len(rows)) if sizes else []):
        other.append(part)
    first = max(0, len(rows) - keep)
    assert one.between(first, len(rows)).tobytes() == other.between(first, len(rows)).tobytes()
    assert one.between(first, len(rows))[0] == pytest.approx(rows[first:].sum(), abs=1e-6)
    assert one.total.tobytes() == other.total.tobytes()
    assert one.total[0] == pytest.approx(rows.sum(), abs=1e-6)
