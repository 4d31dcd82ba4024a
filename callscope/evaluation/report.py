"""An evaluation as a page for people and as JSON for machines."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from callscope.evaluation import plots
from callscope.evaluation.comparison import Difference
from callscope.evaluation.evaluate import Evaluation, Scored
from callscope.evaluation.examples import Example
from callscope.evaluation.metrics import metric
from callscope.evaluation.outputs import highest
from callscope.evaluation.scores import confusion, roc, share
from callscope.evaluation.scoring import Facet, Score, conditions_of
from callscope.evaluation.spans import Span, overlap_s
from callscope.evaluation.wording import called, plain_words, which_is_better

FEW_CALLS = 10
"""With fewer calls the intervals are rough, and the page says so."""
_SHIFTS = 15


def as_json(evaluation: Evaluation) -> str:
    """Everything but the audio; a score without a value is null. docs/evaluation.md describes it."""
    how = evaluation.request.scoring
    said = {
        "format": "callscope-eval",
        "version": 1,
        "calls": sorted(evaluation.labels),
        "unlabelled": list(evaluation.unlabelled),
        "seconds": evaluation.seconds,
        "resamples": how.resamples,
        "seed": how.seed,
        "threshold": how.threshold,
        "sides": [
            {"name": one.side.name, "scores": {name: _score(score) for name, score in one.scores.items()}}
            for one in evaluation.scored
        ],
        "differences": {
            name: {**_score(Score(one.value, one.interval)), "b_higher": _number(one.interval.above)}
            for name, one in evaluation.differences.items()
        },
        "settings": [{"name": name, "a": a, "b": b} for name, a, b in evaluation.settings],
        "flips": [
            {**asdict(flip), "stream": str(flip.stream), "right": flip.right or None} for flip in evaluation.flips
        ],
        "shifts": [{**asdict(shift), "stream": str(shift.stream)} for shift in evaluation.shifts],
    }
    return json.dumps(said, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _score(score: Score) -> dict[str, float | None]:
    return {
        "value": _number(score.value),
        "low": _number(score.interval.low),
        "high": _number(score.interval.high),
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def gate_scores(evaluation: Evaluation) -> dict[str, float]:
    """The scores that a gate can ask for: the only side's or B's, and the differences as `difference.…`."""
    return {name: score.value for name, score in evaluation.scored[-1].scores.items()} | {
        f"difference.{name}": one.value for name, one in evaluation.differences.items()
    }


def as_html(evaluation: Evaluation, examples: Sequence[Example]) -> str:
    """The page: plain words first, then numbers, plots, and examples. It needs nothing but the examples' files."""
    template = files("callscope.evaluation").joinpath("report.html.jinja").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    two = len(evaluation.scored) == 2
    full = [one.side.name for one in evaluation.scored]
    if two:
        named = zip(evaluation.scored, called(evaluation), strict=True)
        short = [replace(one, side=replace(one.side, name=name)) for one, name in named]
        evaluation = replace(evaluation, scored=short)
    return environment.from_string(template).render(
        two=two,
        full=full,
        names=[one.side.name for one in evaluation.scored],
        colours=plots.COLOURS,
        words=plain_words(evaluation),
        where=evaluation.request.calls.where.name,
        noun="call" if evaluation.request.calls.is_export else "recording",
        set=evaluation.request.common,
        calls=len(evaluation.labels),
        few=len(evaluation.labels) < FEW_CALLS,
        unlabelled=len(evaluation.unlabelled),
        minutes=evaluation.seconds / 60,
        how=evaluation.request.scoring,
        sections=[_section(evaluation, facet) for facet in evaluation.scored[0].facets],
        conditions=_conditions(evaluation),
        settings=evaluation.settings,
        flips=_flips(evaluation) if two else None,
        shifts=evaluation.shifts[:_SHIFTS],
        shift_count=len(evaluation.shifts),
        examples=[_example(evaluation, example) for example in examples],
    )


def _section(evaluation: Evaluation, facet: Facet) -> dict[str, Any]:
    sides = [(one, next((f for f in one.facets if f.name == facet.name), None)) for one in evaluation.scored]
    names = [name for name in evaluation.scored[0].scores if name.startswith(f"{facet.name}.") and "@" not in name]
    return {
        "title": facet.title,
        "rows": [row for name in names if (row := _row(evaluation, name)) is not None],
        "plots": _plots(facet.name, [(one.side.name, side) for one, side in sides if side is not None]),
        "matrices": [
            {"side": one.side.name, **_matrix(side)}
            for one, side in sides
            if side is not None and side.target is not None and side.target.kind == "uar"
        ],
    }


