"""From a run and labels to scores with intervals: each facet is a tally for every call, and a measure of tallies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from callscope.evaluation import outputs, segments, turns, vad
from callscope.evaluation.bootstrap import Interval, Measure, draws, interval, values
from callscope.evaluation.judgement import Judgement, Run, Said
from callscope.evaluation.labels import Labels, Tag, leg_of
from callscope.evaluation.outputs import Scored, Target
from callscope.evaluation.segments import pairs

LEAST_TAG_OVERLAP = 0.3
"""An utterance answers for a labelled span if they have so much of what they cover together in common."""


@dataclass(frozen=True)
class Facet:
    """One side of a run that is scored.

    Attributes:
        name: first part of its metrics' names.
        title: its heading.
        tallies: call → what was counted in it.
        measure: scores of some tallies together.
        quick: the same for resamples, where that can be had faster.
        target: what of, for models.
    """

    name: str
    title: str
    tallies: Mapping[str, Any]
    measure: Measure[Any]
    quick: Measure[Any] | None = None
    target: Target | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """A metric's value and where else it might lie."""

    value: float
    interval: Interval


@dataclass(frozen=True)
class Scoring:
    """How to score.

    Attributes:
        threshold: of the detector's probability.
        bridged_s: labelled pauses up to so long do not end an utterance.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        targets: what of the models is scored.
    """

    threshold: float = 0.5
    bridged_s: float = 0.7
    resamples: int = 1_000
    seed: int = 0
    targets: Sequence[Target] = ()


@dataclass
class Call:
    """One call that is scored: what was said of its legs, and its labels."""

    judged: dict[str, Judgement] = field(default_factory=dict)
    labels: Labels = field(default_factory=Labels)


def facets_of(run: Run, labels: Mapping[str, Labels], how: Scoring) -> list[Facet]:
    """Count every labelled call of a run, for every facet that the labels speak of.

    Raises:
        BadLabels: labels do not fit the legs of their call.
    """
    calls: dict[str, Call] = {}
    for stream, judged in run.items():
        if stream.call_id in labels:
            calls.setdefault(stream.call_id, Call(labels=labels[stream.call_id])).judged[stream.leg] = judged
    heard: dict[str, list[vad.VadTally]] = {}
    cut: dict[str, list[segments.SegmentTally]] = {}
    taken: dict[str, list[turns.Tally]] = {}
    for name, call in calls.items():
        legs = call.labels.legs(list(call.judged))
        if legs is None:
            continue
        heard[name] = [vad.tally(legs[leg], judged, how.threshold) for leg, judged in call.judged.items()]
        cut[name] = [segments.tally(legs[leg], judged.segments, how.bridged_s) for leg, judged in call.judged.items()]
        if len(legs) > 1:
            length_s = max(judged.length_s for judged in call.judged.values())
            decided = {leg: judged.spans for leg, judged in call.judged.items()}
            taken[name] = [(turns.observe(legs, length_s), turns.observe(decided, length_s))]
    found = [
        _vad_facet(heard),
        Facet("segments", "Segments", cut, _flat(segments.measures)),
        Facet("turns", "Turn-taking", taken, _flat(turns.measures)),
        *(_output_facet(target, calls) for target in how.targets),
    ]
    return [facet for facet in found if facet.tallies]


def _vad_facet(heard: Mapping[str, list[vad.VadTally]]) -> Facet:
    every = [tally for of_call in heard.values() for tally in of_call]
    quick = None
    if every:
        area = vad.binned_area(every)
        quick = _flat(lambda tallies: vad.measures(tallies, area))
    return Facet("vad", "Voice activity", heard, _flat(vad.measures), quick)


def _output_facet(target: Target, calls: Mapping[str, Call]) -> Facet:
    scored = {name: scored_tags(target, call.judged, call.labels) for name, call in calls.items()}
    return output_facet(target, {name: found for name, found in scored.items() if found})


def output_facet(target: Target, scored: Mapping[str, Sequence[Scored]]) -> Facet:
    """The facet of one target."""
    title = f"Model output: {target.output}" + (f" against {target.column}" if target.column != target.output else "")
    measure = _flat(lambda found: outputs.measures(target, found))
    return Facet(f"output.{target.name}", title, scored, measure, target=target)


