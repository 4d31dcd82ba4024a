"""How well arousal tells anger and happiness from neutral and sad speech, on a folder in EMO-DB's naming.

Run `python -m bench.arousal_auc ../shared/data/emodb`. Each speaker's baseline is their neutral utterances; a neutral
utterance is judged against the speaker's other ones. Nothing is trained, so no speaker is seen before the test.
A second argument names another model of which a raised voice should have more: `stress`.
"""

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from bench.emodb import ANGER, HAPPINESS, NEUTRAL, SADNESS, utterances
from callscope.evaluation.scores import auc
from callscope.evaluation.utterances import Utterance, said_of
from processors.stages.model import SHIPPED, Model

HIGH, LOW = ANGER + HAPPINESS, NEUTRAL + SADNESS


def main() -> None:
    """Print the AUC of each speaker, and over all."""
    model = Model(SHIPPED / (sys.argv[2] if len(sys.argv) > 2 else "arousal"))
    found = list(utterances(Path(sys.argv[1])))
    said = said_of(model, [Utterance(one.name, one.speaker, one.emotion == NEUTRAL, one.window) for one in found])
    (output,) = [spec.name for spec in model.manifest.outputs]
    by_speaker: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for one in found:
        if one.name not in said:
            print(f"{one.name}: no voice found, left out")
        elif one.emotion in HIGH + LOW:
            by_speaker[one.speaker].append((said[one.name].outputs[output] or 0.0, one.emotion in HIGH))
    for speaker, judged in by_speaker.items():
        print(f"speaker {speaker}: {len(judged):4} utterances, AUC {area(judged):.3f}")
    every = [pair for judged in by_speaker.values() for pair in judged]
    print(f"all:        {len(every):4} utterances, AUC {area(every):.3f}")


def area(judged: list[tuple[float, bool]]) -> float:
    """The area under the ROC curve of scores and whether they should be high."""
    return auc(np.array([score for score, _ in judged]), np.array([high for _, high in judged]))


if __name__ == "__main__":
    main()