def _row(evaluation: Evaluation, name: str) -> dict[str, Any] | None:
    kind = metric(name)
    cells = [one.scores.get(name) for one in evaluation.scored]
    if not any(score is not None and math.isfinite(score.value) for score in cells):
        return None
    difference = evaluation.differences.get(name)
    return {
        "name": name,
        "title": kind.title,
        "words": kind.words,
        "cells": [_cell(name, score) for score in cells],
        "difference": _difference(evaluation, name, difference) if difference else None,
    }


def _cell(name: str, score: Score | None) -> dict[str, str]:
    if score is None:
        return {"value": "–", "interval": ""}
    return {
        "value": metric(name).shown(score.value),
        "interval": _interval(name, score.interval.low, score.interval.high),
    }


def _interval(name: str, low: float, high: float, *, difference: bool = False) -> str:
    if not math.isfinite(low):
        return ""
    kind = metric(name)
    if kind.unit == "count":
        return ""
    return f"{kind.shown(low, difference=difference)} to {kind.shown(high, difference=difference)}"


_VERDICTS = {"even": "no clear difference", "same": "no difference"}


def _difference(evaluation: Evaluation, name: str, difference: Difference) -> dict[str, str]:
    better = which_is_better(name, difference)
    if better == "even" and difference.value == difference.interval.low == difference.interval.high == 0:
        better = "same"
    names = dict(zip("ab", called(evaluation), strict=True))
    return {
        "value": metric(name).shown(difference.value, difference=True),
        "interval": _interval(name, difference.interval.low, difference.interval.high, difference=True),
        "verdict": _VERDICTS.get(better, "") if better not in names else f"{names[better]} better",
        "better": better,
    }


Curves = dict[str, tuple[plots.Curve, tuple[float, float] | None]]


def _plots(name: str, sides: Sequence[tuple[str, Facet]]) -> list[dict[str, str]]:
    counted = {side: [one for of_call in facet.tallies.values() for one in of_call] for side, facet in sides}
    target = sides[0][1].target
    curves: Curves = {}
    if name == "vad":
        onsets: dict[str, list[float]] = {}
        offsets: dict[str, list[float]] = {}
        for side, tallies in counted.items():
            score = np.concatenate([t.probability for t in tallies])
            speech = np.concatenate([t.speech for t in tallies])
            right, false, missed, quiet = (sum(getattr(t, k) for t in tallies) for k in _COUNTS)
            curves[side] = (roc(score, speech), (share(false, false + quiet), share(right, right + missed)))
            onsets[side] = [second * 1_000 for t in tallies for second in t.onset_s]
            offsets[side] = [second * 1_000 for t in tallies for second in t.offset_s]
        return [
            _plot(plots.roc(curves), "Every threshold of the probability; the dot is where the decisions are."),
            _plot(plots.errors(onsets, "start of speech: decided minus labelled, ms"), "Dashed: the median."),
            _plot(plots.errors(offsets, "end of speech: decided minus labelled, ms"), "Dashed: the median."),
        ]
    if target is not None and target.kind == "auc":
        for side, scored in counted.items():
            known = [one for one in scored if one.values.get(target.output) is not None]
            known = [one for one in known if not target.negative or one.label in target.positive + target.negative]
            values = np.array([one.values[target.output] for one in known], float)
            curves[side] = (roc(values, np.array([one.label in target.positive for one in known], bool)), None)
        return [_plot(plots.roc(curves), f"{target.output}: {', '.join(target.positive)} against the others.")]
    if target is not None and target.kind == "ccc":
        pairs = {
            side: [
                (float(one.label), one.values[target.output]) for one in scored if one.values[target.output] is not None
            ]
            for side, scored in counted.items()
        }
        return [_plot(plots.agreement(pairs, target.output), "On the line: the same.")]
    return []


_COUNTS = ("right", "false", "missed", "quiet")


def _plot(svg: str, caption: str) -> dict[str, str]:
    return {"svg": svg, "caption": caption}


