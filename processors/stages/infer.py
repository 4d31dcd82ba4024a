"""Runs models on windows of features and on audio: many streams in one batch, each against its own baseline.

A window is judged against the finished utterances *before* its segment. So a result depends on the stream's records
only: not on what other streams say, how windows were batched, or whether a record came twice.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import floor

import numpy as np
import soxr
from numpy.typing import NDArray

from callscope.streams import StreamId
from callscope.topics import VOICE_FEATURES
from processors.records import (
    RATE_HZ,
    Consent,
    FeatureWindow,
    Insight,
    Output,
    Pcm,
    SpeechFrame,
    WindowKind,
)
from processors.stages.baseline import Baseline
from processors.stages.consents import Consents
from processors.stages.excerpts import Excerpt, Excerpts
from processors.stages.marks import InferMark
from processors.stages.model import Manifest, Model, OutputSpec, Waveform
from processors.stages.named_features import NAMED_FEATURES, voiced_s

_KEPT_BASELINES = 32
"""Segments that may come again after later ones, and still meet the baseline of their time."""
_KIND_NAMES = {WindowKind.WINDOW: "window", WindowKind.UTTERANCE: "utterance"}
_RANGE_SLACK = 1e-4
"""An output may leave its range by this share of it: rounding of 32-bit numbers."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Which models may run where. It is asked before anything is computed.

    Attributes:
        emotion_legs: the legs on which models of the policy "emotion" may run.
        health_legs: the legs on which models of the policy "health" may run.
    """

    emotion_legs: Collection[str] = ("customer", "caller")
    health_legs: Collection[str] = ("customer", "caller")

    def allows(self, manifest: Manifest, stream: StreamId) -> bool:
        """Whether a model may run on a stream."""
        if manifest.legs and stream.leg not in manifest.legs:
            return False
        match manifest.policy:
            case "emotion":
                return stream.leg in self.emotion_legs
            case "health":
                return stream.leg in self.health_legs
            case "any":
                return True


@dataclass(frozen=True, slots=True)
class Failure:
    """A record that could not be worked on.

    Attributes:
        index: its place among those that were given together.
        error: what was raised.
    """

    index: int
    error: Exception


class Infer:
    """The infer stage, of all streams.

    A record on which a model fails, or cannot be prepared, says so in its insights; all others get the same bits as
    without it.

    Attributes:
        withheld: how many windows were kept from each model, by (its name, "policy" or "consent"); only ever grows.
        listens: whether there are models of the waveform, which want `hear`.

    Args:
        models: what to run.
        policy: on which legs.
        max_batch: rows a model is given at once, at most.
    """

    def __init__(self, models: Sequence[Model], policy: Policy, max_batch: int = 32) -> None:
        self._on_windows = tuple(model for model in models if model.manifest.input.waveform is None)
        self._on_audio = tuple(
            (model, model.manifest.input.waveform) for model in models if model.manifest.input.waveform is not None
        )
        self._policy = policy
        self._max_batch = max_batch
        self._consents = Consents(VOICE_FEATURES.retention_ms)
        self._voices: dict[tuple[StreamId, str], _Voice] = {}
        self._excerpts: dict[tuple[StreamId, str], Excerpts] = {}
        self._failures: list[Failure] = []
        self.withheld: Counter[tuple[str, str]] = Counter()
        self.listens = bool(self._on_audio)

    def obey(self, consent: Consent) -> None:
        """Take in what a speaker allowed or refused. It holds by media time, also for windows that come again."""
        self._consents.note(consent)

    def take_failures(self) -> list[Failure]:
        """What failed in the last call of `step_many` or `hear`; each record at most once."""
        failures, self._failures = self._failures, []
        return list({failure.index: failure for failure in reversed(failures)}.values())

    def step(self, window: FeatureWindow) -> list[Insight]:
        """One window; see `step_many`."""
        return self.step_many([window])[0]

    def step_many(self, windows: Sequence[FeatureWindow]) -> list[list[Insight]]:
        """Judge windows of any streams; those of one stream in their order.

        Returns:
            For each window, an insight of each model that is for such windows and may run on them.
        """
        insights: list[list[Insight]] = [[] for _ in windows]
        for model in self._on_windows:
            kinds = model.manifest.input.kinds
            asked = []
            for index, window in enumerate(windows):
                if _KIND_NAMES[window.kind] in kinds and self._may_run(
                    model.manifest, window.stream, window.start, window.start + window.duration
                ):
                    with self._blaming(index):
                        asked.append(self._about_window(index, window, model.manifest))
                elif window.kind is WindowKind.UTTERANCE:  # nothing said of it, but it may tell what is usual
                    with self._blaming(index):
                        self._learn(window, model.manifest)
            self._answer(model, asked)
            for question in asked:
                insights[question.index].append(_insight(model.manifest, question))
        return insights

    def hear(self, frames: Sequence[SpeechFrame]) -> list[list[Insight]]:
        """Let the models of the waveform hear speech of any streams; frames of one stream in their order.

        Returns:
            For each frame, the insights that became due with it.
        """
        insights: list[list[Insight]] = [[] for _ in frames]
        for model, waveform in self._on_audio:
            asked = []
            for index, frame in enumerate(frames):
                if not self._policy.allows(model.manifest, frame.stream):
                    if frame.last:
                        self.withheld[model.manifest.name, "policy"] += 1
                    continue
                with self._blaming(index):
                    asked += [
                        _about_excerpt(index, excerpt, waveform)
                        for excerpt in self._excerpts_of(model, waveform, frame.stream).step(frame)
                        if self._may_run(
                            model.manifest, excerpt.stream, excerpt.start, excerpt.start + len(excerpt.pcm)
                        )
                    ]
            self._answer(model, asked)
            for question in asked:
                insights[question.index].append(_insight(model.manifest, question))
        return insights

    def learn(self, window: FeatureWindow) -> None:
        """Take a window into the baselines only: to rebuild them from records that were judged before."""
        for model in self._on_windows:
            self._learn(window, model.manifest)

    def baselines(self, stream: StreamId, before: int | None = None) -> dict[tuple[str, str], Baseline]:
        """What is usual in a stream, by name and version of the model; nothing of models that heard nothing of it.

        Args:
            stream: the leg.
            before: in the utterances before this segment; None: in all.
        """
        known = {}
        for model in self._on_windows:
            manifest = model.manifest
            voice = self._voices.get((stream, manifest.name))
            baseline = None if voice is None else voice.newest if before is None else voice.before(before)
            if baseline is not None and baseline.weight_s:
                known[manifest.name, manifest.version] = baseline
        return known

    def resume(self, stream: StreamId, mark: InferMark) -> None:
        """Know what another worker knew of a stream; models that have changed since know nothing."""
        for model in self._on_windows:
            manifest = model.manifest
            known = mark.baselines.get((manifest.name, manifest.version))
            if known is not None and len(known.mean) == len(known.squares) == len(manifest.input.features):
                self._voice(manifest, stream).resume(mark.done, known)

    def drop(self, stream: StreamId) -> None:
        """Forget a stream's baselines: its windows are over."""
        for model in self._on_windows:
            self._voices.pop((stream, model.manifest.name), None)

    def drop_audio(self, stream: StreamId) -> None:
        """Forget a stream's audio: its speech is over."""
        for model, _ in self._on_audio:
            self._excerpts.pop((stream, model.manifest.name), None)

    def _may_run(self, manifest: Manifest, stream: StreamId, start: int, end: int) -> bool:
        if not self._policy.allows(manifest, stream):
            self.withheld[manifest.name, "policy"] += 1
            return False
        if not self._consents.allow(stream, manifest.policy, start, end):
            self.withheld[manifest.name, "consent"] += 1
            return False
        return True

    def _voice(self, manifest: Manifest, stream: StreamId) -> _Voice:
        key = (stream, manifest.name)
        if key not in self._voices:
            self._voices[key] = _Voice(len(manifest.input.features))
        return self._voices[key]

    def _excerpts_of(self, model: Model, waveform: Waveform, stream: StreamId) -> Excerpts:
        key = (stream, model.manifest.name)
        if key not in self._excerpts:
            self._excerpts[key] = Excerpts(waveform.length, waveform.hop)
        return self._excerpts[key]

    def _learn(self, window: FeatureWindow, manifest: Manifest) -> None:
        """Let an utterance into the baseline, if the model has one and may use it."""
        if (
            manifest.baseline is not None
            and self._policy.allows(manifest, window.stream)
            and self._consents.allow(window.stream, manifest.policy, window.start, window.start + window.duration)
        ):
            self._voice(manifest, window.stream).learn(window, manifest)

    def _about_window(self, index: int, window: FeatureWindow, manifest: Manifest) -> _Question:
        """Collect what the model needs, or why it cannot be asked; then let the utterance into the baseline."""
        question = _Question(
            index,
            window.stream,
            window.segment,
            window.start,
            window.duration,
            window.kind is WindowKind.UTTERANCE,
            window.lookahead,
        )
        values = _values(window, manifest)
        if isinstance(values, str):
            question.unknown_because = values
        else:
            question.row = values
        if manifest.baseline is not None:
            voice = self._voice(manifest, window.stream)
            question.baseline = voice.before(window.segment)
            heard, needed = question.baseline.weight_s, manifest.baseline.min_voiced_s
            if heard < needed:
                question.unknown_because = f"baseline: {_tenths(heard)} of {needed:.1f} s of voiced speech heard"
            voice.learn(window, manifest)
        return question

    def _answer(self, model: Model, asked: Sequence[_Question]) -> None:
        for batch in _batches([question for question in asked if not question.unknown_because], self._max_batch):
            try:
                _ask(model, batch)
            except Exception:  # one of them is to blame: alone, each fails for itself
                for question in batch:
                    with self._blaming(question.index):
                        question.unknown_because = "the model failed on it"
                        _ask(model, [question])
                        question.unknown_because = ""

    @contextmanager
    def _blaming(self, index: int) -> Iterator[None]:
        """What fails in here is the fault of one record, and the others go on."""
        try:
            yield
        except Exception as error:
            self._failures.append(Failure(index, error))


