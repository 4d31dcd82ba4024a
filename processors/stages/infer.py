"""Runs models on windows of features: many streams in one batch, each against its own speaker's baseline.

A window is judged against the finished utterances *before* its segment. So a result depends on the stream's records
only: not on what other streams say, how windows were batched, or whether a record came twice.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from math import floor, isfinite

import numpy as np

from processors.records import FeatureWindow, Insight, Output, StreamId, WindowKind
from processors.stages.baseline import Baseline
from processors.stages.model import Manifest, Model
from processors.stages.named_features import NAMED_FEATURES, voiced_s

_KEPT_BASELINES = 32
"""Segments that may come again after later ones, and still meet the baseline of their time."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Which models may run where. It is asked before anything is computed.

    Attributes:
        emotion_legs: the legs on which models of the policy "emotion" may run.
    """

    emotion_legs: Collection[str] = ("customer", "caller")

    def allows(self, manifest: Manifest, stream: StreamId) -> bool:
        """Whether a model may run on a stream."""
        return manifest.policy == "any" or stream.leg in self.emotion_legs


class Infer:
    """The infer stage, of all streams.

    Attributes:
        withheld: how many windows the policy kept from each model, by its name; only ever grows.

    Args:
        models: what to run on each window.
        policy: on which legs.
    """

    def __init__(self, models: Sequence[Model], policy: Policy) -> None:
        self._models = tuple(models)
        self._policy = policy
        self._voices: dict[tuple[StreamId, str], _Voice] = {}
        self.withheld: Counter[str] = Counter()

    def step(self, window: FeatureWindow) -> list[Insight]:
        """One window; see `step_many`."""
        return self.step_many([window])[0]

    def step_many(self, windows: Sequence[FeatureWindow]) -> list[list[Insight]]:
        """Judge windows of any streams; those of one stream in their order.

        Returns:
            For each window, an insight of each model that may run on its leg.
        """
        insights: list[list[Insight]] = [[] for _ in windows]
        for model in self._models:
            asked = [_Question(i, window) for i, window in enumerate(windows) if self._may_run(model, window)]
            for question in asked:
                self._prepare(model, question)
            self._answer(model, asked)
            for question in asked:
                insights[question.index].append(_insight(model.manifest, question))
        return insights

    def learn(self, window: FeatureWindow) -> None:
        """Take a window into the baselines only: to rebuild them from records that were judged before."""
        for model in self._models:
            if model.manifest.baseline is not None and self._policy.allows(model.manifest, window.stream):
                self._voice(model, window.stream).learn(window, model.manifest)

    def drop(self, stream: StreamId) -> None:
        """Forget a stream that has ended."""
        for model in self._models:
            self._voices.pop((stream, model.manifest.name), None)

    def _may_run(self, model: Model, window: FeatureWindow) -> bool:
        if self._policy.allows(model.manifest, window.stream):
            return True
        self.withheld[model.manifest.name] += 1
        return False

    def _voice(self, model: Model, stream: StreamId) -> _Voice:
        key = (stream, model.manifest.name)
        if key not in self._voices:
            self._voices[key] = _Voice(len(model.manifest.input.features))
        return self._voices[key]

    def _prepare(self, model: Model, question: _Question) -> None:
        """Collect what the model needs, or why it cannot be asked; then let the utterance into the baseline."""
        manifest, window = model.manifest, question.window
        values = _values(window, manifest)
        if isinstance(values, str):
            question.unknown_because = values
        else:
            question.features = values
        if manifest.baseline is not None:
            voice = self._voice(model, window.stream)
            question.baseline = voice.before(window.segment)
            heard, needed = question.baseline.weight_s, manifest.baseline.min_voiced_s
            if heard < needed:
                question.unknown_because = f"baseline: {_tenths(heard)} of {needed:.1f} s of voiced speech heard"
            voice.learn(window, manifest)

    def _answer(self, model: Model, asked: Sequence[_Question]) -> None:
        batch = [question for question in asked if not question.unknown_because]
        if not batch:
            return
        features = np.array([question.features for question in batch], np.float32)
        if model.manifest.baseline is None:
            answers = model.run(features)
        else:
            mean = np.array([question.baseline.mean for question in batch], np.float32)
            deviation = np.array([question.baseline.deviation for question in batch], np.float32)
            answers = model.run(features, mean, deviation)
        for question, answer in zip(batch, answers.tolist(), strict=True):
            question.answer = answer


@dataclass(slots=True)
class _Question:
    """A window on its way through one model."""

    index: int
    window: FeatureWindow
    features: tuple[float, ...] = ()
    baseline: Baseline = field(default_factory=lambda: Baseline.empty(0))
    unknown_because: str = ""
    answer: list[float] = field(default_factory=list)


class _Voice:
    """The baselines of one stream for one model, as they were after each of its last utterances."""

    def __init__(self, features: int) -> None:
        self._known: deque[tuple[int, Baseline]] = deque([(-1, Baseline.empty(features))], maxlen=_KEPT_BASELINES)

    def before(self, segment: int) -> Baseline:
        """Of the utterances before a segment (or of the oldest that are remembered)."""
        for learnt, baseline in reversed(self._known):
            if learnt < segment:
                return baseline
        return self._known[0][1]

    def learn(self, window: FeatureWindow, manifest: Manifest) -> None:
        """Take in a finished utterance, once."""
        newest, baseline = self._known[-1]
        if window.kind is not WindowKind.UTTERANCE or window.segment <= newest:
            return
        values = _values(window, manifest)
        if not isinstance(values, str):
            self._known.append((window.segment, baseline.add(values, voiced_s(window))))


def _values(window: FeatureWindow, manifest: Manifest) -> tuple[float, ...] | str:
    """The features that a model asks for, or why there are none."""
    voiced, needed = voiced_s(window), manifest.input.min_voiced_s
    if voiced < needed:
        return f"window: {_tenths(voiced)} of {needed:.1f} s of voiced speech"
    values = []
    for name in manifest.input.features:
        value = NAMED_FEATURES[name](window)
        if value is None:
            return f"window: no {name}"
        values.append(value)
    return tuple(values)


def _tenths(seconds: float) -> str:
    """Rounded down, so that too little never looks like enough."""
    return f"{floor(seconds * 10) / 10:.1f}"


def _insight(manifest: Manifest, question: _Question) -> Insight:
    window = question.window
    outputs = []
    for i, spec in enumerate(manifest.outputs):
        value = question.answer[i] if question.answer else None
        because = question.unknown_because
        if value is not None and not isfinite(value):
            value, because = None, "the model gave no number"
        outputs.append(Output(spec.name, value, spec.unit, because))
    return Insight(
        stream=window.stream,
        segment=window.segment,
        model=manifest.name,
        model_version=manifest.version,
        start=window.start,
        duration=window.duration,
        is_final=window.kind is WindowKind.UTTERANCE,
        lookahead=window.lookahead,
        outputs=tuple(outputs),
    )
