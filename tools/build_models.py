"""Builds model.onnx of every shipped model, and writes its checksum into model.toml.

Run `python -m tools.build_models`. The methods, and where each number comes from: the cards beside the models. The
same numbers give the same bytes. Sums run over the last axis of a product, not through a matrix product, so that a row
has the same bits in any batch.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

MODELS = Path(__file__).parent.parent / "processors/models"
EMOTION_WEIGHTS = Path(__file__).parent / "emotion_weights.json"
"""Written by tools/train_emotion_model.py."""
OPSET, IR_VERSION = 17, 8

# Per feature: does arousal raise (+1) or lower (-1) it, its weight, and the least deviation it is measured by.
# Pitch, loudness and spectral balance count a third each; the balance is told by two features.
ACTIVATION = {
    "f0_mean": (+1, 2 / 6, 1.5),  # semitones
    "loudness_db": (+1, 2 / 6, 1.0),  # 10 log10 of openSMILE's loudness
    "alpha_ratio_mean": (+1, 1 / 6, 1.5),  # dB
    "hammarberg_mean": (-1, 1 / 6, 1.5),  # dB
}
# Features of voice quality, and the least deviation each is measured by.
DEPARTURE = {
    "jitter_mean": 0.0075,  # relative
    "shimmer_db_mean": 0.15,  # dB
    "hnr_db_mean": 0.75,  # dB
}
DEVIATIONS_TO_SATURATE = 3.0

# Limits of the normal range for sustained vowels.
JITTER_LIMIT, SHIMMER_LIMIT_DB, HNR_LIMIT_DB = 0.0104, 0.35, 20.0

Constants = dict[str, NDArray[np.float32] | NDArray[np.int64]]
Step = tuple[str, list[str], list[str], dict[str, Any]]


def step(kind: str, takes: str, gives: str, **attributes: int) -> Step:
    """One node: operator, inputs and outputs separated by spaces, attributes."""
    return kind, takes.split(), gives.split(), attributes


def model(
    name: str,
    inputs: Sequence[str],
    width: int,
    outputs: Sequence[str],
    constants: Constants,
    steps: Sequence[Step],
) -> onnx.ModelProto:
    """A checked model whose inputs are (batch, width) and whose outputs are (batch, 1)."""

    def tensor(of: str, columns: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(of, TensorProto.FLOAT, ["batch", columns])

    built = helper.make_model(
        helper.make_graph(
            [helper.make_node(kind, takes, gives, name=gives[0], **more) for kind, takes, gives, more in steps],
            name,
            [tensor(one, width) for one in inputs],
            [tensor(one, 1) for one in outputs],
            [numpy_helper.from_array(value, one) for one, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="callscope",
    )
    onnx.checker.check_model(built, full_check=True)
    return built


def _activation() -> dict[str, NDArray[np.float32]]:
    signs, weights, floors = (np.array(column, np.float32) for column in zip(*ACTIVATION.values(), strict=True))
    return {"floors": floors, "signs": signs / np.float32(DEVIATIONS_TO_SATURATE), "weights": weights}


def arousal() -> onnx.ModelProto:
    """1/2 + 1/2 * sum(weight * tanh(sign * (x - mean) / max(deviation, floor) / 3))."""
    activation = _activation()
    constants: Constants = {
        **activation,
        "weights": activation["weights"] / np.float32(2),
        "middle": np.array([0.5], np.float32),
        "row": np.array([1], np.int64),
    }
    steps = [
        step("Sub", "features mean", "apart"),
        step("Max", "deviation floors", "spread"),
        step("Div", "apart spread", "deviations"),
        step("Mul", "deviations signs", "raised"),
        step("Tanh", "raised", "scores"),
        step("Mul", "scores weights", "weighted"),
        step("ReduceSum", "weighted row", "balance"),
        step("Add", "balance middle", "arousal"),
    ]
    return model("arousal", ("features", "mean", "deviation"), len(ACTIVATION), ("arousal",), constants, steps)


def stress() -> onnx.ModelProto:
    """max(0, activation) * (1 + departure) / 2, both of them against the speaker's baseline."""
    activation = _activation()
    quality = np.array(list(DEPARTURE.values()), np.float32)
    # Eight columns, one of them empty: onnxruntime's tanh works on groups of four numbers; rows of seven would share
    # groups with their neighbours, and get other bits in other company.
    unused = np.zeros(len(quality) + 1, np.float32)
    share = np.array([0.5 / len(quality)] * len(quality) + [0], np.float32)
    constants: Constants = {
        "floors": np.concatenate((activation["floors"], quality)),
        "signs": np.concatenate((activation["signs"], np.full(len(unused), 1 / DEVIATIONS_TO_SATURATE, np.float32))),
        "activating": np.concatenate((activation["weights"], unused)),
        "departing": np.concatenate((np.zeros(len(ACTIVATION), np.float32), share)),
        "padding": np.array([0, 0, 0, 1], np.int64),
        "half": np.array([0.5], np.float32),
        "row": np.array([1], np.int64),
    }
    steps = [
        step("Sub", "features mean", "apart"),
        step("Max", "deviation floors", "spread"),
        step("Div", "apart spread", "unpadded"),
        step("Pad", "unpadded padding", "deviations"),
        step("Mul", "deviations signs", "raised"),
        step("Tanh", "raised", "scores"),
        step("Mul", "scores activating", "activations"),
        step("ReduceSum", "activations row", "activation"),
        step("Relu", "activation", "raised_activation"),
        step("Abs", "scores", "sizes"),
        step("Mul", "sizes departing", "departures"),
        step("ReduceSum", "departures row", "half_departure"),
        step("Add", "half_departure half", "strain"),
        step("Mul", "raised_activation strain", "stress"),
    ]
    width = len(ACTIVATION) + len(DEPARTURE)
    return model("stress", ("features", "mean", "deviation"), width, ("stress",), constants, steps)