def _flat(measure: Callable[[Sequence[Any]], dict[str, float]]) -> Measure[Any]:
    """A measure of calls from one of what is counted in them, one or more a call."""
    return lambda calls: measure([tally for of_call in calls for tally in of_call])


def scored_tags(target: Target, judged: Mapping[str, Judgement], labels: Labels) -> list[Scored]:
    """A call's labels of the target's column, each with what the model said of that span.

    A tag without a span is about the whole leg: the mean of the model's utterances, weighted by their length.
    """
    found = []
    for tag in labels.tags:
        if tag.column != target.column:
            continue
        leg = leg_of(tag.leg, list(judged))
        legs = [leg] if leg else list(judged) if not tag.leg else []
        said = [one for name in legs for one in judged[name].said if _is_asked(target, one)]
        found.append(Scored(tag.value, _answer(target, tag, said)))
    return found


def _is_asked(target: Target, said: Said) -> bool:
    return said.model == target.output if target.kind == "uar" else target.output in said.outputs


def _answer(target: Target, tag: Tag, said: Sequence[Said]) -> dict[str, float | None]:
    if tag.span is not None:
        matched = pairs([tag.span], sorted(one.span for one in said), LEAST_TAG_OVERLAP)
        spans = sorted(said, key=lambda one: one.span)
        said = [spans[matched[0][1]]] if matched else []
    names = (
        list(dict.fromkeys(name for one in said for name in one.outputs)) if target.kind == "uar" else [target.output]
    )
    out: dict[str, float | None] = {}
    for name in names:
        known = [(one.outputs[name], one.span[1] - one.span[0]) for one in said if one.outputs.get(name) is not None]
        weight = sum(length for _, length in known)
        out[name] = sum((value or 0.0) * length for value, length in known) / weight if weight else None
    return out


def within(facet: Facet, calls: Sequence[str]) -> Facet:
    """The same facet over some calls only."""
    return replace(facet, tallies={name: facet.tallies[name] for name in calls if name in facet.tallies})


def scores_of(facet: Facet, how: Scoring, suffix: str = "") -> dict[str, Score]:
    """A facet's scores with their intervals, by full name.

    Args:
        facet: with at least one call.
        how: resamples and seed.
        suffix: put behind the names, such as "@office".
    """
    tallies = list(facet.tallies.values())
    resampled = values(tallies, facet.quick or facet.measure, draws(len(tallies), how.resamples, how.seed))
    return {
        f"{facet.name}.{name}{suffix}": Score(value, interval(resampled[name], len(tallies)))
        for name, value in facet.measure(tallies).items()
    }


def conditions_of(labels: Mapping[str, Labels]) -> dict[str, list[str]]:
    """Condition → its calls, for those that have one; nothing where all are under the same."""
    found: dict[str, list[str]] = {}
    for name, known in labels.items():
        if known.condition:
            found.setdefault(known.condition, []).append(name)
    return found


def all_scores(facets: Sequence[Facet], labels: Mapping[str, Labels], how: Scoring) -> dict[str, Score]:
    """Every facet's scores, over all calls and under each condition."""
    out: dict[str, Score] = {}
    for facet in facets:
        out |= scores_of(facet, how)
        for condition, calls in sorted(conditions_of(labels).items()):
            of_condition = within(facet, calls)
            if of_condition.tallies:
                out |= scores_of(of_condition, how, f"@{condition}")
    return out


def tagged_columns(labels: Mapping[str, Labels], numeric: Callable[[str], bool]) -> dict[str, bool]:
    """The columns that tags are in, and whether all in them are numbers."""
    out: dict[str, bool] = {}
    for known in labels.values():
        for tag in known.tags:
            out[tag.column] = out.get(tag.column, True) and numeric(tag.value)
    return out


def models_of(run: Run) -> dict[str, list[str]]:
    """The models of a run and the names of their outputs."""
    return {said.model: list(said.outputs) for judged in run.values() for said in judged.said}
