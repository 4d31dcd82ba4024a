"""Segments against labelled utterances, matched by overlap.

Labelled speech with its pauses shorter than `bridged_s` is one utterance. A segment and an utterance match if what they
have in common is at least half of what they cover together (intersection over union), best first, one to one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from callscope.evaluation.scores import NAN, f1_of_counts, share
from callscope.evaluation.spans import Span, merge, overlap_s

LEAST_OVERLAP = 0.5


@dataclass(frozen=True, slots=True)
class SegmentTally:
    """One stream's segments.

    Attributes:
        labelled: utterances by the labels.
        found: segments.
        overlaps: intersection over union of each matched pair.
    """

    labelled: int
    found: int
    overlaps: tuple[float, ...]


def tally(labelled: Sequence[Span], segments: Sequence[Span], bridged_s: float = 0.7) -> SegmentTally:
    """Count one stream.

    Args:
        labelled: where speech is.
        segments: what it was cut into.
        bridged_s: a labelled pause that is shorter does not end an utterance; `max_pause_ms` of the run.
    """
    utterances = merge(labelled, bridged_s)
    paired = pairs(utterances, segments, LEAST_OVERLAP)
    return SegmentTally(len(utterances), len(segments), tuple(overlap for _, _, overlap in paired))


def pairs(some: Sequence[Span], others: Sequence[Span], least: float) -> list[tuple[int, int, float]]:
    """Places of spans that match, and their intersection over union: best first, one to one.

    Args:
        some: spans, in order.
        others: spans, in order.
        least: the least intersection over union that is a match.
    """
    found = []
    first = 0
    for i, one in enumerate(some):
        while first < len(others) and others[first][1] <= one[0]:
            first += 1
        for k in range(first, len(others)):
            if others[k][0] >= one[1]:
                break
            common = overlap_s(one, others[k])
            union = max(one[1], others[k][1]) - min(one[0], others[k][0])
            if common > 0 and common / union >= least:
                found.append((common / union, i, k))
    out: list[tuple[int, int, float]] = []
    left: set[int] = set()
    right: set[int] = set()
    for overlap, i, k in sorted(found, key=lambda pair: (-pair[0], pair[1:])):
        if i not in left and k not in right:
            out.append((i, k, overlap))
            left.add(i)
            right.add(k)
    return out


def measures(tallies: Sequence[SegmentTally]) -> dict[str, float]:
    """The scores of some streams together, by the names that `metrics.py` explains."""
    labelled, found = sum(t.labelled for t in tallies), sum(t.found for t in tallies)
    overlaps = [overlap for t in tallies for overlap in t.overlaps]
    return {
        "f1": f1_of_counts(len(overlaps), found - len(overlaps), labelled - len(overlaps)) if labelled else NAN,
        "precision": share(len(overlaps), found),
        "recall": share(len(overlaps), labelled),
        "overlap": share(sum(overlaps), len(overlaps)),
        "per_label": share(found, labelled),
    }