def voice_quality() -> onnx.ModelProto:
    """The measures in their units, and how they lie to their limits."""
    outputs = ("jitter", "shimmer", "hnr", "jitter_to_limit", "shimmer_to_limit", "hnr_below_limit")
    constants: Constants = {
        "units": np.array([100, 1, 1], np.float32),
        "limits": np.array([1 / JITTER_LIMIT, 1 / SHIMMER_LIMIT_DB, -1], np.float32),
        "offsets": np.array([0, 0, HNR_LIMIT_DB], np.float32),
    }
    steps = [
        step("Mul", "features units", "measures"),
        step("Mul", "features limits", "scaled"),
        step("Add", "scaled offsets", "to_limits"),
        step("Concat", "measures to_limits", "all", axis=1),
        step("Split", "all", " ".join(outputs), axis=1),
    ]
    return model("voice-quality", ("features",), len(DEPARTURE), outputs, constants, steps)


def emotion() -> onnx.ModelProto:
    """softmax(weights . clip((x - mean) / scale, -4, 4) + bias), a linear classifier."""
    trained = json.loads(EMOTION_WEIGHTS.read_text("utf-8"))
    classes = trained["classes"]
    constants: Constants = {
        name: np.array(trained[name], np.float32) for name in ("mean", "scale", "low", "high", "weights", "bias")
    }
    constants |= {"column": np.array([1], np.int64), "feature": np.array([2], np.int64)}
    steps = [
        step("Sub", "features mean", "apart"),
        step("Div", "apart scale", "deviations"),
        step("Clip", "deviations low high", "bounded"),
        step("Unsqueeze", "bounded column", "columns"),
        step("Mul", "columns weights", "weighted"),
        step("ReduceSum", "weighted feature", "sums", keepdims=0),
        step("Add", "sums bias", "logits"),
        step("Softmax", "logits", "probabilities", axis=1),
        step("Split", "probabilities", " ".join(classes), axis=1),
    ]
    return model("emotion", ("features",), len(trained["mean"]), classes, constants, steps)


BUILDERS = {"arousal": arousal, "stress": stress, "voice-quality": voice_quality, "emotion": emotion}


def content_of(name: str) -> bytes:
    """What model.onnx of a shipped model must hold."""
    return bytes(BUILDERS[name]().SerializeToString(deterministic=True))


def main() -> None:
    """Write model.onnx and the checksum of every model."""
    for name in BUILDERS:
        content = content_of(name)
        (MODELS / name / "model.onnx").write_bytes(content)
        checksum = hashlib.sha256(content).hexdigest()
        manifest = MODELS / name / "model.toml"
        text, count = re.subn(r'(?m)^sha256 = ".*"$', f'sha256 = "{checksum}"', manifest.read_text("utf-8"))
        if count != 1:
            raise SystemExit(f"{manifest} has no line for sha256")
        manifest.write_text(text, "utf-8")
        print(f"{name}: {len(content)} bytes, sha256 {checksum}")


if __name__ == "__main__":
    main()