def _ask(model: Model, batch: Sequence[_Question]) -> None:
    rows = np.array([question.row for question in batch], np.float32)
    if model.manifest.baseline is None:
        answers = model.run(rows)
    else:
        mean = np.array([question.baseline.mean for question in batch], np.float32)
        deviation = np.array([question.baseline.deviation for question in batch], np.float32)
        answers = model.run(rows, mean, deviation)
    for question, answer in zip(batch, answers.tolist(), strict=True):
        question.answer = answer


_NOBODY = Baseline.empty(0)


@dataclass(slots=True)
class _Question:
    """A window or excerpt on its way through one model."""

    index: int
    stream: StreamId
    segment: int
    start: int
    duration: int
    is_final: bool
    lookahead: int
    row: tuple[float, ...] | NDArray[np.float32] = ()
    baseline: Baseline = _NOBODY
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

    @property
    def newest(self) -> Baseline:
        """Of all utterances."""
        return self._known[-1][1]

    def resume(self, done: int, baseline: Baseline) -> None:
        """Know what was known after a segment, and no more of what was before."""
        self._known.clear()
        self._known.append((done, baseline))

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
    if window.missing_because == "shed":
        return "features: left out, there was more to do than the worker could"
    if window.coverage < manifest.input.min_coverage:
        return f"window: {window.coverage:.0%} of it was heard, {manifest.input.min_coverage:.0%} needed"
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


