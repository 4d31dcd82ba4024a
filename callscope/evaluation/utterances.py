"""Models on recordings of one utterance each: every file is one segment, and a speaker is known from other files.

Nothing is detected here: that a model is right about an utterance must not hang on where a detector found it. A model
with a baseline gets the speaker's baseline files, except the one that is judged; nothing is trained, so no speaker is
seen before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from callscope.config import Extract as ExtractConfig
from callscope.config import Settings
from callscope.errors import BadEvaluation
from callscope.evaluation.judgement import Judgement, Said
from callscope.evaluation.recordings import audio_of, end_of, read_call
from callscope.evaluation.spans import GRID, spoken_in
from callscope.streams import StreamId
from processors.records import RATE_HZ, FeatureWindow, SpeechFrame
from processors.stages.baseline import Baseline
from processors.stages.extract import Extract
from processors.stages.model import Model, load_models
from processors.stages.named_features import NAMED_FEATURES, voiced_s
from processors.stages.opensmile_engine import OpenSmilePool


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording.

    Attributes:
        name: of its file, without its ending.
        speaker: who speaks; empty for unknown.
        is_baseline: whether it shows what is usual for the speaker.
        window: all of it as one segment.
    """

    name: str
    speaker: str
    is_baseline: bool
    window: FeatureWindow


def describe(name: str, path: Path, config: ExtractConfig, engines: OpenSmilePool) -> FeatureWindow:
    """The features of a whole file as one segment.

    Raises:
        BadEvaluation: it cannot be read, or is too short.
    """
    call = read_call(path, ("customer",), mono=True)
    records = call.legs["customer"]
    stream, pcm = StreamId(name, "customer"), audio_of(records, 0, end_of(records))
    found = Extract(stream, config, engines).step(SpeechFrame(stream, 0, 0, pcm, last=True))
    if not found:
        raise BadEvaluation(f"{path} is too short to be described.")
    return found[-1]


def said_of(model: Model, utterances: Sequence[Utterance]) -> dict[str, Said]:
    """What a model says of each utterance in which it finds all its features; by name.

    Args:
        model: of features; not of the waveform.
        utterances: of any speakers.
    """
    features = model.manifest.input.features
    by_speaker: dict[str, list[tuple[Utterance, tuple[float, ...]]]] = defaultdict(list)
    for one in utterances:
        values = [NAMED_FEATURES[name](one.window) for name in features]
        known = tuple(value for value in values if value is not None)
        if len(known) == len(values):
            by_speaker[one.speaker].append((one, known))
    out: dict[str, Said] = {}
    for spoken in by_speaker.values():
        for i, (one, row) in enumerate(spoken):
            inputs: list[Sequence[float]] = [row]
            if model.manifest.baseline is not None:
                baseline = Baseline.empty(len(features))
                for k, (other, heard) in enumerate(spoken):
                    if other.is_baseline and k != i:
                        baseline = baseline.add(heard, voiced_s(other.window))
                if baseline.weight_s == 0:
                    continue
                inputs += [baseline.mean, baseline.deviation]
            answer = model.run(*(np.array([values], np.float32) for values in inputs))[0].tolist()
            span = (0.0, one.window.duration / RATE_HZ)
            outputs: Mapping[str, float | None] = {
                spec.name: value for spec, value in zip(model.manifest.outputs, answer, strict=True)
            }
            out[one.name] = Said(model.manifest.name, model.manifest.version, span, outputs)
    return out


def read_utterances(
    files: Iterable[Path], settings: Settings, about: Callable[[Path], tuple[str, bool]]
) -> list[Utterance]:
    """Describe recordings.

    Args:
        files: one utterance each.
        settings: how features are extracted.
        about: a file's speaker, and whether it is a baseline.
    """
    engines = OpenSmilePool()
    found = []
    for path in files:
        speaker, is_baseline = about(path)
        window = describe(path.stem, path, settings.processors.extract, engines)
        found.append(Utterance(path.stem, speaker, is_baseline, window))
    return found


def judge(utterances: Sequence[Utterance], settings: Settings) -> dict[StreamId, Judgement]:
    """What the configured models say of each utterance, as a run.

    Raises:
        BadEvaluation: a model hears the waveform; that needs the pipeline.
        ModelError: a model cannot be used.
    """
    said: dict[str, list[Said]] = defaultdict(list)
    for model in load_models(settings.processors.infer.enabled, settings.processors.infer.models):
        if model.manifest.input.waveform is not None:
            raise BadEvaluation(f"{model.manifest.name} hears the waveform: score it without --utterances.")
        for name, answer in said_of(model, utterances).items():
            said[name].append(answer)
    run = {}
    for one in utterances:
        length_s = one.window.duration / RATE_HZ
        frames = one.window.duration // GRID
        everything = spoken_in([(0.0, length_s)], frames)
        run[StreamId(one.name, "customer")] = Judgement(
            everything.astype(np.float64), everything, ((0.0, length_s),), said=tuple(said[one.name])
        )
    return run
