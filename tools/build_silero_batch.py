"""Writes Silero's 16 kHz network so that a batch of streams costs a third: the same weights, other operators.

Run `python tools/build_silero_batch.py` when `silero_vad.onnx` has been replaced, and put the checksums that it prints
into processors/stages/detectors/silero.py. The file from Silero computes spectrum and encoder by convolutions over four
positions, which onnxruntime runs row by row. Here each is one matrix product over all rows of the batch, and what the
network cannot use at 512 samples (the outer taps of the last convolutions, the 8 kHz branch) is left out.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

FOLDER = Path(__file__).parent.parent / "processors" / "models" / "silero-vad"
OPSET = 17
SEEN, WINDOW, STEP, BINS, UNITS = 576, 256, 128, 129, 128
"""Samples of an input row; of the spectrum's window and its step; bins of the spectrum; units of the LSTM."""

_Floats = NDArray[np.float32]


def weights_16k(path: Path) -> dict[str, _Floats]:
    """The weights of the 16 kHz branch of Silero's file, by the names they have in PyTorch."""
    (branch,) = (
        attribute.g
        for node in onnx.load(path).graph.node
        if node.op_type == "If"
        for attribute in node.attribute
        if attribute.name == "then_branch"
    )
    found = {}
    for node in branch.node:
        if node.op_type == "Constant":
            name = node.output[0].split("__Inline_0__")[-1]
            found[name] = numpy_helper.to_array(node.attribute[0].t)
    for tensor in branch.initializer:
        found[tensor.name.split("__Inline_0__")[-1]] = numpy_helper.to_array(tensor)
    return found


class _Graph:
    """Nodes in order, and the constants they use."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, name: str, value: _Floats | NDArray[np.int64]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def ints(self, *values: int) -> str:
        name = "ints" + "".join(f"_{value}" for value in values).replace("-", "m")
        if name not in {constant.name for constant in self.constants}:
            self.constant(name, np.array(values, np.int64))
        return name

    def add(self, operator: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def windows(self, of: str, starts: list[int], length: int, name: str) -> str:
        """Overlapping parts of each row below one another: (n, m) to (n * len(starts), length)."""
        parts = [
            self.add("Slice", [of, self.ints(at), self.ints(at + length), self.ints(1)], f"{name}_{at}")
            for at in starts
        ]
        together = self.add("Concat", parts, f"{name}_wide", axis=1) if len(parts) > 1 else parts[0]
        return self.add("Reshape", [together, self.ints(-1, length)], f"{name}_rows")

    def dense(self, rows: str, weight: _Floats, bias: _Floats, name: str) -> str:
        """max(0, rows @ weight + bias)."""
        inputs = [rows, self.constant(f"{name}_weight", weight), self.constant(f"{name}_bias", bias)]
        return self.add("Relu", [self.add("Gemm", inputs, f"{name}_sum")], f"{name}_out")


def build(weights: dict[str, _Floats]) -> onnx.ModelProto:
    """The network: `input` (n, 576) and `state` (2, n, 128) in, `output` (n, 1) and `stateN` (2, n, 128) out."""

    def taps(layer: int, first: int, end: int) -> tuple[_Floats, _Floats]:
        """A convolution's weight for those of its three taps, as a matrix of (tap and channel in, channel out)."""
        kernel = weights[f"encoder.{layer}.reparam_conv.weight"][:, :, first:end]
        return kernel.transpose(2, 1, 0).reshape(-1, len(kernel)), weights[f"encoder.{layer}.reparam_conv.bias"]

    g = _Graph()
    x = g.add("Pad", ["input", g.ints(0, 0, 0, STEP // 2)], "padded", mode="reflect")
    starts = list(range(0, SEEN + STEP // 2 - WINDOW + 1, STEP))
    x = g.windows(x, starts, WINDOW, "spectrum")
    basis = weights["stft.forward_basis_buffer"][:, 0, :].T
    x = g.add("MatMul", [x, g.constant("basis", basis)], "spectrum_parts")
    g.nodes.append(helper.make_node("Split", [x, g.ints(BINS, BINS)], ["real", "imaginary"], axis=1))
    squares = [g.add("Mul", [part, part], f"{part}_square") for part in ("real", "imaginary")]
    x = g.add("Sqrt", [g.add("Add", squares, "power")], "magnitude")

    x = g.add("Reshape", [x, g.ints(-1, len(starts) * BINS)], "magnitudes")
    x = g.add("Pad", [x, g.ints(0, BINS, 0, BINS)], "magnitudes_padded")
    x = g.windows(x, [t * BINS for t in range(len(starts))], 3 * BINS, "encoder_0")
    x = g.dense(x, *taps(0, 0, 3), "encoder_0")  # four positions
    x = g.add("Reshape", [x, g.ints(-1, len(starts) * UNITS)], "encoder_0_flat")
    x = g.add("Pad", [x, g.ints(0, UNITS, 0, 0)], "encoder_0_padded")
    x = g.windows(x, [0, 2 * UNITS], 3 * UNITS, "encoder_1")
    x = g.dense(x, *taps(1, 0, 3), "encoder_1")  # every second: two
    x = g.add("Reshape", [x, g.ints(-1, UNITS)], "encoder_1_flat")
    x = g.dense(x, *taps(2, 1, 3), "encoder_2")  # every second: one; its first tap sees padding only
    x = g.dense(x, *taps(3, 1, 2), "encoder_3")  # one; both outer taps see padding only

    x = g.add("Unsqueeze", [x, g.ints(0)], "sequence")
    g.nodes.append(helper.make_node("Split", ["state", g.ints(1, 1)], ["hidden", "cell"], axis=0))

    def gates(name: str) -> _Floats:
        """PyTorch's order of gates (input, forget, cell, output) to ONNX's (input, output, forget, cell)."""
        i, f, c, o = np.split(weights[f"decoder.rnn.{name}"], 4)
        return np.concatenate((i, o, f, c))

    recurrence = [
        x,
        g.constant("lstm_input", gates("weight_ih")[None]),
        g.constant("lstm_hidden", gates("weight_hh")[None]),
        g.constant("lstm_bias", np.concatenate((gates("bias_ih"), gates("bias_hh")))[None]),
        "",
        "hidden",
        "cell",
    ]
    g.nodes.append(helper.make_node("LSTM", recurrence, ["", "hiddenN", "cellN"], hidden_size=UNITS))
    g.add("Concat", ["hiddenN", "cellN"], "stateN", axis=0)
    x = g.add("Relu", [g.add("Squeeze", ["hiddenN", g.ints(0)], "hidden_rows")], "hidden_positive")
    last = weights["decoder.decoder.2.weight"][:, :, 0].T
    x = g.add(
        "Gemm", [x, g.constant("last", last), g.constant("last_bias", weights["decoder.decoder.2.bias"])], "logit"
    )
    g.add("Sigmoid", [x], "output")

    def value(name: str, *shape: int | str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        g.nodes,
        "silero_vad_16k_batch",
        [value("input", "n", SEEN), value("state", 2, "n", UNITS)],
        [value("output", "n", 1), value("stateN", 2, "n", UNITS)],
        g.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    return model


if __name__ == "__main__":
    source, target = FOLDER / "silero_vad.onnx", FOLDER / "silero_vad_16k_batch.onnx"
    target.write_bytes(build(weights_16k(source)).SerializeToString(deterministic=True))
    for path in (source, target):
        print(hashlib.sha256(path.read_bytes()).hexdigest(), path.name)
