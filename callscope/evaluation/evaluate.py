"""An evaluation from one end to the other: labels, one or two runs, scores, differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from callscope.errors import BadEvaluation
from callscope.evaluation import sides as running
from callscope.evaluation.comparison import Difference, Flip, Shift, changed, differences, flips, shifts
from callscope.evaluation.judgement import Run
from callscope.evaluation.label_files import LabelSource
from callscope.evaluation.labels import BadLabels, Labels, is_numeric
from callscope.evaluation.outputs import Target, parse_target, usual_targets
from callscope.evaluation.scoring import Facet, Score, Scoring, all_scores, facets_of, models_of, tagged_columns
from callscope.evaluation.sides import Calls, Side
from callscope.evaluation.utterances import read_utterances

Tell = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Request:
    """What to evaluate.

    Attributes:
        calls: where they are.
        labels: of them.
        sides: one, or A and B.
        scoring: how.
        scores: what of the models is scored, as the command line has it; empty: what goes together by name.
        utterances: each file is one utterance of one speaker.
        baseline: column and value that mark a speaker's usual voice, with `utterances`.
        common: settings of this evaluation, as the command line has them.
    """

    calls: Calls
    labels: LabelSource
    sides: Sequence[Side]
    scoring: Scoring
    scores: Sequence[str] = ()
    utterances: bool = False
    baseline: tuple[str, str] | None = None
    common: Sequence[str] = ()


@dataclass(frozen=True)
class Scored:
    """A side with what came of it."""

    side: Side
    run: Run
    facets: Sequence[Facet]
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class Evaluation:
    """What came of it all.

    Attributes:
        request: what was asked.
        labels: by call, of those that were scored.
        unlabelled: calls that were left out.
        scored: one side or two.
        differences: B minus A, by full name; empty for one side.
        settings: that differ: name, in A, in B.
        flips: stretches on which the sides disagree, longest first.
        shifts: outputs that differ, furthest apart first.
    """

    request: Request
    labels: Mapping[str, Labels]
    unlabelled: Sequence[str]
    scored: Sequence[Scored]
    differences: Mapping[str, Difference] = field(default_factory=dict)
    settings: Sequence[tuple[str, Any, Any]] = ()
    flips: Sequence[Flip] = ()
    shifts: Sequence[Shift] = ()

    @property
    def seconds(self) -> float:
        """Of scored audio, all legs."""
        return sum(judged.length_s for judged in self.scored[0].run.values())


def evaluate(request: Request, tell: Tell) -> Evaluation:
    """Run what is to be run, and score it.

    Args:
        request: what to evaluate.
        tell: told how far it is.

    Raises:
        CallscopeError: labels, a file, a setting or a model cannot be used, or nothing has labels.
    """
    names = request.calls.names()
    found = {name: request.labels.of(name, path) for name, path in names.items()}
    labels = {name: known for name, known in found.items() if known is not None}
    if not labels:
        raise BadEvaluation(
            f"None of the {len(names)} calls in {request.calls.where} has labels: label files bear the name of the "
            "file or call, or name it in a column."
        )
    runs = _runs(request, labels, tell)
    columns = tagged_columns(labels, is_numeric)
    models: dict[str, list[str]] = {}
    for run in runs:
        models |= models_of(run)
    how = replace(request.scoring, targets=_targets(request.scores, columns, models))
    scored = []
    try:
        for side, run in zip(request.sides, runs, strict=True):
            tell(f"scoring {side.name}", 0, 1)
            facets = facets_of(run, labels, how)
            scored.append(Scored(side, run, facets, all_scores(facets, labels, how)))
        if not any(one.facets for one in scored):
            raise BadEvaluation(
                f"Nothing could be scored: the labels speak of {', '.join(columns) or 'nothing'}, the models give "
                f"{', '.join(name for outputs in models.values() for name in outputs) or 'nothing'}. --score says what "
                "belongs to what."
            )
        out = Evaluation(request, labels, sorted(set(names) - set(labels)), scored)
        return _compared(out, labels, how) if len(scored) == 2 else out
    except BadLabels as error:
        raise BadEvaluation(f"The labels do not fit: {error}.") from error


def _compared(one: Evaluation, labels: Mapping[str, Labels], how: Scoring) -> Evaluation:
    a, b = one.scored
    settings: Sequence[tuple[str, Any, Any]] = ()
    if a.side.settings is not None and b.side.settings is not None:
        settings = changed(a.side.settings.model_dump(mode="json"), b.side.settings.model_dump(mode="json"))
    return replace(
        one,
        differences=differences(a.facets, b.facets, how),
        settings=settings,
        flips=flips(a.run, b.run, labels),
        shifts=shifts(a.run, b.run),
    )


def _runs(request: Request, labels: Mapping[str, Labels], tell: Tell) -> list[Run]:
    if request.utterances:
        paths = [path for name, path in request.calls.names().items() if path is not None and name in labels]
        if not paths:
            raise BadEvaluation("--utterances wants a folder of audio files.")

        def about(path: Path) -> tuple[str, bool]:
            known = labels[path.stem]
            tags = {(tag.column, tag.value) for tag in known.tags}
            return known.speaker, request.baseline is not None and request.baseline in tags

        settings = next((side.settings for side in request.sides if side.settings is not None), None)
        if settings is None:
            raise BadEvaluation("--utterances runs models on files; it takes settings, not exports.")
        if request.baseline is not None and not any(about(path)[1] for path in paths):
            raise BadEvaluation(f"--baseline {'='.join(request.baseline)}: none of the files has that label.")
        described = read_utterances(_counted(paths, "describing", tell), settings, about)
        return [running.run_utterances(side, described) for side in request.sides]
    models = bool(request.scores) or any(known.tags for known in labels.values()) or _differ_behind_detect(request)

    def progress(name: str) -> running.Progress:
        return lambda done, total: tell(f"running {name}", done, total)

    return [
        running.run(side, request.calls, labels, progress(side.name), models=models or not _has_speech(labels))
        for side in request.sides
    ]


def _has_speech(labels: Mapping[str, Labels]) -> bool:
    return any(known.utterances is not None for known in labels.values())


def _differ_behind_detect(request: Request) -> bool:
    """Whether the sides differ in what comes behind detection: then the models' outputs are compared too."""
    stages = [side.settings.processors for side in request.sides if side.settings is not None]
    return len(stages) == 2 and (stages[0].extract != stages[1].extract or stages[0].infer != stages[1].infer)


def _counted(paths: Sequence[Path], what: str, tell: Tell) -> Any:
    for done, path in enumerate(paths, 1):
        yield path
        tell(what, done, len(paths))


def _targets(
    texts: Sequence[str], columns: Mapping[str, bool], models: Mapping[str, Sequence[str]]
) -> tuple[Target, ...]:
    if not texts:
        return usual_targets(columns, models)
    outputs = {*models, *(name for names in models.values() for name in names)}
    found = []
    for text in texts:
        column = text.partition("=")[2].partition(":")[0]
        try:
            target = parse_target(text, columns.get(column, False), models)
        except ValueError as error:
            raise BadEvaluation(f"--score: {error}.") from error
        if target.column not in columns:
            raise BadEvaluation(f"--score {text}: the labels have no {target.column!r}, but {', '.join(columns)}.")
        if target.output not in outputs:
            raise BadEvaluation(
                f"--score {text}: no model that ran gives {target.output!r}; there are {', '.join(sorted(outputs))}. "
                "--set processors.infer.enabled='[…]' chooses the models."
            )
        found.append(target)
    return tuple(found)
