"""Two runs over the same calls: what differs in their settings, in what they say, and in their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from callscope.evaluation.bootstrap import Interval, draws, interval, values
from callscope.evaluation.judgement import Run
from callscope.evaluation.labels import Labels
from callscope.evaluation.scoring import Facet, Scoring, within
from callscope.evaluation.segments import pairs
from callscope.evaluation.spans import GRID, Span, spans_of, spoken_in
from callscope.streams import StreamId
from processors.records import RATE_HZ


@dataclass(frozen=True, slots=True)
class Difference:
    """A score of B minus the same of A, over the calls that both have.

    Attributes:
        value: the difference.
        interval: of it; paired: every resample has the same calls on both sides.
    """

    value: float
    interval: Interval

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.interval.low > 0 or self.interval.high < 0


def differences(a: Sequence[Facet], b: Sequence[Facet], how: Scoring) -> dict[str, Difference]:
    """Every score that both sides have, by full name."""
    out: dict[str, Difference] = {}
    of_b = {facet.name: facet for facet in b}
    for facet in a:
        if facet.name not in of_b:
            continue
        common = [call for call in facet.tallies if call in of_b[facet.name].tallies]
        if not common:
            continue
        sides = [within(side, common) for side in (facet, of_b[facet.name])]
        chosen = draws(len(common), how.resamples, how.seed)
        tallies = [[side.tallies[call] for call in common] for side in sides]
        points = [side.measure(counted) for side, counted in zip(sides, tallies, strict=True)]
        resampled = [
            values(counted, side.quick or side.measure, chosen) for side, counted in zip(sides, tallies, strict=True)
        ]
        for name in points[0]:
            if name in points[1]:
                difference = points[1][name] - points[0][name]
                spread = interval(resampled[1][name] - resampled[0][name], len(common))
                out[f"{facet.name}.{name}"] = Difference(difference, spread)
    return out


@dataclass(frozen=True, slots=True)
class Flip:
    """A stretch that one side takes for speech and the other does not.

    Attributes:
        stream: the leg.
        span: seconds.
        b_speaks: B takes it for speech, and A does not; else the other way round.
        speech: share of it that is labelled speech; None without labels.
    """

    stream: StreamId
    span: Span
    b_speaks: bool
    speech: float | None

    @property
    def right(self) -> str:
        """Which side the labels are with: "A", "B", or "" where they are with neither or there are none."""
        if self.speech is None or 0.25 < self.speech < 0.75:
            return ""
        return "B" if (self.speech >= 0.75) == self.b_speaks else "A"


def flips(a: Run, b: Run, labels: Mapping[str, Labels], least_s: float = 0.05) -> list[Flip]:
    """Every stretch on which the two sides disagree, the longest first.

    Args:
        a: one run.
        b: the other.
        labels: by call.
        least_s: shorter stretches are left out.

    Raises:
        BadLabels: labels do not fit the legs of their call.
    """
    out: list[Flip] = []
    legs: dict[str, list[str]] = {}
    for stream in a:
        legs.setdefault(stream.call_id, []).append(stream.leg)
    for stream in a.keys() & b.keys():
        frames = min(len(a[stream].spoken), len(b[stream].spoken))
        known = labels[stream.call_id].legs(legs[stream.call_id]) if stream.call_id in labels else None
        speech = spoken_in(known[stream.leg], frames) if known is not None else None
        in_a, in_b = a[stream].spoken[:frames], b[stream].spoken[:frames]
        for b_speaks, differs in ((True, in_b & ~in_a), (False, in_a & ~in_b)):
            for start, end in spans_of(differs):
                if end - start >= least_s:
                    first, last = round(start * RATE_HZ / GRID), round(end * RATE_HZ / GRID)
                    share = None if speech is None else float(speech[first:last].mean())
                    out.append(Flip(stream, (start, end), b_speaks, share))
    return sorted(out, key=lambda flip: (flip.span[0] - flip.span[1], str(flip.stream), flip.span))


@dataclass(frozen=True, slots=True)
class Shift:
    """An output that differs between the two sides for about the same utterance."""

    stream: StreamId
    span: Span
    output: str
    a: float | None
    b: float | None

    @property
    def size(self) -> float:
        """How far they lie apart; a value against none counts as 1."""
        if self.a is None or self.b is None:
            return float(self.a is not self.b)
        return abs(self.a - self.b)


def shifts(a: Run, b: Run) -> list[Shift]:
    """Outputs that differ, the furthest apart first; utterances are matched by overlap.

    Far is measured by how much the output varies over all utterances of both runs: outputs have different units.
    """
    out = []
    for stream in a.keys() & b.keys():
        ours, theirs = (sorted(run[stream].said, key=lambda said: said.span) for run in (a, b))
        for output in {name for said in ours for name in said.outputs}:
            some, others = ([said for said in side if output in said.outputs] for side in (ours, theirs))
            for i, k, _ in pairs([said.span for said in some], [said.span for said in others], 0.5):
                shift = Shift(stream, some[i].span, output, some[i].outputs[output], others[k].outputs[output])
                if shift.size > 0:
                    out.append(shift)
    spread = _spreads(a, b)
    return sorted(
        out, key=lambda shift: (-shift.size / spread[shift.output], str(shift.stream), shift.span, shift.output)
    )


def _spreads(*runs: Run) -> dict[str, float]:
    """The standard deviation of each output; 1 where it does not vary."""
    known: dict[str, list[float]] = {}
    for run in runs:
        for judged in run.values():
            for said in judged.said:
                for name, value in said.outputs.items():
                    known.setdefault(name, []).extend([] if value is None else [value])
    return {name: (float(np.std(values)) if values else 0.0) or 1.0 for name, values in known.items()}


def changed(a: Mapping[str, Any], b: Mapping[str, Any], above: str = "") -> list[tuple[str, Any, Any]]:
    """Settings that differ: name, in A, in B.

    Args:
        a: one side's, nested by section.
        b: the other's.
        above: the section's name with a dot.
    """
    out: list[tuple[str, Any, Any]] = []
    for key in dict.fromkeys((*a, *b)):
        one, other = a.get(key), b.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            out += changed(one, other, f"{above}{key}.")
        elif one != other:
            out.append((f"{above}{key}", one, other))
    return out
