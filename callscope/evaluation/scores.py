"""The formulas: areas, shares, agreement, and errors of edges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from callscope.evaluation.spans import Bools

MATCH_WITHIN_S = 0.5
"""An edge matches one that lies at most so far away, seconds."""

NAN = float("nan")

Counts = NDArray[np.int64] | NDArray[np.float64]
"""How many, whole numbers in either form."""


def auc(score: NDArray[np.float64], positive: Bools) -> float:
    """Area under the ROC curve: how often a positive has the higher score, ties counting half.

    By ranks, after Mann and Whitney (1947).

    Args:
        score: shape (n,).
        positive: which of them should have the higher scores, shape (n,).

    Returns:
        0 to 1; NaN without both kinds.
    """
    _, place = np.unique(score, return_inverse=True)
    size = int(place.max()) + 1 if len(place) else 0
    return auc_of_counts(np.bincount(place[positive], minlength=size), np.bincount(place[~positive], minlength=size))


def auc_of_counts(positive: Counts, negative: Counts) -> float:
    """`auc` from how many have each score, the scores in rising order; both of shape (scores,)."""
    yes, no = int(positive.sum()), int(negative.sum())
    if not yes or not no:
        return NAN
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / yes / no)


def roc(
    score: NDArray[np.float64], positive: Bools, points: int = 400
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The ROC curve for drawing.

    Returns:
        False-alarm rate and hit rate, rising from 0 to 1, at most `points` + 2 of each; empty without both kinds.
    """
    yes, no = int(positive.sum()), int((~positive).sum())
    if not yes or not no:
        return np.zeros(0), np.zeros(0)
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    if len(ends) > points:
        ends = ends[np.linspace(0, len(ends) - 1, points).astype(int)]
    hits = np.cumsum(positive[order])[ends] / yes
    alarms = np.cumsum(~positive[order])[ends] / no
    return np.concatenate([[0.0], alarms]), np.concatenate([[0.0], hits])


def f1(spoken: Bools, speech: Bools) -> float:
    """Harmonic mean of precision and recall."""
    return f1_of_counts(int((spoken & speech).sum()), int((spoken & ~speech).sum()), int((~spoken & speech).sum()))


def f1_of_counts(right: int, false: int, missed: int) -> float:
    """`f1` from counts of hits, false alarms and misses."""
    return 2 * right / max(1, 2 * right + false + missed)


def share(part: float, whole: float) -> float:
    """`part` of `whole`; NaN of nothing."""
    return part / whole if whole else NAN


def confusion(truth: Sequence[str], said: Sequence[str], classes: Sequence[str]) -> NDArray[np.int64]:
    """How often each class was taken for each; shape (classes, classes), rows are the truth."""
    place = {name: i for i, name in enumerate(classes)}
    out = np.zeros((len(classes), len(classes)), np.int64)
    for is_, was_said in zip(truth, said, strict=True):
        out[place[is_], place[was_said]] += 1
    return out


def uar(matrix: NDArray[np.int64]) -> float:
    """Unweighted average recall: the mean over the classes that occur of the share that was recognised.

    Args:
        matrix: as `confusion` gives it.
    """
    occurs = matrix.sum(axis=1)
    there = occurs > 0
    return float((np.diag(matrix)[there] / occurs[there]).mean()) if there.any() else NAN


def ccc(truth: NDArray[np.float64], said: NDArray[np.float64]) -> float:
    """Concordance correlation coefficient (Lin 1989), with population moments.

    Returns:
        -1 to 1; 1 only where every value is the same; NaN for fewer than two, or where neither varies.
    """
    if len(truth) < 2:
        return NAN
    bottom = truth.var() + said.var() + (truth.mean() - said.mean()) ** 2
    return float(2 * ((truth - truth.mean()) * (said - said.mean())).mean() / bottom) if bottom > 0 else NAN


def matches(
    labelled: Sequence[float], decided: Sequence[float], within_s: float = MATCH_WITHIN_S
) -> list[tuple[int, int]]:
    """Pairs of a label and a decision, nearest first, one to one.

    Args:
        labelled: times, seconds, rising.
        decided: times, seconds, rising.
        within_s: how far they may lie apart.
    """
    times = np.asarray(decided, float)
    pairs = []
    for i, a in enumerate(labelled):
        first, last = np.searchsorted(times, (a - within_s, a + within_s), side="left")
        pairs += [(abs(a - b), i, k) for k, b in enumerate(decided[first : last + 1], first) if abs(a - b) <= within_s]
    out: list[tuple[int, int]] = []
    used_labels: set[int] = set()
    used_decisions: set[int] = set()
    for _, i, k in sorted(pairs):
        if i not in used_labels and k not in used_decisions:
            out.append((i, k))
            used_labels.add(i)
            used_decisions.add(k)
    return out


def median_ms(seconds: NDArray[np.float64]) -> float:
    """The median, milliseconds; NaN of none."""
    return float(np.median(seconds) * 1_000) if len(seconds) else NAN


def p90_size_ms(seconds: NDArray[np.float64]) -> float:
    """The size that 90 % of the errors do not exceed, milliseconds; NaN of none."""
    return float(np.percentile(np.abs(seconds), 90) * 1_000) if len(seconds) else NAN
