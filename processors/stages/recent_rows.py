"""The recent past of a growing table, and sums over any span of it for the price of one subtraction."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", np.float32, np.float64)


class RecentRows(Generic[Number]):
    """The last rows of a growing table, contiguous in memory.

    Args:
        columns: how many columns there are; None for a single one, whose rows are plain numbers.
        keep: rows back from the newest that stay known, at least.
        dtype: of the values.
    """

    def __init__(self, columns: int | None, keep: int, dtype: type[Number]) -> None:
        self._keep = keep
        self._rows: NDArray[Number] = np.zeros(2 * keep if columns is None else (2 * keep, columns), dtype)
        self._first = 0
        """Number of the row that `_rows[0]` holds."""
        self._end = 0

    def __len__(self) -> int:
        """Rows taken in so far, those forgotten included."""
        return self._end

    def append(self, rows: NDArray[Any]) -> None:
        """Take in the next rows, shape (n, columns) or (n,)."""
        count, at = len(rows), self._end - self._first
        if at + count > len(self._rows):
            if count > self._keep:  # so many at once: part by part
                self.append(rows[: self._keep])
                self.append(rows[self._keep :])
                return
            kept = min(at, self._keep)
            self._rows[:kept] = self._rows[at - kept : at]
            self._first, at = self._end - kept, kept
        self._rows[at : at + count] = rows
        self._end += count

    def between(self, first: int, end: int) -> NDArray[Number]:
        """The rows `first` to `end` (not included), as they lie in memory until the next `append`.

        Raises:
            IndexError: they are no longer, or not yet, known.
        """
        if not self._first <= first <= end <= self._end:
            raise IndexError(f"rows {first} to {end} of {self._first} to {self._end}")
        return self._rows[first - self._first : end - self._first]


class PrefixSums:
    """Sums of some columns over any span of the recent past.

    Totals are added up strictly row by row, so it leaves no trace how the rows were grouped.

    Args:
        columns: how many columns there are.
        keep: rows back from the newest for which sums can be asked for, at least.
    """

    def __init__(self, columns: int, keep: int) -> None:
        self._totals = RecentRows(columns, keep + 1, np.float64)
        self.total = np.zeros(columns)
        """Over all rows so far, shape (columns,)."""
        self._totals.append(self.total[None])

    def append(self, rows: NDArray[np.float64]) -> None:
        """Take in the next rows, shape (n, columns)."""
        totals = np.add.accumulate(np.concatenate((self.total[None], rows)), axis=0)
        self.total = totals[-1]
        self._totals.append(totals[1:])

    def between(self, first: int, end: int) -> NDArray[np.float64]:
        """Sums over the rows `first` to `end` (not included), shape (columns,).

        Raises:
            IndexError: they are no longer, or not yet, known.
        """
        totals = self._totals.between(first, end + 1)
        return totals[-1] - totals[0]  # type: ignore[no-any-return]  # numpy types a row as Any
