"""How well arousal tells anger and happiness from neutral and sad speech, on a folder in EMO-DB's naming.

Run `python bench/arousal_auc.py ../shared/data/emodb`. Each speaker's baseline is their neutral utterances; a neutral
utterance is judged against the speaker's other ones. Nothing is trained, so no speaker is seen before the test.
"""

import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from callscope.config import Extract as ExtractConfig
from processors.records import FeatureWindow, SpeechFrame, StreamId
from processors.stages.baseline import Baseline
from processors.stages.extract import Extract
from processors.stages.model import SHIPPED, Model
from processors.stages.named_features import NAMED_FEATURES, voiced_s
from processors.stages.opensmile_engine import OpenSmilePool

HIGH, LOW, NEUTRAL = "WF", "NT", "N"


def utterance_of(path: Path, engines: OpenSmilePool) -> FeatureWindow:
    """The whole recording as one segment."""
    pcm, rate_hz = soundfile.read(path, dtype="int16")
    if rate_hz != 16_000:
        raise SystemExit(f"{path}: {rate_hz} Hz, not 16000")
    stream = StreamId(path.stem, "customer")
    return Extract(stream, ExtractConfig(), engines).step(SpeechFrame(stream, 0, 0, pcm, last=True))[-1]


def auc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: how often a positive has the higher score, ties counting half."""
    above, below = scores[positive][:, None], scores[~positive][None, :]
    return float((above > below).mean() + 0.5 * (above == below).mean())


def main() -> None:
    """Print the AUC of each speaker, and over all."""
    folder = Path(sys.argv[1])
    model, engines = Model(SHIPPED / "arousal"), OpenSmilePool()
    speakers: dict[str, list[tuple[str, tuple[float, ...], float]]] = defaultdict(list)
    for path in sorted(folder.glob("*.wav")):
        window = utterance_of(path, engines)
        values = [NAMED_FEATURES[name](window) for name in model.manifest.input.features]
        if None in values:
            print(f"{path.name}: no voice found, left out")
            continue
        speakers[path.name[:2]].append((path.name[5], tuple(v for v in values if v is not None), voiced_s(window)))

    scores: list[float] = []
    high: list[bool] = []
    edges = [0]
    for utterances in speakers.values():
        for i, (emotion, values_, _) in enumerate(utterances):
            baseline = Baseline.empty(len(values_))
            for k, (other, heard, weight_s) in enumerate(utterances):
                if other == NEUTRAL and k != i:
                    baseline = baseline.add(heard, weight_s)
            rows = (np.array([row], np.float32) for row in (values_, baseline.mean, baseline.deviation))
            if emotion in HIGH + LOW:
                scores.append(float(model.run(*rows)[0, 0]))
                high.append(emotion in HIGH)
        edges.append(len(scores))
    s, y = np.array(scores), np.array(high)
    for speaker, (a, b) in zip(speakers, pairwise(edges), strict=True):
        print(f"speaker {speaker}: {b - a:4} utterances, AUC {auc(s[a:b], y[a:b]):.3f}")
    print(f"all:        {len(s):4} utterances, AUC {auc(s, y):.3f}")


if __name__ == "__main__":
    main()
