"""Voice activity against labels: frames, and the edges of speech.

A frame is speech if its middle is labelled so; what was lost is not counted. For edges, labelled silences shorter than
200 ms count as speech, and an edge matches the nearest of its kind within 500 ms, one to one. Edges at the very ends of
a recording are none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from callscope.evaluation.judgement import Judgement
from callscope.evaluation.scores import (
    auc,
    auc_of_counts,
    f1_of_counts,
    matches,
    median_ms,
    p90_size_ms,
    share,
)
from callscope.evaluation.spans import Bools, Span, merge, spoken_in

BRIDGED_S = 0.2
"""Shorter silences between labels are no edges."""
_AT_THE_END_S = 0.05
_BINS = 2_048


@dataclass(frozen=True, eq=False)
class VadTally:
    """One stream's frames and edges.

    Attributes:
        probability: the detector's, of each frame that was heard, shape (n,).
        speech: whether it is labelled so, shape (n,).
        right: frames of speech decided to be speech.
        false: other frames decided to be speech.
        missed: frames of speech not decided to be.
        quiet: other frames not decided to be.
        at_threshold: the first three, for the probability alone at the threshold.
        onset_s: decided minus labelled time of the matched starts of speech.
        offset_s: the same of the ends.
        delay_s: from a matched labelled start to the end of the audio that made the pipeline tell it.
        edges: labelled starts and ends.
    """

    probability: NDArray[np.float64]
    speech: Bools
    right: int
    false: int
    missed: int
    quiet: int
    at_threshold: tuple[int, int, int]
    onset_s: NDArray[np.float64]
    offset_s: NDArray[np.float64]
    delay_s: NDArray[np.float64]
    edges: int


def tally(labelled: Sequence[Span], judged: Judgement, threshold: float = 0.5) -> VadTally:
    """Count one stream.

    Args:
        labelled: where speech is.
        judged: what was decided. Without `told_s` its silences shorter than 200 ms are bridged too, for edges.
        threshold: of the probability.
    """
    frames = len(judged.spoken)
    heard = judged.heard if len(judged.heard) else np.ones(frames, bool)
    speech = spoken_in(labelled, frames)[heard]
    spoken, probability = judged.spoken[heard], judged.probability[heard]
    right, false, missed = _counts(spoken, speech)
    edges = merge(labelled, BRIDGED_S)
    decided = judged.spans if judged.told_s else merge(judged.spans, BRIDGED_S)
    onsets = [a for a, _ in edges if a > _AT_THE_END_S]
    offsets = [b for _, b in edges if b < judged.length_s - _AT_THE_END_S]
    begun, ended = matches(onsets, [a for a, _ in decided]), matches(offsets, [b for _, b in decided])
    return VadTally(
        probability=probability,
        speech=speech,
        right=right,
        false=false,
        missed=missed,
        quiet=len(speech) - right - false - missed,
        at_threshold=_counts(probability >= threshold, speech),
        onset_s=np.array([decided[k][0] - onsets[i] for i, k in begun]),
        offset_s=np.array([decided[k][1] - offsets[i] for i, k in ended]),
        delay_s=np.array([judged.told_s[k] - onsets[i] for i, k in begun] if judged.told_s else []),
        edges=len(onsets) + len(offsets),
    )


def _counts(spoken: Bools, speech: Bools) -> tuple[int, int, int]:
    return int((spoken & speech).sum()), int((spoken & ~speech).sum()), int((~spoken & speech).sum())


Area = Callable[[Sequence[VadTally]], float]


def exact_area(tallies: Sequence[VadTally]) -> float:
    """ROC-AUC of all frames together."""
    return auc(np.concatenate([t.probability for t in tallies]), np.concatenate([t.speech for t in tallies]))


def binned_area(tallies: Sequence[VadTally]) -> Area:
    """An `exact_area` that is quick for any selection of these tallies: the scores are put into 2,048 bins first."""
    scores = np.unique(np.concatenate([t.probability for t in tallies]))
    if len(scores) > _BINS:
        scores = np.unique(np.quantile(scores, np.linspace(0, 1, _BINS)))
    row = {id(one): i for i, one in enumerate(tallies)}
    counts = np.zeros((len(tallies), 2 * (len(scores) + 1)))
    for i, one in enumerate(tallies):
        place = np.searchsorted(scores, one.probability, side="right")
        kinds = (place[one.speech], place[~one.speech])
        counts[i] = np.concatenate([np.bincount(kind, minlength=len(scores) + 1) for kind in kinds])

    def area(chosen: Sequence[VadTally]) -> float:
        times = np.bincount([row[id(one)] for one in chosen], minlength=len(tallies)).astype(np.float64)
        positive, negative = (times @ counts).reshape(2, -1)
        return auc_of_counts(positive, negative)

    return area


def measures(tallies: Sequence[VadTally], area: Area = exact_area) -> dict[str, float]:
    """The scores of some streams together.

    Args:
        tallies: of the streams, at least one.
        area: how the ROC-AUC is found.

    Returns:
        By the names that `metrics.py` explains.
    """
    right, false, missed, quiet = (sum(getattr(t, k) for t in tallies) for k in ("right", "false", "missed", "quiet"))
    at = [sum(t.at_threshold[i] for t in tallies) for i in range(3)]
    onset, offset, delay = (
        np.concatenate([getattr(t, k) for t in tallies]) for k in ("onset_s", "offset_s", "delay_s")
    )
    return {
        "auc": area(tallies),
        "f1": f1_of_counts(right, false, missed),
        "precision": share(right, right + false),
        "recall": share(right, right + missed),
        "miss_rate": share(missed, right + missed),
        "false_alarm_rate": share(false, false + quiet),
        "f1_at_threshold": f1_of_counts(at[0], at[1], at[2]),
        "edges_found": share(len(onset) + len(offset), sum(t.edges for t in tallies)),
        "onset_median_ms": median_ms(onset),
        "onset_p90_ms": p90_size_ms(onset),
        "offset_median_ms": median_ms(offset),
        "offset_p90_ms": p90_size_ms(offset),
        "told_median_ms": median_ms(delay),
        "told_p90_ms": p90_size_ms(delay),
    }
