"""Turn-taking in calls of several legs, by labels and by decisions, and how far the two lie apart.

A *turn* is a leg's speech with its pauses shorter than 0.7 s, unless it is a *backchannel*: shorter than 1 s and wholly
inside a turn of another leg. A *response* is a change of turns from one leg to another; its gap is the time from the
end of the turn to the start of the next, negative where they overlap. *Talk-over* is the time in which two legs speak.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from callscope.evaluation.scores import NAN, share
from callscope.evaluation.spans import Span, both_s, length_s, merge

PAUSE_S = 0.7
BACKCHANNEL_S = 1.0


@dataclass(frozen=True, slots=True)
class TurnTaking:
    """What happened between the legs of one call.

    Attributes:
        turns: of all legs.
        talk_s: how long each leg speaks.
        talk_over_s: how long two legs speak at once.
        gaps_s: of the responses, in order.
        length_s: of the call.
    """

    turns: int
    talk_s: Mapping[str, float]
    talk_over_s: float
    gaps_s: tuple[float, ...]
    length_s: float

    @property
    def shares(self) -> dict[str, float]:
        """Each leg's share of all that is spoken; NaN where nobody speaks."""
        spoken = sum(self.talk_s.values())
        return {leg: share(seconds, spoken) for leg, seconds in self.talk_s.items()}


def observe(spans_by_leg: Mapping[str, Sequence[Span]], call_s: float) -> TurnTaking:
    """The turn-taking of a call.

    Args:
        spans_by_leg: where each leg speaks, in order, without overlap within a leg.
        call_s: the call's length.
    """
    legs = list(spans_by_leg)
    joined = {leg: merge(spans, PAUSE_S) for leg, spans in spans_by_leg.items()}
    turns = [
        (span, leg)
        for leg, spans in joined.items()
        for span in spans
        if span[1] - span[0] >= BACKCHANNEL_S
        or not any(a <= span[0] and span[1] <= b for other in legs if other != leg for a, b in joined[other])
    ]
    turns.sort()
    gaps = tuple(
        following[0] - before[1]
        for (before, leg), (following, next_leg) in itertools.pairwise(turns)
        if leg != next_leg
    )
    over = sum(both_s(spans_by_leg[one], spans_by_leg[other]) for i, one in enumerate(legs) for other in legs[i + 1 :])
    talk = {leg: length_s(spans) for leg, spans in spans_by_leg.items()}
    return TurnTaking(len(turns), talk, over, gaps, call_s)


Tally = tuple[TurnTaking, TurnTaking]
"""Of one call: by its labels, by what was decided."""


def measures(tallies: Sequence[Tally]) -> dict[str, float]:
    """How far the decisions lie from the labels, over calls; by the names that `metrics.py` explains."""
    labelled_gaps = [gap for truth, _ in tallies for gap in truth.gaps_s]
    decided_gaps = [gap for _, said in tallies for gap in said.gaps_s]
    shares = [abs(truth.shares[leg] - said.shares[leg]) for truth, said in tallies for leg in truth.talk_s]
    known = [difference for difference in shares if difference == difference]
    return {
        "turns_ratio": share(sum(said.turns for _, said in tallies), sum(truth.turns for truth, _ in tallies)),
        "turns_error": share(sum(abs(said.turns - truth.turns) for truth, said in tallies), len(tallies)),
        "talk_share_error": share(sum(known), len(known)),
        "talk_over_labelled": _talk_over([truth for truth, _ in tallies]),
        "talk_over_found": _talk_over([said for _, said in tallies]),
        "response_gap_labelled_ms": _median_ms(labelled_gaps),
        "response_gap_found_ms": _median_ms(decided_gaps),
        "response_gap_error_ms": abs(_median_ms(decided_gaps) - _median_ms(labelled_gaps)),
    }


def _talk_over(calls: Sequence[TurnTaking]) -> float:
    return share(sum(call.talk_over_s for call in calls), sum(call.length_s for call in calls))


def _median_ms(seconds: Sequence[float]) -> float:
    return float(np.median(seconds) * 1_000) if seconds else NAN