def _about_excerpt(index: int, excerpt: Excerpt, waveform: Waveform) -> _Question:
    question = _Question(
        index, excerpt.stream, excerpt.segment, excerpt.start, len(excerpt.pcm), excerpt.is_final, lookahead=0
    )
    if len(excerpt.pcm) < waveform.length:
        heard = _tenths(len(excerpt.pcm) / RATE_HZ)
        question.unknown_because = f"audio: {heard} of {waveform.length_s:.1f} s in this segment"
    elif excerpt.lost:
        question.unknown_because = "audio: some of it was lost"
    else:
        question.row = _samples(excerpt.pcm, waveform)
    return question


def _samples(pcm: Pcm, waveform: Waveform) -> NDArray[np.float32]:
    """At the model's rate, from -1 to 1."""
    samples = pcm.astype(np.float32) / np.float32(32_768)
    if waveform.rate_hz == RATE_HZ:
        return samples
    resampled: NDArray[np.float32] = soxr.resample(samples, RATE_HZ, waveform.rate_hz)
    return resampled


def _batches(questions: Sequence[_Question], size: int) -> Iterator[Sequence[_Question]]:
    return (questions[at : at + size] for at in range(0, len(questions), size))


def _tenths(seconds: float) -> str:
    """Rounded down, so that too little never looks like enough."""
    return f"{floor(seconds * 10) / 10:.1f}"


def _output(spec: OutputSpec, value: float) -> Output:
    slack = _RANGE_SLACK * (spec.high - spec.low)
    if spec.low - slack <= value <= spec.high + slack:  # neither is a number that is none
        return Output(spec.name, value, spec.unit)
    because = f"the model gave {value:g}, outside its range of {spec.low:g} to {spec.high:g}"
    return Output(spec.name, None, spec.unit, because)


def _insight(manifest: Manifest, question: _Question) -> Insight:
    if question.answer:
        outputs = tuple(map(_output, manifest.outputs, question.answer))
    else:
        outputs = tuple(Output(spec.name, None, spec.unit, question.unknown_because) for spec in manifest.outputs)
    return Insight(
        stream=question.stream,
        segment=question.segment,
        model=manifest.name,
        model_version=manifest.version,
        start=question.start,
        duration=question.duration,
        is_final=question.is_final,
        lookahead=question.lookahead,
        outputs=outputs,
        caution=manifest.caution,
    )
