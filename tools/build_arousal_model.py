"""Builds processors/models/arousal/model.onnx, and writes its checksum into model.toml.

Run `python tools/build_arousal_model.py`. The method, and where each number comes from: the card beside the model.
"""

import hashlib
import re
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(__file__).parent.parent / "processors/models/arousal"
OPSET, IR_VERSION = 17, 8

# Per feature: does arousal raise (+1) or lower (-1) it, its weight, and the least deviation it is measured by.
# Pitch, loudness and spectral balance count a third each; the balance is told by two features.
FEATURES = {
    "f0_mean": (+1, 2 / 6, 1.5),  # semitones
    "loudness_db": (+1, 2 / 6, 1.0),  # 10 log10 of openSMILE's loudness
    "alpha_ratio_mean": (+1, 1 / 6, 1.5),  # dB
    "hammarberg_mean": (-1, 1 / 6, 1.5),  # dB
}
DEVIATIONS_TO_SATURATE = 3.0


def graph() -> onnx.ModelProto:
    """The formula: 1/2 + 1/2 * sum(weight * tanh(sign * (x - mean) / max(deviation, floor) / 3))."""
    signs, weights, floors = (np.array(column, np.float32) for column in zip(*FEATURES.values(), strict=True))
    constants = {
        "floors": floors,
        "signs": signs / np.float32(DEVIATIONS_TO_SATURATE),
        "weights": weights / np.float32(2),
        "middle": np.array([0.5], np.float32),
        "row": np.array([1], np.int64),
    }
    steps = [
        ("Sub", ["features", "mean"], "apart"),
        ("Max", ["deviation", "floors"], "spread"),
        ("Div", ["apart", "spread"], "deviations"),
        ("Mul", ["deviations", "signs"], "raised"),
        ("Tanh", ["raised"], "scores"),
        ("Mul", ["scores", "weights"], "weighted"),
        ("ReduceSum", ["weighted", "row"], "balance"),
        ("Add", ["balance", "middle"], "arousal"),
    ]
    shape: list[str | int | None] = ["batch", len(FEATURES)]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("features", "mean", "deviation")
    ]
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node(kind, takes, [gives], name=gives) for kind, takes, gives in steps],
            "arousal",
            inputs,
            [helper.make_tensor_value_info("arousal", TensorProto.FLOAT, ["batch", 1])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="callscope",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    """Write both files."""
    content = graph().SerializeToString(deterministic=True)
    (FOLDER / "model.onnx").write_bytes(content)
    checksum = hashlib.sha256(content).hexdigest()
    manifest = FOLDER / "model.toml"
    text, count = re.subn(r'(?m)^sha256 = ".*"$', f'sha256 = "{checksum}"', manifest.read_text("utf-8"))
    if count != 1:
        raise SystemExit(f"{manifest} has no line for sha256")
    manifest.write_text(text, "utf-8")
    print(f"{len(content)} bytes, sha256 {checksum}")


if __name__ == "__main__":
    main()
