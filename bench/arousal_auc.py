"""How well arousal tells anger and happiness from neutral and sad speech, on a folder in EMO-DB's naming.

Run `python -m bench.arousal_auc ../shared/data/emodb`. Each speaker's baseline is their neutral utterances; a neutral
utterance is judged against the speaker's other ones. Nothing is trained, so no speaker is seen before the test.
A second argument names another model of which a raised voice should have more: `stress`.
"""

import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.emodb import ANGER, HAPPINESS, NEUTRAL, SADNESS, utterances
from processors.stages.baseline import Baseline
from processors.stages.model import SHIPPED, Model
from processors.stages.named_features import NAMED_FEATURES, voiced_s

HIGH, LOW = ANGER + HAPPINESS, NEUTRAL + SADNESS


def auc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: how often a positive has the higher score, ties counting half."""
    above, below = scores[positive][:, None], scores[~positive][None, :]
    return float((above > below).mean() + 0.5 * (above == below).mean())


def main() -> None:
    """Print the AUC of each speaker, and over all."""
    model = Model(SHIPPED / (sys.argv[2] if len(sys.argv) > 2 else "arousal"))
    speakers: dict[str, list[tuple[str, tuple[float, ...], float]]] = defaultdict(list)
    for one in utterances(Path(sys.argv[1])):
        values = [NAMED_FEATURES[name](one.window) for name in model.manifest.input.features]
        if None in values:
            print(f"{one.name}: no voice found, left out")
            continue
        known = tuple(value for value in values if value is not None)
        speakers[one.speaker].append((one.emotion, known, voiced_s(one.window)))

    scores: list[float] = []
    high: list[bool] = []
    edges = [0]
    for spoken in speakers.values():
        for i, (emotion, values_, _) in enumerate(spoken):
            baseline = Baseline.empty(len(values_))
            for k, (other, heard, weight_s) in enumerate(spoken):
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
