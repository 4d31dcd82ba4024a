"""Trains the emotion model on a folder in EMO-DB's naming, and says how well it knows speakers it has not heard.

Run `python -m tools.train_emotion_model ../shared/data/emodb`, then `python -m tools.build_models`. It prints the
unweighted average recall (UAR) with each speaker left out in turn, the strength of regularisation chosen among the
others by leaving out each of them; then it trains on all and writes tools/emotion_weights.json, rounded to six digits,
so that another machine's arithmetic gives the same file.

The model: functionals standardised and bounded, multinomial logistic regression with an L2 penalty, every class of the
same total weight; fitted by Newton's method, which finds the one minimum.
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.emodb import ANGER, HAPPINESS, NEUTRAL, SADNESS, utterances
from tools.build_models import EMOTION_WEIGHTS

CLASSES = {ANGER: "anger", HAPPINESS: "happiness", SADNESS: "sadness", NEUTRAL: "neutral"}
PENALTIES = (3.0, 10.0, 30.0, 100.0, 300.0)
BOUND = 4.0
"""Standard deviations that a functional may count for."""
DIGITS = 6

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Classifier(NamedTuple):
    """Standardisation, shape (features,), and a linear classifier, shapes (classes, features) and (classes,)."""

    mean: Floats
    scale: Floats
    weights: Floats
    bias: Floats

    def decide(self, x: Floats) -> Ints:
        """The likeliest class of each row."""
        z = np.clip((x - self.mean) / self.scale, -BOUND, BOUND)
        decided: Ints = np.argmax(z @ self.weights.T + self.bias, axis=1)
        return decided


def fit(x: Floats, y: Ints, penalty: float) -> Classifier:
    """Newton's method on the penalised likelihood; the bias is not penalised."""
    mean, scale = x.mean(0), x.std(0)
    z = np.hstack([np.clip((x - mean) / scale, -BOUND, BOUND), np.ones((len(x), 1))])
    k, width = len(CLASSES), z.shape[1]
    weight = (1 / np.bincount(y, minlength=k))[y] * len(y) / k
    target = np.eye(k)[y]
    penalties = np.full(width, penalty)
    penalties[-1] = 1e-6
    w = np.zeros((k, width))
    for _ in range(100):
        logits = z @ w.T
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        gradient = ((p - target) * weight[:, None]).T @ z + w * penalties
        hessian = np.diag(np.tile(penalties, k))
        for a in range(k):
            for b in range(k):
                curvature = weight * p[:, a] * ((a == b) - p[:, b])
                hessian[a * width : (a + 1) * width, b * width : (b + 1) * width] += (z * curvature[:, None]).T @ z
        change = np.linalg.solve(hessian, gradient.ravel()).reshape(w.shape)
        w -= change
        if np.abs(change).max() < 1e-12:
            break
    return Classifier(mean, scale, w[:, :-1], w[:, -1])


def recalls(y: Ints, decided: Ints) -> Floats:
    """Of each class that occurs, the share that was found."""
    return np.array([(decided[y == k] == k).mean() for k in np.unique(y)])


def left_out(x: Floats, y: Ints, speakers: NDArray[np.str_], penalty: float) -> Ints:
    """Decisions on each speaker by a classifier that has not heard them."""
    decided = np.zeros_like(y)
    for speaker in np.unique(speakers):
        theirs = speakers == speaker
        decided[theirs] = fit(x[~theirs], y[~theirs], penalty).decide(x[theirs])
    return decided


def best_penalty(x: Floats, y: Ints, speakers: NDArray[np.str_]) -> float:
    """The one with the highest UAR over speakers left out; the stronger of equals."""
    return max(PENALTIES, key=lambda penalty: (recalls(y, left_out(x, y, speakers, penalty)).mean(), penalty))


def rounded(values: Floats) -> list[object]:
    """As JSON numbers of `DIGITS` significant digits."""
    return [rounded(row) if row.ndim else float(f"{row:.{DIGITS}g}") for row in values]


def main() -> None:
    """Evaluate, train, write."""
    spoken = [one for one in utterances(Path(sys.argv[1])) if one.emotion in CLASSES]
    x = np.array([one.window.functionals for one in spoken], np.float64)
    y = np.array([list(CLASSES).index(one.emotion) for one in spoken])
    speakers = np.array([one.speaker for one in spoken])

    decided = np.zeros_like(y)
    for speaker in np.unique(speakers):
        theirs = speakers == speaker
        penalty = best_penalty(x[~theirs], y[~theirs], speakers[~theirs])
        decided[theirs] = fit(x[~theirs], y[~theirs], penalty).decide(x[theirs])
        found = recalls(y[theirs], decided[theirs]).mean()
        print(f"speaker {speaker}: {theirs.sum():3} utterances, penalty {penalty:g}, UAR {found:.3f}")
    found = recalls(y, decided)
    print("recall:", ", ".join(f"{name} {r:.3f}" for name, r in zip(CLASSES.values(), found, strict=True)))
    print(f"all: {len(y)} utterances, UAR {found.mean():.3f}, accuracy {(decided == y).mean():.3f}")
    print("confusion (rows: spoken, columns: decided):")
    for k, name in enumerate(CLASSES.values()):
        print(f"  {name:10}", np.bincount(decided[y == k], minlength=len(CLASSES)))

    penalty = best_penalty(x, y, speakers)
    final = fit(x, y, penalty)
    written = {
        "classes": list(CLASSES.values()),
        "penalty": penalty,
        "low": -BOUND,
        "high": BOUND,
        **{name: rounded(values) for name, values in final._asdict().items()},
    }
    EMOTION_WEIGHTS.write_text(json.dumps(written, indent=1) + "\n", "utf-8")
    print(f"trained on all with penalty {penalty:g}: {EMOTION_WEIGHTS.name}; now build the models")


if __name__ == "__main__":
    main()