def _matrix(facet: Facet) -> dict[str, Any]:
    """The confusion matrix: classes, and for each the shares and counts of what it was taken for."""
    scored = [one for of_call in facet.tallies.values() for one in of_call]
    known = [one for one in scored if one.values and None not in one.values.values()]
    said = [highest(one) for one in known]
    classes = sorted({*said, *(one.label for one in known)})
    counts = confusion([one.label for one in known], said, classes)
    rows = [
        (name, [(int(n), float(n / max(1, row.sum()))) for n in row]) for name, row in zip(classes, counts, strict=True)
    ]
    return {"classes": classes, "rows": rows}


_BY_CONDITION = ("vad.f1", "vad.auc", "segments.f1")


def _conditions(evaluation: Evaluation) -> dict[str, Any] | None:
    calls = conditions_of(evaluation.labels)
    if not calls:
        return None
    names = [name for name in evaluation.scored[0].scores if "@" in name]
    wanted = [name for name in names if name.partition("@")[0] in _BY_CONDITION or ".auc@" in name or ".ccc@" in name]
    titles = {facet.name: facet.title for facet in evaluation.scored[0].facets}
    groups = {
        condition: {
            one.side.name: (score.value, score.interval.low, score.interval.high)
            for one in evaluation.scored
            if (score := one.scores.get(f"vad.f1@{condition}")) is not None
        }
        for condition in sorted(calls)
    }
    return {
        "calls": {condition: len(of) for condition, of in sorted(calls.items())},
        "rows": [
            {
                "condition": name.partition("@")[2],
                "title": f"{titles[name.partition('@')[0].rpartition('.')[0]]}: {metric(name).title}",
                "cells": [_cell(name, one.scores.get(name)) for one in evaluation.scored],
            }
            for name in sorted(wanted, key=lambda name: (name.partition("@")[2], name))
        ],
        "plot": plots.bars(groups, "F1 of voice activity") if any(groups.values()) else None,
    }


def _flips(evaluation: Evaluation) -> dict[str, Any]:
    lengths = {"A": 0.0, "B": 0.0, "": 0.0}
    for flip in evaluation.flips:
        lengths[flip.right] += flip.span[1] - flip.span[0]
    return {"count": len(evaluation.flips), "seconds": sum(lengths.values()), "by_right": lengths}


def _example(evaluation: Evaluation, example: Example) -> dict[str, Any]:
    flip, (start, end) = example.flip, example.clip
    legs = [stream.leg for one in evaluation.scored[:1] for stream in one.run if stream.call_id == flip.stream.call_id]
    known = evaluation.labels[flip.stream.call_id].legs(legs)
    tracks: list[tuple[str, str, Sequence[Span]]] = []
    if known is not None:
        tracks.append(("labels", "label", known[flip.stream.leg]))
    for letter, one in zip("ab", evaluation.scored, strict=False):
        tracks.append((one.side.name, letter, one.run[flip.stream].spans))
    length = end - start
    return {
        "file": example.file,
        "call": flip.stream.call_id,
        "leg": flip.stream.leg,
        "at": f"{int(flip.span[0] // 60)}:{flip.span[0] % 60:04.1f}",
        "seconds": flip.span[1] - flip.span[0],
        "says": _says(evaluation.scored, flip.b_speaks),
        "right": {"A": evaluation.scored[0].side.name, "B": evaluation.scored[-1].side.name}.get(flip.right)
        if len(evaluation.scored) == 2
        else None,
        "speech": flip.speech,
        "tracks": [
            {
                "name": name,
                "kind": kind,
                "bars": [
                    ((max(a, start) - start) / length * 100, overlap_s((a, b), (start, end)) / length * 100)
                    for a, b in spans
                    if overlap_s((a, b), (start, end)) > 0
                ],
            }
            for name, kind, spans in tracks
        ],
        "mark": ((flip.span[0] - start) / length * 100, overlap_s(flip.span, (start, end)) / length * 100),
    }


def _says(scored: Sequence[Scored], b_speaks: bool) -> str:
    if len(scored) == 1:
        return "taken for speech, against the labels" if b_speaks else "missed, by the labels it is speech"
    speaks, silent = (scored[1], scored[0]) if b_speaks else (scored[0], scored[1])
    return f"{speaks.side.name} takes it for speech, {silent.side.name} does not"
