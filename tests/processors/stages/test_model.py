from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from callscope.errors import ModelError
from processors.stages.model import SHIPPED, Model, load_models
from tools import build_arousal_model

AROUSAL = Model(SHIPPED / "arousal")
FLOORS = np.array([1.5, 1.0, 1.5, 1.5])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED / "arousal", tmp_path / "mine"))


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "model.toml"
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def put(folder: Path, content: bytes) -> None:
    """Replace model.onnx, and its checksum."""
    old = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    (folder / "model.onnx").write_bytes(content)
    edit(folder, old, hashlib.sha256(content).hexdigest())


def tiny(batch: str | int = "batch", width: int = 4, output: str = "arousal") -> bytes:
    """Mean over the features of `features + mean + deviation`."""
    names = ("features", "mean", "deviation")
    graph = helper.make_graph(
        [
            helper.make_node("Sum", names, ["sum"]),
            helper.make_node("ReduceMean", ["sum"], [output], axes=[1], keepdims=1),
        ],
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, width]) for name in names],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [batch, 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def rows(n: int, seed: int = 0) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 5, (n, 4)).astype(np.float32) for _ in range(2)] + [
        np.abs(rng.normal(0, 3, (n, 4))).astype(np.float32)
    ]


def test_the_shipped_models_load() -> None:
    (model,) = load_models([])
    assert model.manifest.name == "arousal"
    assert model.manifest.policy == "emotion"
    assert model.batches


def test_arousal_is_the_formula_of_its_card() -> None:
    features, mean, deviation = rows(50)
    z = (features - mean) / np.maximum(deviation, FLOORS)
    expected = 0.5 + 0.5 * (np.tanh(z * [1, 1, 1, -1] / 3) @ [2 / 6, 2 / 6, 1 / 6, 1 / 6])
    arousal = AROUSAL.run(features, mean, deviation)
    assert arousal.shape == (50, 1)
    assert arousal[:, 0] == pytest.approx(expected, abs=1e-6)
    assert (arousal >= 0).all()
    assert (arousal <= 1).all()


def test_the_usual_is_in_the_middle_even_for_a_flat_baseline() -> None:
    usual = np.array([[25, -3, -8, 15]], np.float32)
    flat = np.zeros((1, 4), np.float32)
    assert AROUSAL.run(usual, usual, flat) == pytest.approx(0.5)
    slightly_up = usual + np.array([[0.5, 0.3, 0.5, -0.5]], np.float32)
    assert 0.5 < float(AROUSAL.run(slightly_up, usual, flat)[0, 0]) < 0.6


@given(st.integers(1, 70), st.randoms(use_true_random=False))
def test_a_row_has_the_same_bits_in_any_company(n: int, random: object) -> None:
    inputs = rows(70)
    together = AROUSAL.run(*inputs)
    some = list(range(70))
    random.shuffle(some)  # type: ignore[attr-defined]  # hypothesis' Random
    company = AROUSAL.run(*(tensor[some[:n]] for tensor in inputs))
    assert company.tobytes() == together[some[:n]].tobytes()


def test_a_model_that_depends_on_company_runs_row_by_row(folder: Path) -> None:
    """Its output is the row's sum less the batch's mean: 0 for a row alone."""
    names = ("features", "mean", "deviation")
    nodes = [
        helper.make_node("Sum", names, ["sum"]),
        helper.make_node("ReduceMean", ["sum"], ["row"], axes=[1], keepdims=1),
        helper.make_node("ReduceMean", ["row"], ["all"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["row", "all"], ["arousal"]),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in names]
    output = helper.make_tensor_value_info("arousal", TensorProto.FLOAT, ["n", 1])
    model = helper.make_model(
        helper.make_graph(nodes, "company", inputs, [output]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    put(folder, model.SerializeToString())
    loaded = Model(folder)
    assert not loaded.batches
    assert loaded.run(*rows(5)).tolist() == [[0.0]] * 5


def without_manifest(folder: Path) -> None:
    (folder / "model.toml").unlink()


def without_model(folder: Path) -> None:
    (folder / "model.onnx").unlink()


def changed(folder: Path) -> None:
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")


WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "no manifest": (without_manifest, "model.toml cannot be read"),
    "no model": (without_model, "model.onnx cannot be read"),
    "another file": (changed, "not the file that model.toml names: its SHA-256 is"),
    "no TOML": (lambda f: edit(f, "[input]", "[input"), "model.toml cannot be read"),
    "misspelt key": (lambda f: edit(f, "licence", "license"), "licence: Field required; license: Extra inputs"),
    "policy": (lambda f: edit(f, 'policy = "emotion"', 'policy = "never"'), "policy: Input should be"),
    "feature": (lambda f: edit(f, "f0_mean", "f0_median"), r"unknown features \['f0_median'\]; there are"),
    "no baseline": (
        lambda f: edit(f, "[baseline]\nmin_voiced_s = 5.0", ""),
        r"takes \['deviation', 'features', 'mean'\]; by model.toml it should take \['features'\]",
    ),
    "no ONNX": (lambda f: put(f, b"nonsense"), "no model that onnxruntime"),
    "width": (lambda f: put(f, tiny(width=5)), r"should be tensor\(float\) \(n, 4\)"),
    "fixed batch": (lambda f: put(f, tiny(batch=1)), "fixed batch size of 1"),
    "output": (lambda f: put(f, tiny(output="valence")), r"gives no \['arousal'\]"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_folder_is_refused_with_the_reason(folder: Path, what: str) -> None:
    spoil, reason = WRONG[what]
    spoil(folder)
    with pytest.raises(ModelError, match=reason) as refusal:
        Model(folder)
    assert str(folder) in str(refusal.value)


def test_users_add_models_by_their_folders(folder: Path) -> None:
    edit(folder, 'name = "arousal"\nversion', 'name = "mine"\nversion')
    assert [model.manifest.name for model in load_models([folder])] == ["arousal", "mine"]


def test_two_models_of_one_name_are_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="named 'arousal' already"):
        load_models([folder])


def test_the_shipped_file_is_what_the_tool_builds() -> None:
    assert onnx.load(SHIPPED / "arousal/model.onnx") == build_arousal_model.graph()
    assert tuple(build_arousal_model.FEATURES) == AROUSAL.manifest.input.features
